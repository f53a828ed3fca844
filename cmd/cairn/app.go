package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

// app is one run of the program.
type app struct {
	stdin          *os.File
	stdout, stderr io.Writer
	root           string             // --root
	rung           string             // --isolation
	at             *sandbox.Isolation // that was taken, once it was
	started        bool               // the command line was right, a command has begun
}

// command makes the tree of commands.
func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "cairn",
		Short: "Build container images from Dockerfiles, without a daemon",
		Long: `Cairn builds container images from Dockerfiles, pushes them to registries, and
pulls, lists and runs them. There is no daemon: a command does its work and ends.`,
		Example: `  cairn build -t registry.example/me/app:1 --push .
  cairn run registry.example/me/app:1`,
		Args:          nil, // an unknown command is an error of cobra's, before any of an unknown flag
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       versionText(),
	}
	root.SetVersionTemplate("cairn {{.Version}}\n")
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(flagError)
	root.SetUsageFunc(usage)
	root.PersistentFlags().StringVar(&a.root, "root", "", "keep the store in `DIR` (default $CAIRN_ROOT, or "+defaultRootText+")")
	_ = root.MarkPersistentFlagDirname("root")
	a.isolationFlag(root)
	groups := []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"images", "Images:", []*cobra.Command{
			a.build(), a.push(), a.pull(), a.run(), a.images(), a.inspect(), a.tag(), a.rm(), a.save(), a.load(), a.importing(), a.export(), a.manifest(), a.diff(),
		}},
		{"registries", "Registries:", []*cobra.Command{a.login(), a.logout(), a.whoami(), a.registry()}},
		{"machine", "This machine:", []*cobra.Command{a.info(), a.cache(), a.check(), a.prune(), a.version(), a.completion()}},
	}
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
	root.SetHelpCommand(help(root))
	return root
}

// does makes a command's function: f runs under a context that ends with a
// signal, and from there on an error is no longer one of the command line.
func (a *app) does(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		a.started = true
		ctx, stop := interruptible(c.Context())
		defer stop()
		return f(ctx, args)
	}
}

// finish tells of the error, if there is one, and gives the exit status.
func (a *app) finish(cmd *cobra.Command, err error) int {
	var status *exitStatus
	var signal *interrupted
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return status.code
	case errors.As(err, &signal):
		fmt.Fprintf(a.stderr, "error: %v\n", signal)
		return signal.status()
	case !a.started, errors.As(err, &usage):
		fmt.Fprintf(a.stderr, "error: %s\nsee: %s --help\n", progress.Legible(source.Redact(oneLine(err))), cmd.CommandPath())
		return exitUsage
	}
	a.report(err)
	return exitFailed
}

// exitStatus ends the program with a status, without a word: what went wrong
// has been said.
type exitStatus struct{ code int }

func (e *exitStatus) Error() string { return fmt.Sprintf("exit status %d", e.code) }

const defaultRootText = "/var/lib/cairn as root, $XDG_DATA_HOME/cairn otherwise"

// storeDir is the folder of the store: --root, $CAIRN_ROOT or a default. Root is
// the machine's root: in a user namespace of its own an ordinary user stays one.
func (a *app) storeDir() (string, error) {
	if a.root != "" {
		return a.root, nil
	}
	if dir := os.Getenv("CAIRN_ROOT"); dir != "" {
		return dir, nil
	}
	return dataDir("cairn")
}

// dataDir is where this user's programs keep what they make.
func dataDir(name string) (string, error) {
	if uid, _ := sandbox.HostIDs(); uid == 0 {
		return "/var/lib/" + name, nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, name), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no place for the store: %w: set it, or name a folder with --root", err)
	}
	return filepath.Join(home, ".local/share", name), nil
}

// openStore takes a rung of isolation, which may be a user namespace, and opens the
// store there.
func (a *app) openStore() (*store.Store, sandbox.Isolation, error) {
	at, err := a.enter()
	if err != nil {
		return nil, at, err
	}
	dir, err := a.storeDir()
	if err != nil {
		return nil, at, err
	}
	s, err := store.Open(dir)
	return s, at, err
}

// session opens the store for f, and closes it after.
func (a *app) session(f func(*builder.Builder) error) error {
	return a.online(registries{}, progress.None, f)
}

// online is a session with registries that shows progress on standard error.
func (a *app) online(r registries, mode progress.Mode, f func(*builder.Builder) error) (err error) {
	options, err := r.options()
	if err != nil {
		return err
	}
	s, at, err := a.openStore()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.Close(), s.Close()) }()
	client, err := registry.New(options)
	if err != nil {
		return &usageError{err}
	}
	defer client.Close()
	p := progress.New(mode, a.stderr)
	defer p.Close()
	return f(&builder.Builder{Store: s, Registry: client, Progress: p, Isolation: at, Limits: r.limits})
}

// plainly is the mode for commands without a --progress flag.
func plainly(quiet bool) progress.Mode {
	if quiet {
		return progress.Quiet
	}
	return progress.Auto
}

// oneLine puts what cobra says in several lines into one, and shortly.
func oneLine(err error) string {
	if _, set, ok := strings.Cut(err.Error(), " are set none of the others can be; ["); ok {
		set, _, _ = strings.Cut(set, "]")
		return "--" + strings.ReplaceAll(set, " ", " and --") + " exclude each other"
	}
	text, guess, ok := strings.Cut(err.Error(), "\n\nDid you mean this?\n")
	if names := strings.Fields(guess); ok && len(names) > 0 {
		text += " (did you mean " + strings.Join(names, " or ") + "?)"
	}
	return text
}
