package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/run"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/terminal"
)

// runCommand is a run of cairn run.
type runCommand struct {
	*Program
	options    run.Options
	envFiles   []string // variables of --env-file
	tty        bool
	pull       string // always, missing or never; "" is never
	registries registryFlags
}

func newRun(p *Program) *cobra.Command {
	r := &runCommand{Program: p}
	var entrypoint string
	c := &cobra.Command{
		Use:   "run [flags] IMAGE [COMMAND [ARG...]]",
		Short: "Run a command in an image",
		Long: `Run runs a command in an image of the store, in the same sandbox as RUN steps, on
the host's network. The default is the command of the image. Changes to the files of
the image are discarded. The exit status is that of the command. Layers that are not
in the store are pulled.

Signals are forwarded to the command. As process 1 it ignores those that it does not
handle. If it is still running a second after Ctrl-C, the next Ctrl-C kills it; ten
seconds after SIGTERM it is killed.`,
		Example: `  cairn run app
  cairn run -e DEBUG=1 -v "$PWD:/src" -w /src golang:1.26 go test ./...
  cairn run --entrypoint /bin/sh app`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("IMAGE is missing: want IMAGE [COMMAND [ARG...]]")
			}
			return checkImageArg(args[0])
		},
		ValidArgsFunction: p.completeImages,
	}
	r.flags(c.Flags(), &entrypoint)
	c.RunE = func(_ *cobra.Command, args []string) error { // without action: the command gets the signals
		p.started = true
		r.options.Image, r.options.Args, r.options.Env = args[0], args[1:], r.environment()
		if r.tty && os.Getenv("TERM") != "" {
			r.options.Env = append([]string{"TERM=" + os.Getenv("TERM")}, r.options.Env...)
		}
		if c.Flags().Changed("entrypoint") {
			r.options.Entrypoint = &entrypoint
		}
		return r.run(c.Context())
	}
	return c
}

func (r *runCommand) flags(f *pflag.FlagSet, entrypoint *string) {
	o := &r.options
	f.SetInterspersed(false)
	repeatedFlag(f, "env", "e", "NAME[=VALUE]", "Set environment variables; without a VALUE, from the environment", func(s string) error {
		name, value, ok, err := option.ParseVariable(s, os.LookupEnv)
		if err == nil && ok {
			o.Env = append(o.Env, name+"="+value)
		}
		return err
	})
	listFlag(f, &o.Volumes, "volume", "v", "HOST:PATH[:ro]", "Bind mount a file or directory of the host", func(s string) (string, error) {
		return s, checkVolume(s)
	})
	f.StringVarP(&o.Dir, "workdir", "w", "", "Working `DIR` inside the image")
	f.StringVarP(&o.User, "user", "u", "", "`USER[:GROUP]`, by name or ID")
	f.StringVar(entrypoint, "entrypoint", "", "Overwrite the default entrypoint of the image with `COMMAND`; \"\" for none")
	platformFlag(f, &o.Platform, "Run the image for this platform (default $DOCKER_DEFAULT_PLATFORM, or this machine's)")
	f.StringVar(&o.Hostname, "hostname", "", "Host `NAME` inside the sandbox (default a random one)")
	cgroupFlags(f, &o.Resources, "the command")
	for _, name := range []string{"cpuset-cpus", "cpuset-mems"} {
		listFlag(f, new([]string), name, "", "X", cpusetReason, func(string) (string, error) { return "", errors.New(cpusetReason) })
		_ = f.MarkHidden(name)
	}
	inputLimitFlag(f, &r.registries.limits)
	r.registries.flags(f)
	f.BoolVarP(&r.tty, "tty", "t", false, "Give the command a terminal of its own, and $TERM, if standard input and output are a terminal")
	r.dockerFlags(f)
}

// checkVolume returns the mistake in HOST:PATH[:ro].
func checkVolume(s string) error {
	parts := strings.Split(s, ":")
	switch {
	case len(parts) < 2 || len(parts) > 3 || parts[0] == "":
		return errors.New("want HOST:PATH or HOST:PATH:ro")
	case !path.IsAbs(parts[1]):
		return fmt.Errorf("%q inside the image is not absolute", parts[1])
	case len(parts) == 3 && (parts[2] == "z" || parts[2] == "Z"):
		return fmt.Errorf("option %q: there are no labels of SELinux to change here: leave it out", parts[2])
	case len(parts) == 3 && parts[2] != "ro" && parts[2] != "rw":
		return fmt.Errorf("option %q: want ro or rw", parts[2])
	}
	_, err := os.Stat(parts[0])
	return err
}

