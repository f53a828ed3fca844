package debug

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/terminal"
	"github.com/cairn-build/cairn/builder/worker"
)

// Helper is the name of the program that runs the command of the step again.
const Helper = "cairn-step"

// shell opens a shell at a halt, after it has printed a text. It returns the status of
// the shell.
func (s *Shells) shell(ctx context.Context, h *worker.Halt, text string) (status int, err error) {
	spec := h.Spec
	if h.Err != nil {
		if err := h.Root.Reopen(ctx, h.Result, &spec); err != nil {
			return 0, err
		}
	}
	place := directory(h)
	spec.Mounts = slices.Clone(spec.Mounts)
	if s.Tools != nil {
		m, release, err := s.Tools(ctx)
		if err != nil {
			return 0, fmt.Errorf("--shell-image: %w", err)
		}
		defer release()
		m.Target = place + "/tools"
		spec.Mounts = append(spec.Mounts, m)
	}
	if err := h.Root.Attach(&spec); err != nil {
		return 0, err
	}
	candidates := [][]string{{s.Program}}
	if s.Program == "" {
		candidates = programs(h.Run.Args, place, s.Tools != nil)
	}
	mounts := len(spec.Mounts)
	for _, args := range candidates {
		spec.Args, spec.Mounts = args, spec.Mounts[:mounts]
		equip(&spec, place, h.Spec, s.Tools != nil)
		if s.Program == "" {
			// Without input and arguments a shell ends at once.
			_, err := tryRun(h, spec, func(spec sandbox.Spec) (sandbox.Result, error) { return sandbox.Run(ctx, spec) })
			if isMissing(err) && ctx.Err() == nil {
				continue
			}
			if err != nil {
				return 0, err
			}
		}
		if _, err := s.Out.WriteString(text); err != nil {
			return 0, err
		}
		status, err := tryRun(h, spec, func(spec sandbox.Spec) (sandbox.Result, error) { return s.run(ctx, spec) })
		if isMissing(err) && ctx.Err() == nil {
			err = fmt.Errorf("--shell %s: %w", args[0], err)
		}
		return status, err
	}
	return 0, errNoShell
}

// tryRun runs a shell and notes the changes that it leaves in the tree.
func tryRun(h *worker.Halt, spec sandbox.Spec, run func(sandbox.Spec) (sandbox.Result, error)) (status int, err error) {
	if err := h.Root.Renew(&spec); err != nil {
		return 0, err
	}
	res, err := run(spec)
	if err != nil {
		return 0, err
	}
	h.Result.Touched = append(h.Result.Touched, res.Touched...)
	h.Result.Changes = res.Changes
	return res.ExitCode, nil
}

// isMissing reports whether a program is not there or cannot be executed.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}

// run runs a shell on a terminal of its own.
func (s *Shells) run(ctx context.Context, spec sandbox.Spec) (res sandbox.Result, err error) {
	o := terminal.Options{In: s.In, Out: s.Out}
	if s.Mode == sandbox.Gvisor {
		signals := make(chan os.Signal, 64)
		o.Signals, spec.Signals = signals, signals
	}
	t, err := terminal.Open(o)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	spec.Terminal, spec.Interactive = t.File(), true
	return sandbox.Run(ctx, spec)
}

// directory returns the directory in the tree for files of Cairn: one in which no mount of
// the command would get them, and which the command has not removed.
func directory(h *worker.Halt) string {
	const usual, other = "/run/cairn", "/.cairn"
	for _, m := range h.Spec.Mounts {
		if target := path.Clean("/" + m.Target); target == "/run" || target == usual {
			return other
		}
	}
	if h.Root.Hides(usual) {
		return other
	}
	return usual
}

// programs returns the shells to try in a step with the given arguments. The tools are
// below the place.
func programs(args []string, place string, tools bool) (all [][]string) {
	if len(args) > 2 && isShell(args[0]) && args[0] != "/bin/sh" {
		all = append(all, args[:1])
	}
	if len(args) > 3 && path.Base(args[0]) == "busybox" && isShell(args[1]) {
		all = append(all, args[:2])
	}
	all = append(all, []string{"/bin/bash"}, []string{"/bin/sh"})
	if tools {
		for _, name := range []string{"/bin/sh", "/busybox/sh"} {
			all = append(all, []string{place + "/tools" + name})
		}
		all = append(all, []string{place + "/tools/bin/busybox", "sh"})
	}
	return all
}

var (
	posixShells = []string{"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"}
	otherShells = []string{"fish", "pwsh", "powershell", "nu", "csh", "tcsh"}
)

func isShell(name string) bool {
	return slices.Contains(posixShells, path.Base(name)) || slices.Contains(otherShells, path.Base(name))
}

// equip prepares the spec of a shell: it adds the helper, which runs the command of the
// step again, and the variables of a terminal.
func equip(spec *sandbox.Spec, place string, step sandbox.Spec, tools bool) {
	more := ":" + place + "/bin"
	if tools {
		for _, dir := range []string{"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/busybox"} {
			more += ":" + place + "/tools" + dir
		}
	}
	env := []string{}
	has := map[string]bool{}
	for _, kv := range step.Env {
		name, value, _ := strings.Cut(kv, "=")
		has[name] = true
		if name == "PATH" {
			kv = "PATH=" + value + more
		}
		env = append(env, kv)
	}
	if term := os.Getenv("TERM"); term != "" && !has["TERM"] {
		env = append(env, "TERM="+term)
	}
	prompt := !has["PS1"]
	if prompt {
		sign := "$"
		if name, _, _ := strings.Cut(step.User, ":"); name == "" || name == "0" || name == "root" {
			sign = "#"
		}
		env = append(env, "PS1=$PWD "+sign+" ")
	}
	spec.Env = env
	interpreter := "/bin/sh"
	if a := spec.Args; path.IsAbs(a[0]) && (len(a) == 1 && slices.Contains(posixShells, path.Base(a[0])) || len(a) == 2) {
		interpreter = strings.Join(a, " ")
	}
	if len(step.Args) > 0 {
		spec.Mounts = append(spec.Mounts, sandbox.Mount{
			Type: "file", Target: place + "/bin/" + Helper, ReadOnly: true, Mode: 0o755,
			Data: again(interpreter, step.Dir, step.Args, more, prompt),
		})
	}
}

// again returns the text of the helper.
func again(interpreter, dir string, args []string, more string, prompt bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#!%s\n# Runs the command of the step again.\n", interpreter)
	if dir == "" {
		dir = "/"
	}
	fmt.Fprintf(&b, "cd %s || exit\nPATH=${PATH%%%s}\nexport PATH\n", quote(dir), quote(more))
	if prompt {
		b.WriteString("unset PS1\n")
	}
	b.WriteString("exec")
	for _, a := range args {
		b.WriteString(" " + quote(a))
	}
	b.WriteString(" </dev/null\n")
	return b.String()
}

// quote returns a word of a shell that stands for a text.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
