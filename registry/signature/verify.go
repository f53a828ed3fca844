package signature

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/reference"
)

const (
	maxSignature   = 1 << 20   // bytes of a bundle or payload that signs an image
	maxAttestation = 128 << 20 // bytes of one with an attestation
	maxCandidates  = 200       // bundles or layers that may be signatures of one image
	maxReasons     = 4         // in an error

	classicType       = "application/vnd.dev.cosign.simplesigning.v1+json"
	classicAnnotation = "dev.cosignproject.cosign/signature"
	envelopeType      = "application/vnd.dsse.envelope.v1+json"
	predicateTypeKey  = "dev.sigstore.bundle.predicateType"
)

// ErrUnsigned is the error of an image without signatures, or without attestations of a
// type.
var ErrUnsigned = errors.New("no signature")

// Verifier verifies signatures of images in registries.
type Verifier struct {
	Client *registry.Client
	Keys   []*PublicKey // one has to match
}

// Image verifies that one of the keys has signed the image or index d in the repository of
// ref.
func (v Verifier) Image(ctx context.Context, ref string, d layer.Digest) error {
	return v.verify(ctx, ref, d, SignType)
}

// Attestation verifies that one of the keys has signed a statement of a predicate type
// about the image or index d.
func (v Verifier) Attestation(ctx context.Context, ref string, d layer.Digest, predicateType string) error {
	return v.verify(ctx, ref, d, predicateType)
}

// attempt is a look for valid signatures of one image in the bundles or under a tag.
type attempt struct {
	Verifier
	repo          string // without tag and digest
	digest        layer.Digest
	predicateType string
	found         int
	reasons       []string // against those that were found
}

func (v Verifier) verify(ctx context.Context, ref string, d layer.Digest, predicateType string) error {
	repo, err := repositoryOf(ref)
	if err != nil {
		return err
	}
	a := &attempt{Verifier: v, repo: repo, digest: d, predicateType: predicateType}
	for _, look := range []func(context.Context) (bool, error){a.bundles, a.tagged} {
		if ok, err := look(ctx); ok || err != nil {
			return err
		}
	}
	kind := "signature"
	if predicateType != SignType {
		kind = "signed attestation of type " + predicateType
	}
	name := Name(ref, d)
	if a.found == 0 {
		return &unsignedError{fmt.Sprintf("%s has no %s", name, kind)}
	}
	return fmt.Errorf("%s has no valid %s: %s", name, kind, strings.Join(a.reasons, "; "))
}

type unsignedError struct{ text string }

func (e *unsignedError) Error() string   { return e.text }
func (*unsignedError) Is(err error) bool { return err == ErrUnsigned }

// Name returns the short name of the repository of a valid reference with a digest.
func Name(ref string, d layer.Digest) string {
	t, err := reference.Parse(ref)
	if err != nil {
		return ref + "@" + string(d)
	}
	return reference.Reference{Domain: t.Domain, Repo: t.Repo}.Familiar() + "@" + string(d)
}

func repositoryOf(ref string) (string, error) {
	t, err := reference.Parse(ref)
	if err != nil {
		return "", err
	}
	return t.Domain + "/" + t.Repo, nil
}

// reject records the reason against a signature.
func (a *attempt) reject(name string, err error) {
	a.found++
	switch {
	case len(a.reasons) < maxReasons:
		a.reasons = append(a.reasons, fmt.Sprintf("%s: %v", name, err))
	case len(a.reasons) == maxReasons:
		a.reasons = append(a.reasons, "and others")
	}
}

func (a *attempt) limit() int64 {
	if a.predicateType == SignType {
		return maxSignature
	}
	return maxAttestation
}

// bundles looks at the bundles among the referrers.
func (a *attempt) bundles(ctx context.Context) (bool, error) {
	found, err := a.Client.Referrers(ctx, a.repo, a.digest, "")
	if err != nil {
		return false, err
	}
	looked := 0
	for _, r := range found {
		// The annotation is not signed. It only saves the download of other statements.
		said := r.Annotations[predicateTypeKey]
		if !strings.HasPrefix(r.ArtifactType, bundlePrefix) || said != "" && said != a.predicateType {
			continue
		}
		if looked++; looked > maxCandidates {
			a.reject("others", fmt.Errorf("there are more than %d bundles", maxCandidates))
			return false, nil
		}
		if err = a.referrer(ctx, r.Digest); err == nil {
			return true, nil
		}
		if errors.Is(err, registry.ErrUnreachable) || ctx.Err() != nil {
			return false, err
		}
		a.reject("bundle "+string(r.Digest), err)
	}
	return false, nil
}

