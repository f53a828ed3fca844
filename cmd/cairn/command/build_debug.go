package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/debug"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer/store"
)

// debugFlags are the flags that open a shell in a step.
type debugFlags struct {
	onError bool
	breaks  []builder.Break
	program string
	image   string
	keep    bool
	keeper  *debug.Keeper // nil: nothing is kept
}

func (d *debugFlags) flags(f *pflag.FlagSet) {
	f.BoolVar(&d.onError, "shell-on-error", false, "Open a shell in a RUN that failed (needs a terminal): exit 0 tries the step again, another status fails; see: cairn help debugging")
	listFlag(f, &d.breaks, "break", "", "[STAGE:]LINE", "Open a shell before the instruction at a line of the Dockerfile, in the tree that it starts from; also FILE:LINE (needs a terminal)", parseBreak)
	d.shellFlags(f)
	f.BoolVar(&d.keep, "keep-failed", false, "Keep the tree of a RUN that failed for a day, for cairn debug")
}

// shellFlags adds the flags for the choice of the shell.
func (d *debugFlags) shellFlags(f *pflag.FlagSet) {
	parsedFlag(f, "shell", "", "PROGRAM", "Shell to open (default: that of the RUN, /bin/bash or /bin/sh)", func(s string) error {
		if s == "" {
			return errors.New("want a program of the image, such as /bin/zsh")
		}
		d.program = s
		return nil
	})
	f.StringVar(&d.image, "shell-image", "", "`IMAGE` with static programs for the shell, such as busybox:uclibc, in /run/cairn/tools: for images without a shell")
}

// wanted reports whether a flag asks for a shell.
func (d *debugFlags) wanted() bool { return d.onError || len(d.breaks) > 0 }

// name returns the flag that asks for a shell.
func (d *debugFlags) name() string {
	if d.onError {
		return "--shell-on-error"
	}
	return "--break"
}

// parseBreak parses [STAGE:]LINE or FILE:LINE.
func parseBreak(s string) (at builder.Break, err error) {
	line := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		at.In, line = s[:i], s[i+1:]
		if at.In == "" {
			return at, errors.New("want LINE, STAGE:LINE or FILE:LINE")
		}
	}
	if at.Line, err = strconv.Atoi(line); err != nil || at.Line < 1 {
		return at, errors.New("want LINE, STAGE:LINE or FILE:LINE, such as test:12")
	}
	return at, nil
}

// check returns an error if no shell can be opened.
func (d *debugFlags) check(p *Program, call string) error {
	switch {
	case d.keep && d.wanted():
		return usagef("--keep-failed and %s exclude each other: the shell changes the tree", d.name())
	case !d.wanted() && (d.program != "" || d.image != ""):
		return usagef("--shell and --shell-image are for --shell-on-error and --break: add one of them")
	case d.wanted() && call != "":
		return usagef("%s: --call and --check run no steps: leave one of them out", d.name())
	case d.wanted() && !hasTerminal(p):
		return usagef("%s needs a terminal as standard input and standard error: --keep-failed keeps the tree for cairn debug", d.name())
	}
	return nil
}

// open returns the debugger of a build, nil if no flag asks for one. goesOn says that the
// build goes on after a failed step.
func (d *debugFlags) open(ctx context.Context, p *Program, env *environment, goesOn bool) (worker.Debugger, error) {
	if d.keep {
		d.keeper = &debug.Keeper{Store: env.Store, Progress: env.Progress}
		return d.keeper, env.Store.ExpireFailed(time.Now(), false)
	}
	if !d.wanted() {
		return nil, nil
	}
	o, err := d.options(ctx, p, env)
	if err != nil {
		return nil, err
	}
	o.OnError, o.GoesOn = d.onError, goesOn
	return debug.New(o), nil
}

// options returns the options of shells.
func (d *debugFlags) options(ctx context.Context, p *Program, env *environment) (debug.Options, error) {
	env.Isolation = env.Isolation.Chosen()
	out, _ := p.Stderr.(*os.File)
	o := debug.Options{
		Progress: env.Progress, In: p.Stdin, Out: out, Color: os.Getenv("NO_COLOR") == "",
		Mode: env.Isolation.Mode, Program: d.program,
	}
	if d.image != "" {
		tools, err := env.OpenTools(ctx, d.image)
		if err != nil {
			return o, err
		}
		o.Tools = tools.Mount
	}
	return o, nil
}

// hasTerminal reports whether a shell can be opened.
func hasTerminal(p *Program) bool { return isTerminal(p.Stderr) && term.IsTerminal(int(p.Stdin.Fd())) }

// tell prints the failed steps that were kept.
func (d *debugFlags) tell(p *Program) {
	if d.keeper == nil {
		return
	}
	for _, id := range d.keeper.IDs() {
		fmt.Fprintf(p.Stderr, "kept the failed step as %s for %d hours: cairn debug %[1]s opens a shell in it\n", id, int(store.FailedAge.Hours()))
	}
}

// suggest adds the flags to the error of a command that failed, on a terminal and unless
// there is another hint.
func (d *debugFlags) suggest(p *Program, err error) {
	var step *builder.StepError
	if !d.wanted() && !d.keep && isTerminal(p.Stderr) && errors.As(err, &step) && step.Hint == "" && errors.As(err, new(*worker.ExitError)) {
		step.Hint = "look into it with --shell-on-error, or keep it with --keep-failed (cairn help debugging)"
	}
}
