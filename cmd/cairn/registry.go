package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/registry/serve"
)

func (a *app) registry() *cobra.Command {
	c := &cobra.Command{
		Use:                        "registry",
		Short:                      "Serve a registry",
		Example:                    `  cairn registry serve --addr 127.0.0.1:5000 --dir ./images`,
		Args:                       subcommand,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
		SuggestionsMinimumDistance: 2,
	}
	c.AddCommand(a.registryServe())
	return c
}

// subcommand refuses what is none of a command's.
func subcommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())
	if len(c.SuggestionsFor(args[0])) > 0 {
		err = fmt.Errorf("%w (did you mean %s?)", err, c.SuggestionsFor(args[0])[0])
	}
	return &usageError{err}
}

func (a *app) registryServe() *cobra.Command {
	var addr, dir string
	var o serve.Options
	c := &cobra.Command{
		Use:   "serve [flags]",
		Short: "Serve a registry from a directory",
		Long: `Serve serves an image registry, as the OCI distribution specification has it, from
a directory. Anybody who can reach the address may push and pull: it is meant
for tests and for a network of one's own.`,
		Example: `  cairn registry serve
  cairn registry serve --addr 127.0.0.1:5001 --dir ./images --read-only`,
		Args: takes(),
		RunE: a.does(func(ctx context.Context, _ []string) error { return a.serve(ctx, addr, dir, o) }),
	}
	f := c.Flags()
	f.StringVar(&addr, "addr", "127.0.0.1:5000", "`HOST:PORT` to listen on; port 0 is any free one")
	f.StringVar(&dir, "dir", "", "`DIR` to keep images in (default /var/lib/cairn-registry as root, $XDG_DATA_HOME/cairn-registry otherwise)")
	f.BoolVar(&o.ReadOnly, "read-only", false, "refuse pushes")
	_ = c.MarkFlagDirname("dir")
	return c
}

// serve serves until a signal comes; requests under way may end.
func (a *app) serve(ctx context.Context, addr, dir string, o serve.Options) (err error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return usagef("--addr %q: want HOST:PORT", addr)
	}
	if dir == "" {
		if dir, err = dataDir("cairn-registry"); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("--addr %s: %w", addr, err)
	}
	h, err := serve.Handler(dir, o)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	fmt.Fprintf(a.stderr, "serving %s on http://%s\n", dir, l.Addr())
	server := &http.Server{Handler: h, ReadHeaderTimeout: 30 * time.Second, ErrorLog: log.New(a.stderr, "", 0)}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("registry: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("registry: %w", err)
	}
	return context.Cause(ctx)
}