// run runs the command and forwards signals to it.
func (r *runCommand) run(ctx context.Context) error {
	o := &r.options
	if err := o.Resources.Check(); err != nil {
		return &UsageError{err}
	}
	if err := errors.Join(checkContentTrust(), setDefaultPlatform(&o.Platform)); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o.Stdin, o.Stdout, o.Stderr = r.Stdin, r.Stdout, r.Stderr
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(signals)
	over := make(chan struct{})
	defer close(over)
	forwarded := forwardSignals(signals, over, r.Stderr, cancel)
	o.Signals = forwarded
	var status int
	err := r.withRegistries(r.registries, progress.None, func(env *environment) (err error) {
		if err := r.pullImage(ctx, env); err != nil {
			return cause(ctx, err)
		}
		env.Isolation = env.Isolation.Chosen()
		t := terminal.Options{In: r.Stdin, Kill: func() { cancel(&SignalError{unix.SIGINT}) }}
		if env.Isolation.Mode == sandbox.Gvisor {
			t.Signals = forwarded
		}
		end, err := r.openTerminal(t)
		if err != nil {
			return err
		}
		status, err = (&run.Runner{Images: env.Manager}).Run(ctx, *o)
		return errors.Join(cause(ctx, err), end())
	})
	if code := startFailure(err); code != 0 {
		fmt.Fprintln(r.Stderr, "error:", err)
		err = &StatusError{code}
	}
	if err == nil && status != 0 {
		err = &StatusError{status}
	}
	return err
}

// pullImage pulls the image as --pull says.
func (r *runCommand) pullImage(ctx context.Context, env *environment) error {
	switch r.pull {
	case "always":
	case "missing":
		if _, err := env.Lookup(r.options.Image); !errors.Is(err, images.ErrNotStored) {
			return nil // Run reports other errors
		}
	default:
		return nil
	}
	_, _, err := env.Pull(ctx, r.options.Image, r.options.Platform)
	return err
}

// openTerminal gives the command a terminal of its own with --tty. The returned function
// restores the caller's.
func (r *runCommand) openTerminal(o terminal.Options) (end func() error, err error) {
	out, ok := r.Stdout.(*os.File)
	if !r.tty || !ok || !isTerminal(out) || !term.IsTerminal(int(r.Stdin.Fd())) {
		return func() error { return nil }, nil
	}
	o.Out = out
	t, err := terminal.Open(o)
	if err != nil {
		return nil, err
	}
	r.options.Terminal = t
	return t.Close, nil
}

// startFailure returns the exit status that shells and Docker use for a command that
// can't be started: 127 if it does not exist, 126 if it can't be executed. It returns
// 0 for other errors.
func startFailure(err error) int {
	switch {
	case err == nil || !strings.HasPrefix(err.Error(), "exec"):
		return 0
	case errors.Is(err, fs.ErrNotExist):
		return 127
	}
	return 126
}

const (
	answerTime = time.Second      // a command that runs so long after SIGINT is said to
	graceTime  = 10 * time.Second // a command that runs so long after SIGTERM is killed
)

// forwardSignals forwards signals to the command until over is closed. It cancels, which
// kills the command, at a SIGINT after it has said that the command is still running, and
// some time after a SIGTERM.
func forwardSignals(in <-chan os.Signal, over <-chan struct{}, w io.Writer, cancel context.CancelCauseFunc) chan os.Signal {
	out := make(chan os.Signal, cap(in))
	go func() {
		var unanswered, grace <-chan time.Time
		asked := false
		for {
			select {
			case <-over:
				return
			case <-unanswered:
				unanswered, asked = nil, true
				fmt.Fprintln(w, "cairn: still running; press Ctrl-C again to kill it")
			case <-grace:
				grace = nil
				fmt.Fprintf(w, "cairn: killing the command, which runs %d seconds after SIGTERM\n", int(graceTime.Seconds()))
				cancel(&SignalError{unix.SIGTERM})
			case s := <-in:
				switch {
				case s == unix.SIGINT && asked:
					cancel(&SignalError{unix.SIGINT})
				case s == unix.SIGINT && unanswered == nil:
					unanswered = time.After(answerTime)
				case s == unix.SIGTERM && grace == nil:
					grace = time.After(graceTime)
				}
				select {
				case out <- s:
				default: // the buffer is full: drop it
				}
			}
		}
	}()
	return out
}
