package command

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/signature"
)

// signCommand is a run of cairn sign.
type signCommand struct {
	*Program
	registries registryFlags
	key        string
	format     signature.Format
	recursive  bool
}

func newSign(p *Program) *cobra.Command {
	s := &signCommand{Program: p, format: signature.Bundle}
	c := &cobra.Command{
		Use:   "sign [flags] IMAGE...",
		Short: "Sign images in their registries",
		Long: `Sign signs images or indexes in a registry with a key, in the format of cosign, and
prints each with its digest. It looks a tag up once, and signs the digest. An image that
the key has signed already stays as it is. The signature is a sigstore bundle that refers
to the image, or with --sign-format classic a tag sha256-DIGEST.sig.

The key is ECDSA P-256 in PEM: PKCS #8, SEC 1, or one of cosign generate-key-pair, whose
password is in $COSIGN_PASSWORD or typed. Nothing is sent to a transparency log, so cosign
verify needs --insecure-ignore-tlog.`,
		Example: `  cairn sign --key cosign.key registry.example/app:1
  cairn sign --key env://SIGNING_KEY --recursive registry.example/app@sha256:...
  cosign verify --key cosign.pub --insecure-ignore-tlog registry.example/app:1`,
		Args: imageReferences,
	}
	c.RunE = p.action(s.run)
	f := c.Flags()
	f.StringVar(&s.key, "key", "", "Private `KEY`: a file, or env://VARIABLE")
	signFormatFlag(f, &s.format)
	f.BoolVarP(&s.recursive, "recursive", "r", false, "Sign the images of an index too")
	s.registries.flags(f)
	return c
}

func signFormatFlag(f *pflag.FlagSet, to *signature.Format) {
	parsedFlag(f, "sign-format", "", "FORMAT", "Write signatures as a sigstore bundle, a classic tag, or both: bundle, classic, both (default bundle)", func(s string) (err error) {
		*to, err = signature.ParseFormat(s)
		return err
	})
}

// imageReferences checks that the arguments are one or more references of images in
// registries.
func imageReferences(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("IMAGE is missing: want IMAGE...")
	}
	for _, a := range args {
		if err := checkReferenceArg(a); err != nil {
			return err
		}
	}
	return nil
}

// loadSigner reads a private key. An encrypted one has its password in $COSIGN_PASSWORD,
// or the user types it.
func (p *Program) loadSigner(ctx context.Context, key string) (*signature.Signer, error) {
	return signature.LoadSigner(key, func() ([]byte, error) {
		if text, ok := os.LookupEnv("COSIGN_PASSWORD"); ok {
			return []byte(text), nil
		}
		if !term.IsTerminal(int(p.Stdin.Fd())) {
			return nil, errors.New("the key is encrypted, and standard input is not a terminal to prompt on: set $COSIGN_PASSWORD")
		}
		text, err := readSecret(ctx, p.Stdin, p.Stderr, "Password of the signing key: ")
		return []byte(text), err
	})
}

// withClient calls f with a client of registries, without the store.
func withClient(r registryFlags, f func(*registry.Client) error) error {
	o, err := r.options()
	if err != nil {
		return err
	}
	client, err := registry.New(o)
	if err != nil {
		return &UsageError{err}
	}
	defer client.Close()
	return f(client)
}

func (s *signCommand) run(ctx context.Context, refs []string) error {
	if s.key == "" {
		return usagef("--key is missing: want --key FILE or --key env://VARIABLE")
	}
	signer, err := s.loadSigner(ctx, s.key)
	if err != nil {
		return err
	}
	return withClient(s.registries, func(client *registry.Client) error {
		for _, ref := range refs {
			if err := s.sign(ctx, client, signer, ref); err != nil {
				return cause(ctx, err)
			}
		}
		return nil
	})
}

// sign signs the image that ref refers to now.
func (s *signCommand) sign(ctx context.Context, client *registry.Client, signer *signature.Signer, ref string) error {
	m, err := client.Manifests(ref, true)
	if err != nil {
		return err
	}
	top, err := m.Digest(ctx, m.Reference().Identifier())
	if err != nil {
		return err
	}
	all := []layer.Digest{top}
	if s.recursive {
		members, err := signature.Members(ctx, client, ref, top)
		if err != nil {
			return fmt.Errorf("signing %s: %w", ref, err)
		}
		all = append(members, top) // an index whose images are not all signed has no signature
	}
	for _, d := range all {
		if err := signer.Sign(ctx, client, ref, d, s.format); err != nil {
			return fmt.Errorf("signing %s: %w", ref, err)
		}
		if _, err := fmt.Fprintln(s.Stdout, signature.Name(ref, d)); err != nil {
			return err
		}
	}
	return nil
}
