package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/registry"
)

// maxPassword bounds what is read of standard input.
const maxPassword = 1 << 20

func (a *app) login() *cobra.Command {
	var r registries
	var user, shown string
	var fromStdin bool
	c := &cobra.Command{
		Use:   "login [flags] [HOST]",
		Short: "Log in to a registry",
		Long: `Login checks a user's password with a registry and keeps it where docker does: in
$DOCKER_CONFIG/config.json (~/.docker/config.json), or with the helper named
there; or in the file that --authfile names. Without HOST the registry is Docker
Hub. On a terminal, what is missing is asked for.`,
		Example: `  cairn login -u me registry.example
  echo "$TOKEN" | cairn login -u me --password-stdin registry.example`,
		Args: takesUpTo("HOST"),
	}
	c.RunE = a.does(func(ctx context.Context, args []string) error {
		if shown != "" {
			return usagef("--password: others on this machine see what is on a command line: use --password-stdin, or be asked")
		}
		o, err := r.options()
		if err != nil {
			return err
		}
		host := hostOf(args)
		password, err := a.credentials(ctx, host, &user, fromStdin)
		if err != nil {
			return err
		}
		if err := registry.Login(ctx, o, host, user, password); err != nil {
			return cause(ctx, err)
		}
		_, err = fmt.Fprintf(a.stdout, "logged in to %s as %s\n", host, user)
		return err
	})
	f := c.Flags()
	f.StringVarP(&user, "username", "u", "", "`USER` to log in as")
	f.BoolVar(&fromStdin, "password-stdin", false, "read the password, or token, from standard input")
	f.StringVarP(&shown, "password", "p", "", "docker's, which others can read")
	_ = f.MarkHidden("password")
	r.insecureFlag(f)
	r.certFlags(f)
	r.authFlag(f)
	return c
}

func hostOf(args []string) string {
	if len(args) == 0 || args[0] == "" {
		return "docker.io"
	}
	return args[0]
}

// credentials reads what the flags left out.
func (a *app) credentials(ctx context.Context, host string, user *string, fromStdin bool) (password string, err error) {
	if fromStdin {
		if *user == "" {
			return "", usagef("--password-stdin needs --username")
		}
		b, err := io.ReadAll(io.LimitReader(a.stdin, maxPassword+1))
		if err != nil {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		password = strings.TrimRight(string(b), "\r\n")
		if password == "" || len(b) > maxPassword {
			return "", usagef("standard input has no password")
		}
		return password, nil
	}
	if !term.IsTerminal(int(a.stdin.Fd())) {
		return "", usagef("standard input is no terminal to ask for the password on: pipe it in, with --password-stdin")
	}
	return a.ask(ctx, host, user)
}

func (a *app) ask(ctx context.Context, host string, user *string) (password string, err error) {
	if *user == "" {
		fmt.Fprintf(a.stderr, "user name at %s: ", host)
		if *user, err = a.line(ctx); err != nil {
			return "", fmt.Errorf("reading the user's name: %w", err)
		}
	}
	fd := int(a.stdin.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	defer fmt.Fprintln(a.stderr)
	defer term.Restore(fd, state) // a signal comes while the terminal shows nothing
	silence(fd)
	fmt.Fprintf(a.stderr, "password of %s: ", *user)
	password, err = unlessDone(ctx, func() (string, error) {
		b, err := term.ReadPassword(fd)
		return string(b), err
	})
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	return password, nil
}

// silence stops a terminal's echo before the prompt is there: who types at once
// would see the password until ReadPassword does the same.
func silence(fd int) {
	if t, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
		t.Lflag &^= unix.ECHO
		unix.IoctlSetTermios(fd, unix.TCSETS, t)
	}
}

// line reads what is typed up to a newline.
func (a *app) line(ctx context.Context) (string, error) {
	text, err := unlessDone(ctx, func() (string, error) { return bufio.NewReader(a.stdin).ReadString('\n') })
	return strings.TrimSpace(text), err
}

// unlessDone waits for somebody to type, or for a signal.
func unlessDone(ctx context.Context, read func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	c := make(chan answer, 1)
	go func() {
		text, err := read()
		c <- answer{text, err}
	}()
	select {
	case got := <-c:
		return got.text, got.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
