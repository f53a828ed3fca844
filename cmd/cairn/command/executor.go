package command

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/cmd/cairn/kaniko"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/auth/native"
	"github.com/cairn-build/cairn/registry/transport"
)

// Arguments returns the arguments of cairn for a command line with the name of the program.
// A program called executor or warmer is cairn executor or cairn warmer; with the name of
// another command as its first argument, executor is that command, so that an image has one
// entry point for both. A program called docker-credential-NAME is a credential helper.
func Arguments(line []string) []string {
	if len(line) == 0 {
		return nil
	}
	args := line[1:]
	name := filepath.Base(line[0])
	if helper, ok := strings.CutPrefix(name, helperPrefix); ok {
		return append([]string{helperCommand, helper}, args...)
	}
	if name != "executor" && name != "warmer" {
		return args
	}
	if len(args) > 0 && name == "executor" && args[0] != "" && args[0][0] != '-' {
		pushes := func(s string) bool {
			return strings.HasPrefix(s, "-d") || strings.HasPrefix(s, "--destination") || s == "-h" || s == "--help"
		}
		if args[0] != "push" || !slices.ContainsFunc(args, pushes) {
			return args
		}
	}
	return append([]string{name}, args...)
}

// UsageStatus returns the exit status of a command for an invalid command line.
func UsageStatus(path string) int {
	if strings.HasPrefix(path, "cairn executor") || path == "cairn warmer" {
		return ExitFailed // as with kaniko
	}
	return ExitUsage
}

func newExecutor(p *Program) *cobra.Command {
	o := kaniko.NewOptions()
	c := &cobra.Command{
		Use:   "executor [flags]",
		Short: "Build an image as the kaniko executor does",
		Long: `Executor has the flags, variables, credentials, files and exit statuses of the kaniko
executor, in both of its maintained forks. A program called executor, as a link to cairn,
is this command. It builds as cairn build does: without a daemon, and in the isolation
mode that the pod allows.

The exit status is that of the command if a RUN failed, and 1 after other errors.

The commands executor login and executor version are those of cairn.`,
		Example: `  executor --context dir:///workspace --destination registry.example/me/app:1
  executor --context git://git.example/me/app#refs/heads/main --destination registry.example/me/app:1 --cache=true
  executor --context tar://stdin --no-push --tar-path app.tar < context.tar.gz`,
		Args: exactArgs(),
	}
	c.RunE = p.action(func(ctx context.Context, _ []string) error {
		return p.asKaniko(o, func() error { return p.execute(ctx, o) })
	})
	kanikoFlags(c.Flags(), o, kaniko.ExecutorFlags())
	c.AddCommand(newExecutorPush(p))
	for _, sub := range []*cobra.Command{newLogin(p), newVersion(p)} {
		sub.Hidden = true
		c.AddCommand(sub)
	}
	return c
}

func newWarmer(p *Program) *cobra.Command {
	o := kaniko.NewOptions()
	c := &cobra.Command{
		Use:   "warmer [flags]",
		Short: "Fetch base images as the kaniko warmer does",
		Long: `Warmer fetches images, or the base images of a Dockerfile, into a directory, from which
cairn executor reads them. The directory may be on a volume that executors mount
read-only. A program called warmer, as a link to cairn, is this command.`,
		Example: `  warmer --cache-dir /cache --image debian:12 --image golang:1.26
  warmer --cache-dir /cache --dockerfile /workspace/Dockerfile --build-arg VERSION=12`,
		Args: exactArgs(),
	}
	c.RunE = p.action(func(ctx context.Context, _ []string) error {
		return p.asKaniko(o, func() error { return p.warm(ctx, o) })
	})
	kanikoFlags(c.Flags(), o, kaniko.WarmerFlags())
	return c
}

