package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/registry"
)

func (a *app) run() *cobra.Command {
	var o builder.RunOptions
	var r registries
	var entrypoint string
	var ignored bool
	c := &cobra.Command{
		Use:   "run [flags] IMAGE [COMMAND [ARG...]]",
		Short: "Run a command in an image",
		Long: `Run runs a command in an image of the store, in the sandbox that RUN steps have,
on the host's network. Without a command it is the image's own. What it changes
in the image is thrown away. The exit status is that of the command. Layers that
no build has needed yet are pulled.`,
		Example: `  cairn run app
  cairn run -e DEBUG=1 -v "$PWD:/src" -w /src golang:1.26 go test ./...
  cairn run --entrypoint /bin/sh app`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("IMAGE is missing: want IMAGE [COMMAND [ARG...]]")
			}
			return nil
		},
		ValidArgsFunction: a.completeImages,
	}
	f := c.Flags()
	f.SetInterspersed(false)
	eachVar(f, "env", "e", "NAME[=VALUE]", "set a variable; without a value, to that of the environment", func(s string) error {
		name, _, ok := strings.Cut(s, "=")
		if name == "" {
			return fmt.Errorf("want NAME=VALUE or NAME")
		}
		if !ok {
			value, set := os.LookupEnv(name)
			if !set {
				return nil
			}
			s += "=" + value
		}
		o.Env = append(o.Env, s)
		return nil
	})
	eachVar(f, "volume", "v", "HOST:PATH[:ro]", "show a file or directory of the host inside", func(s string) error {
		o.Volumes = append(o.Volumes, s)
		return checkVolume(s)
	})
	f.StringVarP(&o.Dir, "workdir", "w", "", "work in `DIR`, not the image's")
	f.StringVarP(&o.User, "user", "u", "", "run as `USER[:GROUP]`, not the image's")
	f.StringVar(&entrypoint, "entrypoint", "", "`COMMAND` in place of the image's entrypoint; \"\" for none")
	f.StringVar(&o.Hostname, "hostname", "", "`NAME` of the host inside")
	cgroupFlags(f, &o.Limits, "the command")
	boundFlag(f, &r.limits)
	r.flags(f)
	f.BoolVarP(&ignored, "interactive", "i", false, "for docker's users: standard input is always connected")
	f.BoolVarP(&ignored, "tty", "t", false, "for docker's users: a terminal is always passed on")
	f.BoolVar(&ignored, "rm", false, "for docker's users: nothing is ever left")
	c.RunE = func(_ *cobra.Command, args []string) error {
		a.started = true
		o.Image, o.Args = args[0], args[1:]
		if f.Changed("entrypoint") {
			o.Entrypoint = &entrypoint
		}
		return a.runImage(c.Context(), r, o)
	}
	return c
}

// checkVolume finds what is wrong with HOST:PATH[:ro].
func checkVolume(s string) error {
	parts := strings.Split(s, ":")
	switch {
	case len(parts) < 2 || len(parts) > 3 || parts[0] == "":
		return errors.New("want HOST:PATH or HOST:PATH:ro")
	case !path.IsAbs(parts[1]):
		return fmt.Errorf("%q inside the image is not absolute", parts[1])
	case len(parts) == 3 && parts[2] != "ro" && parts[2] != "rw":
		return fmt.Errorf("option %q: want ro or rw", parts[2])
	}
	_, err := os.Stat(parts[0])
	return err
}

// runImage runs the command. Signals are the command's: it is sent those that
// cairn gets. Three in two seconds end it, whatever it does with them.
func (a *app) runImage(ctx context.Context, r registries, o builder.RunOptions) error {
	if _, err := registry.Normalize(o.Image); err != nil && !isID(o.Image) {
		return usagef("%w", err)
	}
	if err := o.Limits.Check(); err != nil {
		return usagef("%w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o.Stdin, o.Stdout, o.Stderr = a.stdin, a.stdout, a.stderr
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(signals)
	o.Signals = impatient(signals, cancel)
	var status int
	err := a.online(r, progress.None, func(b *builder.Builder) (err error) {
		status, err = b.Run(ctx, o)
		return cause(ctx, err)
	})
	if code := unstartable(err); code != 0 {
		fmt.Fprintln(a.stderr, "error:", err)
		err = &exitStatus{code}
	}
	if err == nil && status != 0 {
		err = &exitStatus{status}
	}
	return err
}

// unstartable is the status that shells and docker give for a command that can't
// be started: 127 when there is none, 126 when it can't be executed; else 0.
func unstartable(err error) int {
	switch {
	case err == nil || !strings.HasPrefix(err.Error(), "exec"):
		return 0
	case errors.Is(err, fs.ErrNotExist):
		return 127
	}
	return 126
}

// impatient passes signals on, and cancels at the third SIGINT or SIGTERM in two
// seconds.
func impatient(in <-chan os.Signal, cancel context.CancelCauseFunc) <-chan os.Signal {
	out := make(chan os.Signal, cap(in))
	go func() {
		var last [2]time.Time
		for s := range in {
			if s == unix.SIGINT || s == unix.SIGTERM {
				now := time.Now()
				if now.Sub(last[0]) < 2*time.Second {
					cancel(&interrupted{s.(unix.Signal)})
				}
				last[0], last[1] = last[1], now
			}
			select {
			case out <- s:
			default: // the command has enough of them
			}
		}
	}()
	return out
}

// isID tells whether a word may be the beginning of an image's ID.
func isID(s string) bool {
	s = strings.TrimPrefix(s, "sha256:")
	return len(s) >= 6 && strings.Trim(s, "0123456789abcdef") == ""
}
