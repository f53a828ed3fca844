package command

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/registry/server"
)

func newRegistry(p *Program) *cobra.Command {
	c := &cobra.Command{
		Use:                        "registry",
		Short:                      "Serve a registry",
		Example:                    `  cairn registry serve --addr 127.0.0.1:5000 --dir ./images`,
		Args:                       subcommandArg,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
		SuggestionsMinimumDistance: 2,
	}
	c.AddCommand(newRegistryServe(p))
	return c
}

func newRegistryServe(p *Program) *cobra.Command {
	var addr, dir string
	var o server.Options
	c := &cobra.Command{
		Use:   "serve [flags]",
		Short: "Serve a registry from a directory",
		Long: `Serve serves an image registry, as the OCI distribution specification describes it,
from a directory. It has no access control: all clients that reach the address can
push and pull. It is meant for tests and private networks. SIGINT and SIGTERM end it
with status 0.`,
		Example: `  cairn registry serve
  cairn registry serve --addr 127.0.0.1:5001 --dir ./images --read-only`,
		Args: exactArgs(),
		RunE: p.action(func(ctx context.Context, _ []string) error { return p.serveRegistry(ctx, addr, dir, o) }),
	}
	f := c.Flags()
	f.StringVar(&addr, "addr", "127.0.0.1:5000", "`HOST:PORT` to listen on; port 0 chooses a free port")
	f.StringVar(&dir, "dir", "", "`DIR` for the images (default /var/lib/cairn-registry as root, $XDG_DATA_HOME/cairn-registry otherwise)")
	f.BoolVar(&o.ReadOnly, "read-only", false, "Refuse pushes")
	_ = c.MarkFlagDirname("dir")
	return c
}

// serveRegistry serves until the context ends, which is no error. It waits for running
// requests for a few seconds.
func (p *Program) serveRegistry(ctx context.Context, addr, dir string, o server.Options) (err error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return usagef("--addr %q: want HOST:PORT", addr)
	}
	if dir == "" {
		if dir, err = dataDir("cairn-registry"); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("serving on %s: the address is in use: choose another with --addr; port 0 is a free one", addr)
	}
	if err != nil {
		return fmt.Errorf("--addr %s: %w", addr, err)
	}
	h, err := server.Handler(dir, o)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	fmt.Fprintf(p.Stderr, "serving %s on http://%s\n", dir, l.Addr())
	server := &http.Server{Handler: h, ReadHeaderTimeout: 30 * time.Second, ErrorLog: log.New(p.Stderr, "", 0)}
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
	return nil
}
