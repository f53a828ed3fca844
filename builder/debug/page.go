package debug

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/progress/termtext"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/worker"
)

const (
	red   = "\x1b[1;31m"
	bold  = "\x1b[1m"
	reset = "\x1b[0m"
)

// describe returns a text about a halt: its place, the mounts of the shell, and how to leave.
func (s *Shells) describe(ctx context.Context, h *worker.Halt) string {
	var b strings.Builder
	for _, line := range h.Tail {
		fmt.Fprintf(&b, "  | %s\n", termtext.Rendered(line))
	}
	b.WriteString(s.headline(h) + "\n")
	line := func(format string, args ...any) { fmt.Fprintf(&b, "    "+format+"\n", args...) }
	line("%s", s.fit(clean(instruction(h.Place.Text))))
	if h.Err != nil && !isExit(h.Err) {
		line("%s", clean(h.Err.Error()))
	}
	line("%s", clean(surroundings(h)))
	if h.Err != nil {
		line("%s", s.changed(ctx, h))
	}
	for i, name := range h.Files {
		if i == 0 {
			line("files to copy:")
		}
		line("  %s", clean(name))
	}
	if h.More > 0 {
		line("  and %d more", h.More)
	}
	for _, note := range s.notes(h) {
		line("%s", note)
	}
	var ways []string
	if len(h.Spec.Args) > 0 {
		word := "run it here: "
		if h.Err != nil {
			word = "again: "
		}
		ways = append(ways, word+Helper)
	}
	if h.Err != nil {
		ways = append(ways, "leave and try again: exit 0", "leave and fail: exit 1")
	} else {
		ways = append(ways, "leave and go on: exit 0", "leave and end the build: exit 1")
	}
	line("%s", strings.Join(ways, "      "))
	return b.String()
}

func (s *Shells) paint(color, text string) string {
	if !s.Color {
		return text
	}
	return color + text + reset
}

// fit cuts a long line.
func (s *Shells) fit(text string) string {
	columns := 80
	if size, err := unix.IoctlGetWinsize(int(s.Out.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		columns = int(size.Col)
	}
	return termtext.Fit(text, max(columns-5, 20))
}

// headline names the place and the reason of a halt.
func (s *Shells) headline(h *worker.Halt) string {
	place := fmt.Sprintf("%s:%d", h.Place.File, h.Place.Line)
	if details := position(h.Place); details != "" {
		place += " (" + details + ")"
	}
	place = clean(place)
	switch {
	case h.Err != nil:
		return s.paint(red, place+" "+outcome(h))
	case h.Cached:
		return s.paint(bold, place+" is cached: this is its result (--no-cache-filter runs the stage)")
	}
	return s.paint(bold, place+" is about to run: this is the tree before it")
}

// position returns the stage and the number of a step, as in "stage build, step 7/9".
func position(p worker.Place) string {
	var parts []string
	if p.Stage != "" {
		parts = append(parts, "stage "+p.Stage)
	}
	inside, _, ok := strings.Cut(strings.TrimPrefix(p.Text, "["), "] ")
	if fields := strings.Fields(inside); ok && len(fields) > 0 && strings.HasPrefix(p.Text, "[") {
		parts = append(parts, "step "+fields[len(fields)-1])
		if len(fields) > 1 && strings.Contains(fields[0], "/") {
			parts = append(parts, fields[0])
		}
	}
	return strings.Join(parts, ", ")
}

// instruction returns the name of a step without its number.
func instruction(text string) string {
	if _, rest, ok := strings.Cut(text, "] "); ok && strings.HasPrefix(text, "[") {
		return rest
	}
	return text
}

func isExit(err error) bool {
	return errors.As(err, new(*worker.ExitError)) || errors.As(err, new(*worker.TimeoutError))
}

// outcome returns how a step has failed.
func outcome(h *worker.Halt) string {
	var exit *worker.ExitError
	var timeout *worker.TimeoutError
	took := h.Took.Round(time.Second)
	if h.Took < 10*time.Second {
		took = h.Took.Round(100 * time.Millisecond)
	}
	switch {
	case errors.As(h.Err, &timeout):
		return fmt.Sprintf("was killed after %v (--step-timeout)", timeout.Limit)
	case errors.As(h.Err, &exit):
		how := fmt.Sprintf("ended with status %d after %v", exit.Code, took)
		if exit.Signal != "" {
			how = fmt.Sprintf("was ended by %s after %v", exit.Signal, took)
		}
		if exit.Why != "" {
			how += ": " + clean(exit.Why)
		}
		return how
	}
	return "could not be run"
}

// surroundings returns the user, directory, network and mounts of a step.
func surroundings(h *worker.Halt) string {
	r := h.Run
	user := r.User
	if user == "" {
		user = "root"
	}
	network := r.Network
	if network == "" {
		network = "default"
	}
	text := fmt.Sprintf("user %s   directory %s   network %s", user, path.Clean("/"+r.Dir), network)
	if len(r.Groups) > 0 {
		text += "   groups " + strings.Join(r.Groups, ",")
	}
	var mounts []string
	if h.Run.Args != nil {
		for _, m := range r.Mounts {
			mounts = append(mounts, mountText(m))
		}
	}
	if len(mounts) > 0 {
		text += "   mounts: " + strings.Join(mounts, ", ")
	}
	return text
}

func mountText(m op.Mount) string {
	switch m.Type {
	case "secret":
		text := "secret " + m.ID
		if m.Env != "" {
			text += " ($" + m.Env + ")"
		}
		return text
	case "ssh":
		return "ssh " + m.ID
	case "tmpfs":
		return "tmpfs " + m.Target + " (new and empty)"
	}
	return m.Type + " " + m.Target
}

// changed summarizes the changes of a step.
func (s *Shells) changed(ctx context.Context, h *worker.Halt) string {
	g, err := h.Root.Glance(ctx, h.Result, time.Now().Add(-h.Took))
	if err != nil {
		return "changed by it: not known: " + clean(err.Error())
	}
	if g.Files == 0 {
		return "changed by it: no files"
	}
	noun := "files"
	if g.Files == 1 {
		noun = "file"
	}
	text := fmt.Sprintf("changed by it: %d %s, %s   last: %s", g.Files, noun, units.HumanSize(float64(g.Bytes)), clean(strings.Join(g.Last, ", ")))
	return s.fit(text)
}

// notes returns differences between the shell and the step.
func (s *Shells) notes(h *worker.Halt) (all []string) {
	if s.Mode == sandbox.Chroot {
		all = append(all, "other RUNs of this build wait: in the isolation mode chroot one command runs at a time")
	}
	return all
}

// clean makes a text of the build safe to print on one line.
func clean(text string) string { return termtext.Line(source.Redact(text)) }
