package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/registry/auth/native"
	"github.com/cairn-build/cairn/registry/reference"
)

const (
	helperPrefix  = "docker-credential-"
	helperCommand = "credential-helper"
)

// helperNames has the built-in helper of each program that docker's configuration may name.
var helperNames = map[string]string{
	"env": "env", "gcr": "google", "gcloud": "google", "ecr-login": "ecr", "acr": "acr", "acr-env": "acr", "acr-linux": "acr", "gitlabci": "gitlab", "gitlab": "gitlab",
}

// newCredentialHelper returns the command that a link with the name of a credential helper is.
// Source: github.com/docker/docker-credential-helpers, README.md.
func newCredentialHelper(p *Program) *cobra.Command {
	c := &cobra.Command{
		Use:    helperCommand + " NAME get|list|store|erase",
		Short:  "Answer docker's questions for credentials of a cloud provider",
		Hidden: true,
		Args:   exactArgs("NAME", "get|list|store|erase"),
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error {
		name, ok := helperNames[args[0]]
		if !ok {
			return usagef("there is no credential helper %q", args[0])
		}
		switch args[1] {
		case "list":
			_, err := fmt.Fprintln(p.Stdout, "{}")
			return err
		case "get":
			return p.answerHelper(ctx, name)
		case "store", "erase":
			return errors.New("the credentials come from the provider and are not stored")
		}
		return usagef("%q is none of get, list, store and erase", args[1])
	})
	return c
}

// answerHelper reads the address of a registry and writes its credentials.
func (p *Program) answerHelper(ctx context.Context, name string) error {
	raw, err := io.ReadAll(io.LimitReader(p.Stdin, maxPassword))
	if err != nil {
		return err
	}
	server := strings.TrimSpace(string(raw))
	host, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://"), "/")
	if host == "index.docker.io" {
		host = reference.Hub
	}
	helpers, err := native.New([]string{name}, nil)
	if err != nil {
		return err
	}
	cred := helpers.Lookup(ctx, host)
	if cred.Empty() {
		if cred.Source != "" {
			fmt.Fprintln(p.Stderr, cred.Source)
		}
		if _, err := fmt.Fprintln(p.Stdout, "credentials not found in native keychain"); err != nil { // docker knows this text
			return err
		}
		return &StatusError{ExitFailed}
	}
	return json.NewEncoder(p.Stdout).Encode(struct{ ServerURL, Username, Secret string }{server, cred.Username, cred.Password})
}
