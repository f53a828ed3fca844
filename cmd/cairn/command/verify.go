package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/signature"
)

// verifyCommand is a run of cairn verify.
type verifyCommand struct {
	*Program
	registries registryFlags
	keys       []string
	types      []string
	recursive  bool
}

func newVerify(p *Program) *cobra.Command {
	v := &verifyCommand{Program: p}
	c := &cobra.Command{
		Use:   "verify [flags] IMAGE...",
		Short: "Verify signatures of images in their registries",
		Long: `Verify checks that images or indexes in a registry are signed with a key, by cairn sign
or cosign sign, and prints each with its digest. Use the image by this digest: the tag may
be set to another one at any time. With several keys one has to match.

A signature has to be one of the image itself: a signed SBOM does not count, as it does
for cosign. --type demands a signed attestation in addition. The transparency log is not
consulted.`,
		Example: `  cairn verify --key cosign.pub registry.example/app:1
  cairn verify --key env://PUBLIC_KEY --recursive registry.example/app:1
  cairn verify --key cosign.pub --type spdxjson registry.example/app:1`,
		Args: imageReferences,
	}
	c.RunE = p.action(v.run)
	f := c.Flags()
	listFlag(f, &v.keys, "key", "", "KEY", "Public KEY: a file, or env://VARIABLE", asText)
	listFlag(f, &v.types, "type", "", "TYPE", "Demand a signed attestation: spdxjson, cyclonedx, slsaprovenance, slsaprovenance1 or the URL of a predicate type", signature.ParsePredicateType)
	f.BoolVarP(&v.recursive, "recursive", "r", false, "Verify the images of an index too")
	v.registries.flags(f)
	return c
}

func (v *verifyCommand) run(ctx context.Context, refs []string) error {
	if len(v.keys) == 0 {
		return usagef("--key is missing: want --key FILE or --key env://VARIABLE")
	}
	var keys []*signature.PublicKey
	for _, from := range v.keys {
		k, err := signature.LoadPublicKey(from)
		if err != nil {
			return err
		}
		keys = append(keys, k)
	}
	return withClient(v.registries, func(client *registry.Client) error {
		var errs []error
		for _, ref := range refs {
			if err := v.verify(ctx, signature.Verifier{Client: client, Keys: keys}, ref); err != nil {
				errs = append(errs, cause(ctx, err))
			}
		}
		return errors.Join(errs...)
	})
}

// verify verifies the image that ref refers to now.
func (v *verifyCommand) verify(ctx context.Context, by signature.Verifier, ref string) error {
	name, err := by.Client.ResolveName(ctx, ref)
	if err != nil {
		return err
	}
	top, err := by.Client.ResolveDigest(ctx, name)
	if err != nil {
		return err
	}
	all := []layer.Digest{top}
	if v.recursive {
		members, err := signature.Members(ctx, by.Client, name, top)
		if err != nil {
			return fmt.Errorf("verifying %s: %w", ref, err)
		}
		all = append(all, members...)
	}
	for _, d := range all {
		if err := by.Image(ctx, name, d); err != nil {
			return fmt.Errorf("verifying %s: %w", ref, err)
		}
	}
	for _, predicateType := range v.types {
		if err := by.Attestation(ctx, name, top, predicateType); err != nil {
			return fmt.Errorf("verifying %s: %w", ref, err)
		}
	}
	for _, d := range all {
		if _, err := fmt.Fprintln(v.Stdout, signature.Name(name, d)); err != nil {
			return err
		}
	}
	return nil
}
