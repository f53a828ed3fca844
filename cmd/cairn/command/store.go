package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/reference"
)

const defaultRootText = "/var/lib/cairn as root, $XDG_DATA_HOME/cairn otherwise"

// storeDir returns the directory of the store: --root, $CAIRN_ROOT or a default.
func (p *Program) storeDir() (string, error) {
	if p.root != "" {
		return p.root, nil
	}
	if dir := os.Getenv("CAIRN_ROOT"); dir != "" {
		return dir, nil
	}
	return dataDir("cairn")
}

// dataDir returns the directory for the data of a program of this user. It depends
// on the user outside of user namespaces.
func dataDir(name string) (string, error) {
	if uid, _ := sandbox.HostIDs(); uid == 0 {
		return "/var/lib/" + name, nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, name), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding a directory for the store: %w: set it, or specify a directory with --root", err)
	}
	return filepath.Join(home, ".local/share", name), nil
}

// openStore enters the sandbox, since its files belong to the users of the
// sandbox's user namespace, and opens the store.
func (p *Program) openStore() (*store.Store, sandbox.Isolation, error) {
	isolation, err := p.enter()
	if err != nil {
		return nil, isolation, err
	}
	dir, err := p.storeDir()
	if err != nil {
		return nil, isolation, err
	}
	s, err := store.Open(dir)
	if err == nil {
		s.Command = p.command
	}
	return s, isolation, err
}

// environment gives a command access to the store, its images and registries.
type environment struct {
	*images.Manager
}

// session starts a session for builds in the environment.
func (e *environment) session(o builder.SessionOptions) (*builder.Session, error) {
	e.Isolation = e.Isolation.Chosen()
	o.Store, o.Registry, o.Progress, o.Isolation, o.InputLimits = e.Store, e.Registry, e.Progress, e.Isolation, e.Limits
	o.History = e.History
	s, err := builder.NewSession(o)
	if err != nil {
		return nil, &UsageError{err} // about --secret or --ssh
	}
	return s, nil
}

// build builds a target in a session of its own. The result has the warnings even if
// the build fails.
func (e *environment) build(ctx context.Context, o buildOptions) (*builder.Built, error) {
	s, err := e.session(o.SessionOptions)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	built, err := s.Build(ctx, o.Target)
	if len(built) == 0 {
		return nil, err
	}
	return built[0], err
}

// withStore calls f with an environment for local work, and closes the store
// afterwards.
func (p *Program) withStore(f func(*environment) error) error {
	return p.withRegistries(registryFlags{}, progress.None, f)
}

// withRegistries calls f with an environment that reaches registries and shows progress
// on standard error, and closes the store afterwards.
func (p *Program) withRegistries(r registryFlags, mode progress.Mode, f func(*environment) error) (err error) {
	options, err := r.options()
	if err != nil {
		return err
	}
	s, isolation, err := p.openStore()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.Close(), s.Close()) }()
	client, err := registry.New(options)
	if err != nil {
		return &UsageError{err}
	}
	defer client.Close()
	history, err := r.recorder(client)
	if err != nil {
		return err
	}
	reporter := progress.New(mode, p.Stderr)
	defer reporter.Close()
	return f(&environment{&images.Manager{Store: s, Registry: client, Progress: reporter, Limits: r.limits, Isolation: isolation, History: history}})
}

// quietMode returns the progress mode of commands that have --quiet but no --progress.
func quietMode(quiet bool) progress.Mode {
	if quiet {
		return progress.Quiet
	}
	return progress.Auto
}

// completeImages completes the first argument with the images of the store.
func (p *Program) completeImages(_ *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	_ = p.withStore(func(env *environment) error {
		all, err := env.Store.Images()
		for _, t := range all {
			if !untagged(t.Ref) {
				names = append(names, reference.Familiar(t.Ref))
			}
		}
		return err
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}