func (a *attempt) referrer(ctx context.Context, d layer.Digest) error {
	m, err := a.manifest(ctx, "@"+string(d))
	if err != nil {
		return err
	}
	if len(m.Layers) != 1 || !strings.HasPrefix(m.Layers[0].MediaType, bundlePrefix) {
		return fmt.Errorf("its manifest has %d layers: want one with a bundle", len(m.Layers))
	}
	if m.Subject == nil || m.Subject.Digest != a.digest {
		return errors.New("its manifest has another subject")
	}
	raw, err := a.read(ctx, m.Layers[0])
	if err != nil {
		return err
	}
	statement, err := openBundle(raw, a.Keys)
	if err != nil {
		return err
	}
	return checkStatement(statement, a.digest, a.predicateType)
}

// tagged looks at the layers of the tag that cosign uses for signatures or attestations in
// its classic format.
func (a *attempt) tagged(ctx context.Context) (bool, error) {
	tag, check := a.classicTag(), a.classic
	if a.predicateType != SignType {
		tag, check = strings.TrimSuffix(tag, ".sig")+".att", a.envelope
	}
	m, err := a.manifest(ctx, ":"+tag)
	if errors.Is(err, registry.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for i, l := range m.Layers {
		if i == maxCandidates {
			a.reject("others", fmt.Errorf("the tag %s has more than %d layers", tag, maxCandidates))
			break
		}
		err := check(ctx, l)
		if err == nil {
			return true, nil
		}
		if errors.Is(err, registry.ErrUnreachable) || ctx.Err() != nil {
			return false, err
		}
		a.reject("tag "+tag, err)
	}
	return false, nil
}

func (a *attempt) classicTag() string { return "sha256-" + a.digest.Hex() + ".sig" }

func (a *attempt) classic(ctx context.Context, l signedLayer) error {
	if l.MediaType != classicType {
		return fmt.Errorf("its layer has type %.100q: want %s", l.MediaType, classicType)
	}
	sig, err := decodeBase64(l.Annotations[classicAnnotation])
	if err != nil {
		return fmt.Errorf("annotation %s: %w", classicAnnotation, err)
	}
	payload, err := a.read(ctx, l)
	if err != nil {
		return err
	}
	for _, k := range a.Keys {
		if k.verifies(payload, sig) {
			return checkSimple(payload, a.digest)
		}
	}
	return errWrongKey
}

func (a *attempt) envelope(ctx context.Context, l signedLayer) error {
	if l.MediaType != envelopeType {
		return fmt.Errorf("its layer has type %.100q: want %s", l.MediaType, envelopeType)
	}
	raw, err := a.read(ctx, l)
	if err != nil {
		return err
	}
	var e envelope
	if err := layer.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("parse envelope: %w", err)
	}
	statement, err := e.open(a.Keys)
	if err != nil {
		return err
	}
	return checkStatement(statement, a.digest, a.predicateType)
}

// signatureManifest is the manifest of a bundle or of a classic tag.
type signatureManifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        signedLayer       `json:"config"`
	Layers        []signedLayer     `json:"layers"`
	Subject       *signedLayer      `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// signedLayer is a descriptor.
type signedLayer struct {
	MediaType   string            `json:"mediaType"`
	Digest      layer.Digest      `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// manifest fetches a manifest of the repository; id is ":" and a tag or "@" and a digest.
func (a *attempt) manifest(ctx context.Context, id string) (m signatureManifest, err error) {
	_, raw, err := a.Client.Manifest(ctx, a.repo+id)
	if err != nil {
		return m, err
	}
	if err := layer.Unmarshal(raw, &m); err != nil {
		return m, fmt.Errorf("parse manifest: %w", err)
	}
	return m, nil
}

func (a *attempt) read(ctx context.Context, l signedLayer) ([]byte, error) {
	if l.Size < 0 || l.Size > a.limit() {
		return nil, fmt.Errorf("it has %d bytes, want at most %d", l.Size, a.limit())
	}
	r, err := a.Client.OpenBlob(ctx, a.repo, layer.Descriptor{Digest: l.Digest, Size: l.Size})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
