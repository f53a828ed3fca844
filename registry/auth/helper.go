package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/cairn-build/cairn/registry/transport"
)

const (
	helperPrefix  = "docker-credential-"
	helperTimeout = 30 * time.Second
)

// askHelper returns the credential that a helper stores under key, or an empty
// one if it stores none.
func askHelper(ctx context.Context, helper, key string) (transport.Credential, error) {
	stored, err := client.Get(helperProgram(ctx, helper), key)
	if credentials.IsErrCredentialsNotFound(err) {
		return transport.Credential{}, nil
	}
	if err != nil {
		return transport.Credential{}, err
	}
	if stored.Username == "<token>" {
		return transport.Credential{AuthConfig: authn.AuthConfig{IdentityToken: stored.Secret}}, nil
	}
	return transport.Credential{AuthConfig: authn.AuthConfig{Username: stored.Username, Password: stored.Secret}}, nil
}

// helperProgram returns a function that runs a credential helper for docker's
// library, for at most helperTimeout.
func helperProgram(ctx context.Context, helper string) client.ProgramFunc {
	return func(args ...string) client.Program { return &program{ctx: ctx, helper: helper, args: args} }
}

type program struct {
	ctx    context.Context // which Output has no parameter for
	helper string
	args   []string
	input  io.Reader
}

func (p *program) Input(in io.Reader) { p.input = in }

// Output runs the helper and returns its output. If the helper fails, its
// output is the reason and not a secret, and is made printable.
func (p *program) Output() ([]byte, error) {
	if strings.ContainsAny(p.helper, "/\\") {
		return nil, fmt.Errorf("%q is not the name of a program", p.helper)
	}
	ctx, cancel := context.WithTimeout(p.ctx, helperTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, helperPrefix+p.helper, p.args...)
	cmd.Stdin = p.input
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		if len(bytes.TrimSpace(out)) == 0 {
			out = exit.Stderr
		}
		out = []byte(transport.Printable(strings.TrimSpace(string(out))))
	}
	return out, err
}