// kanikoFlags adds flags that set the options.
func kanikoFlags(set *pflag.FlagSet, o *kaniko.Options, flags []kaniko.Flag) {
	for _, f := range flags {
		apply := func(s string) error { return f.Set(o, s) }
		value := &parsedValue{kind: f.Kind, set: apply, text: f.Default}
		var v pflag.Value = value
		if f.Repeated {
			v = &repeatedValue{*value}
		}
		if f.Kind == "" {
			value.kind = "bool"
		}
		for _, name := range []string{f.Name, f.Old} {
			if name == "" {
				continue
			}
			short := f.Short
			if name == f.Old {
				short = ""
			}
			flag := set.VarPF(v, name, short, f.Usage)
			flag.Hidden = f.Hidden || name == f.Old
			if f.Kind == "" {
				flag.NoOptDefVal = "true"
			}
		}
	}
}

// kanikoStatus reports an error and returns the one that sets kaniko's exit status.
func kanikoStatus(p *Program, err error) error {
	if err == nil || errors.As(err, new(*SignalError)) || errors.As(err, new(*StatusError)) {
		return err
	}
	Report(p.Stderr, err)
	return &StatusError{kaniko.ExitStatus(err)}
}

// execute builds the image.
func (p *Program) execute(ctx context.Context, o *kaniko.Options) error {
	began := time.Now()
	plan, err := o.Plan(os.LookupEnv)
	if err != nil {
		return err
	}
	mode := p.useKaniko(plan)
	built, err := runKaniko(p, ctx, plan, mode, func(env *environment, e *kaniko.Executor) (*builder.Built, error) {
		return e.Run(ctx, plan)
	})
	if built == nil || mode == progress.Quiet || mode == progress.RawJSON {
		return err
	}
	printLintWarnings(p.Stderr, built.Warnings)
	if err == nil && !plan.DryRun {
		built.Tags = nil
		fmt.Fprintln(p.Stderr, summary(built, time.Since(began)))
		printBuilt(p.Stderr, built)
	}
	return err
}

// warm fetches the images of the warmer.
func (p *Program) warm(ctx context.Context, o *kaniko.Options) error {
	plan, err := o.WarmPlan(os.LookupEnv)
	if err != nil {
		return err
	}
	mode := p.useKaniko(plan.Plan)
	lines, err := runKaniko(p, ctx, plan.Plan, mode, func(env *environment, e *kaniko.Executor) ([]string, error) {
		env.Progress.Title("Warming")
		return e.Warm(ctx, plan)
	})
	for _, line := range lines {
		fmt.Fprintln(p.Stdout, line)
	}
	return err
}

// useKaniko applies the settings of a plan to the program, and returns the display.
func (p *Program) useKaniko(plan *kaniko.Plan) progress.Mode {
	if plan.Dir != "" && plan.Dir != kaniko.Dir {
		os.Setenv("DOCKER_CONFIG", filepath.Join(plan.Dir, ".docker"))
		if p.root == "" {
			p.root = filepath.Join(plan.Dir, "cairn")
		}
	} else if _, err := os.Stat(kaniko.Dir + "/.docker/config.json"); err == nil && os.Getenv("DOCKER_CONFIG") == "" {
		os.Setenv("DOCKER_CONFIG", kaniko.Dir+"/.docker")
	}
	p.chooseRoot(plan.Dir)
	mode := plan.Progress
	if text := os.Getenv("BUILDKIT_PROGRESS"); mode == progress.Auto && text != "" {
		if own, err := progress.ParseMode(text); err == nil {
			mode = own
		}
	}
	if plan.Timestamps && mode != progress.RawJSON {
		p.Stderr = &stamper{w: p.Stderr, now: time.Now, begins: true}
		if mode == progress.Auto || mode == progress.TTY {
			mode = progress.Plain
		}
	}
	return mode
}

// chooseRoot puts the store below kaniko's directory if this user may not write at the usual
// place, as in a pod with runAsNonRoot. It sets the variable, since the program may execute
// itself again as another user.
func (p *Program) chooseRoot(dir string) {
	usual, err := p.storeDir()
	if p.root != "" || err == nil && mayMake(usual) {
		return
	}
	if own := cmp.Or(dir, kaniko.Dir); mayMake(filepath.Join(own, "cairn")) {
		os.Setenv("CAIRN_ROOT", filepath.Join(own, "cairn"))
	}
}

