package command

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/registry/auth"
)

// maxPassword is the maximum size of a password on standard input, in bytes.
const maxPassword = 1 << 20

// loginCommand is a run of cairn login.
type loginCommand struct {
	*Program
	registries    registryFlags
	user          string
	password      string // --password
	passwordStdin bool
}

func newLogin(p *Program) *cobra.Command {
	l := &loginCommand{Program: p}
	c := &cobra.Command{
		Use:   "login [flags] [HOST]",
		Short: "Log in to a registry",
		Long: `Login checks the credentials of a user with a registry and stores them as Docker
does: in $DOCKER_CONFIG/config.json (~/.docker/config.json) or with the credential
helper configured there; or in the file of --authfile. The default HOST is Docker Hub.
Login prompts for missing credentials on a terminal.`,
		Example: `  cairn login -u me registry.example
  echo "$TOKEN" | cairn login -u me --password-stdin registry.example`,
		Args: optionalArg("HOST"),
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error { return l.run(ctx, registryHost(args)) })
	f := c.Flags()
	f.StringVarP(&l.user, "username", "u", "", "`USER` name")
	f.BoolVar(&l.passwordStdin, "password-stdin", false, "Take the password or token from standard input")
	f.StringVarP(&l.password, "password", "p", "", "Take the password from the command line, which other users can see: better use --password-stdin")
	l.registries.loginFlags(f)
	return c
}

// registryHost returns the optional argument HOST.
func registryHost(args []string) string {
	if len(args) == 0 || args[0] == "" {
		return "docker.io"
	}
	return args[0]
}

func (l *loginCommand) run(ctx context.Context, host string) error {
	if l.password != "" && l.passwordStdin {
		return usagef("--password and --password-stdin exclude each other")
	}
	l.registries.noAuth = true // it is about to be written
	o, err := l.registries.options()
	if err != nil {
		return err
	}
	password, err := l.readPassword(ctx, host)
	if err != nil {
		return err
	}
	if err := auth.Login(ctx, o.Transport, o.Credentials, host, l.user, password); err != nil {
		return cause(ctx, err)
	}
	_, err = fmt.Fprintf(l.Stdout, "logged in to %s as %s\n", host, l.user)
	return err
}

// readPassword reads the password, and the user name unless there is --username.
func (l *loginCommand) readPassword(ctx context.Context, host string) (string, error) {
	if l.password != "" {
		if l.user == "" {
			return "", usagef("--password needs --username")
		}
		fmt.Fprintln(l.Stderr, "warning: other users of this machine can see --password: use --password-stdin")
		return l.password, nil
	}
	if !l.passwordStdin {
		if !term.IsTerminal(int(l.Stdin.Fd())) {
			return "", usagef("standard input is not a terminal to prompt on: pipe the password in, with --password-stdin")
		}
		return l.prompt(ctx, host)
	}
	if l.user == "" {
		return "", usagef("--password-stdin needs --username")
	}
	b, err := io.ReadAll(io.LimitReader(l.Stdin, maxPassword+1))
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	password := strings.TrimRight(string(b), "\r\n")
	if password == "" || len(b) > maxPassword {
		return "", usagef("standard input has no password")
	}
	return password, nil
}

// prompt asks for the user name and the password on the terminal.
func (l *loginCommand) prompt(ctx context.Context, host string) (password string, err error) {
	if l.user == "" {
		fmt.Fprintf(l.Stderr, "user name at %s: ", host)
		if l.user, err = readLine(ctx, l.Stdin); err != nil {
			return "", fmt.Errorf("reading the user name: %w", err)
		}
	}
	password, err = readSecret(ctx, l.Stdin, l.Stderr, fmt.Sprintf("password of %s: ", l.user))
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	return password, nil
}
