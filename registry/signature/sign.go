package signature

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
)

const (
	maxNesting = 3    // of indexes
	maxImages  = 1000 // of an index

	emptyType = "application/vnd.oci.empty.v1+json"
)

// Format is where a signature is written.
type Format string

// The formats of signatures.
const (
	Bundle  Format = "bundle"  // a sigstore bundle as a referrer
	Classic Format = "classic" // simple signing under the tag sha256-DIGEST.sig
	Both    Format = "both"
)

// ParseFormat parses a format.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case Bundle, Classic, Both:
		return f, nil
	}
	return "", fmt.Errorf("want %s, %s or %s", Bundle, Classic, Both)
}

// Sign signs the image or index d in the repository of ref, unless it has a signature by
// the key already.
func (s *Signer) Sign(ctx context.Context, client *registry.Client, ref string, d layer.Digest, f Format) error {
	m, err := client.Manifests(ref, true)
	if err != nil {
		return err
	}
	img, err := m.Get(ctx, string(d))
	if err != nil {
		return err
	}
	repo, err := repositoryOf(ref)
	if err != nil {
		return err
	}
	have := &attempt{Verifier: Verifier{client, []*PublicKey{s.Public()}}, repo: repo, digest: d, predicateType: SignType}
	if f == Bundle || f == Both {
		if ok, err := have.bundles(ctx); err != nil {
			return err
		} else if !ok {
			err = s.attach(ctx, m, img)
			if err != nil {
				return err
			}
		}
	}
	if f == Classic || f == Both {
		if ok, err := have.tagged(ctx); ok || err != nil {
			return err
		}
		return s.tag(ctx, m, have)
	}
	return nil
}

// attach signs an image with a bundle.
func (s *Signer) attach(ctx context.Context, m *registry.Manifests, img layer.Image) error {
	statement, err := newStatement(img.Digest)
	if err != nil {
		return err
	}
	sealed, err := s.seal(statement)
	if err != nil {
		return err
	}
	config, err := m.PutBlob(ctx, []byte("{}"))
	if err != nil {
		return err
	}
	blob, err := m.PutBlob(ctx, sealed)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(signatureManifest{
		SchemaVersion: 2, MediaType: layer.MediaTypeManifest, ArtifactType: BundleType,
		Config:  signedLayer{MediaType: emptyType, Digest: config.Digest, Size: config.Size},
		Layers:  []signedLayer{{MediaType: BundleType, Digest: blob.Digest, Size: blob.Size}},
		Subject: &signedLayer{MediaType: img.MediaType, Digest: img.Digest, Size: int64(len(img.Manifest))},
		Annotations: map[string]string{
			"dev.sigstore.bundle.content": "dsse-envelope", predicateTypeKey: SignType,
			"org.opencontainers.image.created": time.Now().UTC().Format(time.RFC3339),
		},
	})
	if err != nil {
		return err
	}
	r := registry.Referrer{
		MediaType: layer.MediaTypeManifest, Digest: layer.FromBytes(raw), Size: int64(len(raw)), ArtifactType: BundleType,
		Annotations: map[string]string{"dev.sigstore.bundle.content": "dsse-envelope", predicateTypeKey: SignType},
	}
	return m.Attach(ctx, img.Digest, r, raw)
}

// tag adds a signature to the classic tag.
func (s *Signer) tag(ctx context.Context, m *registry.Manifests, have *attempt) error {
	payload, err := newSimple(have.repo, have.digest)
	if err != nil {
		return err
	}
	sig, err := s.sign(payload)
	if err != nil {
		return err
	}
	blob, err := m.PutBlob(ctx, payload)
	if err != nil {
		return err
	}
	now := signatureManifest{SchemaVersion: 2, MediaType: layer.MediaTypeManifest}
	before, err := m.Get(ctx, have.classicTag())
	if err == nil {
		if err = layer.Unmarshal(before.Manifest, &now); err == nil && now.MediaType != "" && now.MediaType != layer.MediaTypeManifest {
			err = fmt.Errorf("it is of type %.100q: want %s", now.MediaType, layer.MediaTypeManifest)
		}
		if err != nil {
			return fmt.Errorf("adding a signature to the tag %s: %w", have.classicTag(), err)
		}
	} else if !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	now.Layers = append(now.Layers, signedLayer{
		MediaType: classicType, Digest: blob.Digest, Size: blob.Size,
		Annotations: map[string]string{classicAnnotation: base64.StdEncoding.EncodeToString(sig)},
	})
	config, err := m.PutBlob(ctx, classicConfig(now.Layers))
	if err != nil {
		return err
	}
	now.Config = signedLayer{MediaType: layer.MediaTypeConfig, Digest: config.Digest, Size: config.Size}
	raw, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return m.Put(ctx, have.classicTag(), layer.Image{MediaType: layer.MediaTypeManifest, Digest: layer.FromBytes(raw), Manifest: raw})
}

// classicConfig returns the config of an image that holds signatures.
func classicConfig(layers []signedLayer) []byte {
	diffIDs := []layer.Digest{}
	for _, l := range layers {
		diffIDs = append(diffIDs, l.Digest)
	}
	raw, _ := json.Marshal(map[string]any{ // of strings only
		"architecture": "", "os": "", "created": "0001-01-01T00:00:00Z", "config": struct{}{},
		"history": []any{},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	return raw
}

// Members returns the digests of all images and indexes that an index refers to, directly
// or not, and none for an image.
func Members(ctx context.Context, client *registry.Client, ref string, d layer.Digest) ([]layer.Digest, error) {
	repo, err := repositoryOf(ref)
	if err != nil {
		return nil, err
	}
	var all []layer.Digest
	seen := map[layer.Digest]bool{d: true}
	var walk func(d layer.Digest, depth int) error
	walk = func(d layer.Digest, depth int) error {
		mediaType, raw, err := client.Manifest(ctx, repo+"@"+string(d))
		if err != nil || mediaType != layer.MediaTypeIndex && mediaType != layer.DockerManifestList {
			return err
		}
		if depth == maxNesting {
			return fmt.Errorf("indexes are nested more than %d deep", maxNesting)
		}
		var x struct {
			Manifests []signedLayer `json:"manifests"`
		}
		if err := layer.Unmarshal(raw, &x); err != nil {
			return fmt.Errorf("parse index %s: %w", d, err)
		}
		for _, entry := range x.Manifests {
			if err := entry.Digest.Validate(); err != nil {
				return fmt.Errorf("index %s: %w", d, err)
			}
			if seen[entry.Digest] {
				continue
			}
			if len(all) == maxImages {
				return fmt.Errorf("index %s has more than %d entries", d, maxImages)
			}
			seen[entry.Digest] = true
			all = append(all, entry.Digest)
			if entry.MediaType == layer.MediaTypeIndex || entry.MediaType == layer.DockerManifestList {
				if err := walk(entry.Digest, depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err = walk(d, 0)
	return all, err
}