// mayMake reports whether a directory can be written, or else be made.
func mayMake(dir string) bool {
	for {
		err := unix.Access(dir, unix.W_OK)
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return err == nil
		}
		dir = filepath.Dir(dir)
	}
}

// runKaniko calls f with an executor.
func runKaniko[T any](p *Program, ctx context.Context, plan *kaniko.Plan, mode progress.Mode, f func(*environment, *kaniko.Executor) (T, error)) (result T, err error) {
	registries, err := kanikoRegistries(plan.Registry)
	if err != nil {
		return result, err
	}
	dir, err := p.storeDir()
	if err != nil {
		return result, err
	}
	keep, err := keepStorage(dir)
	if err != nil {
		return result, err
	}
	err = p.withRegistries(registries, mode, func(env *environment) (err error) {
		if plan.Trace != "" {
			env.Progress.Record()
		}
		result, err = f(env, &kaniko.Executor{Manager: env.Manager, Stdin: p.Stdin, Session: env.session})
		if err == nil {
			pruneAfterBuild(env, keep)
		}
		return errors.Join(cause(ctx, err), writeTrace(plan.Trace, env.Progress))
	})
	return result, err
}

// kanikoRegistries returns the flags for access to registries.
func kanikoRegistries(k kaniko.Registries) (r registryFlags, err error) {
	r = registryFlags{mirrors: k.Mirrors, authorities: map[string][]string{}, certs: map[string]transport.ClientCert{}}
	for _, host := range k.InsecureHosts {
		host = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(host, "http://"), "https://"), "/")
		if host != "" && !slices.Contains(r.alsoLenient, host) {
			r.alsoLenient = append(r.alsoLenient, host)
		}
	}
	for _, text := range k.Certificates {
		host, file, _ := strings.Cut(text, "=")
		r.authorities[host] = append(r.authorities[host], file)
	}
	for _, text := range k.ClientCerts {
		host, files, _ := strings.Cut(text, "=")
		cert, key, _ := strings.Cut(files, ",")
		r.certs[host] = transport.ClientCert{Cert: cert, Key: key}
	}
	helpers, err := native.New(k.Helpers, nil)
	if err != nil {
		return r, err
	}
	r.adjust = func(o *registry.Options) error {
		o.MirrorsOnly, o.InsecurePull, o.Transport.Tries = k.MirrorsOnly, k.InsecurePull, k.Retries+1
		o.Credentials.Native = helpers.Lookup
		return o.Credentials.Check()
	}
	return r, nil
}

// stamper writes the time before each line.
type stamper struct {
	w      io.Writer
	now    func() time.Time
	begins bool // a line begins
}

func (s *stamper) Write(b []byte) (int, error) {
	var out bytes.Buffer
	for line := range bytes.Lines(b) {
		if s.begins {
			out.WriteString(s.now().UTC().Format(time.RFC3339) + " ")
		}
		out.Write(line)
		s.begins = bytes.HasSuffix(line, []byte("\n"))
	}
	if _, err := s.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(b), nil
}

// newExecutorPush returns the command push of osscontainertools' fork.
func newExecutorPush(p *Program) *cobra.Command {
	o := kaniko.NewOptions()
	c := &cobra.Command{
		Use:     "push [flags] PATH",
		Short:   "Push an archive or OCI layout as the kaniko executor does",
		Long:    `Push pushes the image of a docker archive, or of an OCI layout, to each destination.`,
		Example: `  executor push app.tar --destination registry.example/me/app:1`,
		Args:    exactArgs("PATH"),
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error {
		return p.asKaniko(o, func() error {
			if len(o.Destinations) == 0 {
				return errors.New("there is no --destination to push to")
			}
			plan, err := o.Plan(os.LookupEnv)
			if err != nil {
				return err
			}
			_, err = runKaniko(p, ctx, plan, p.useKaniko(plan), func(env *environment, e *kaniko.Executor) (none struct{}, err error) {
				env.Progress.Title("Pushing")
				return none, e.Push(ctx, args[0], plan)
			})
			return err
		})
	})
	kanikoFlags(c.Flags(), o, kaniko.PushFlags())
	return c
}
