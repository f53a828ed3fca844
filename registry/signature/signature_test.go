package signature

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
)

// withoutReferrers is a registry that does not know the referrers API.
func withoutReferrers(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			http.Error(w, "404 page not found", http.StatusNotFound)
			return
		}
		h.ServeHTTP(&hideSubject{ResponseWriter: w}, r)
	})
}

type hideSubject struct{ http.ResponseWriter }

func (h *hideSubject) WriteHeader(status int) {
	h.Header().Del("OCI-Subject")
	h.ResponseWriter.WriteHeader(status)
}

// place is a repository with an image.
type place struct {
	t      testing.TB
	client *registry.Client
	ref    string
	image  imagetest.Image
	m      *registry.Manifests
}

func newPlace(t testing.TB, wrap func(http.Handler) http.Handler) *place {
	t.Helper()
	h := registrytest.Handler(t, server.Options{})
	if wrap != nil {
		h = wrap(h)
	}
	s := imagetest.Serve(t, h)
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	p := &place{t: t, client: client, ref: s.Host + "/me/app:1"}
	p.image = p.push(p.ref, "content")
	if p.m, err = client.Manifests(p.ref, true); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) push(ref, content string) imagetest.Image {
	p.t.Helper()
	img := imagetest.New(p.t, "amd64", false, content)
	push, err := p.client.NewPush(ref)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, b := range img.Layers {
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(img.Blobs[b.Digest])), nil }
		if err := push.Blob(p.t.Context(), b, registry.Source{Open: open}, nil); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := push.Image(p.t.Context(), img.Image); err != nil {
		p.t.Fatal(err)
	}
	return img
}

func (p *place) verify(k *PublicKey) error {
	return Verifier{p.client, []*PublicKey{k}}.Image(p.t.Context(), p.ref, p.image.Digest)
}

func (p *place) wantError(err error, want string) {
	p.t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		p.t.Errorf("error %v, want %q", err, want)
	}
}

// attach attaches content to the image as a referrer.
func (p *place) attach(content []byte, change func(*signatureManifest)) {
	p.t.Helper()
	ctx := p.t.Context()
	config := must(p.m.PutBlob(ctx, []byte("{}")))
	blob := must(p.m.PutBlob(ctx, content))
	m := signatureManifest{
		SchemaVersion: 2, MediaType: layer.MediaTypeManifest, ArtifactType: BundleType, Config: signedLayer{MediaType: emptyType, Digest: config.Digest, Size: 2},
		Layers:  []signedLayer{{MediaType: BundleType, Digest: blob.Digest, Size: blob.Size}},
		Subject: &signedLayer{MediaType: layer.MediaTypeManifest, Digest: p.image.Digest, Size: int64(len(p.image.Manifest))},
	}
	if change != nil {
		change(&m)
	}
	raw := must(json.Marshal(m))
	r := registry.Referrer{MediaType: m.MediaType, Digest: layer.FromBytes(raw), Size: int64(len(raw)), ArtifactType: m.ArtifactType}
	if err := p.m.Attach(ctx, m.Subject.Digest, r, raw); err != nil {
		p.t.Fatal(err)
	}
}

// TestRoundTrip checks signatures in both formats on registries with and without the
// referrers API, that a second signature by the same key is not written, and that other
// keys' signatures stay.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(http.Handler) http.Handler{"referrers": nil, "fallback": withoutReferrers} {
		for _, format := range []Format{Bundle, Classic, Both} {
			t.Run(name+"/"+string(format), func(t *testing.T) {
				t.Parallel()
				p := newPlace(t, wrap)
				one, two := newTestSigner(t), newTestSigner(t)
				if err := p.verify(one.Public()); !errors.Is(err, ErrUnsigned) {
					t.Errorf("unsigned: %v", err)
				}
				for _, s := range []*Signer{one, one, two} {
					if err := s.Sign(t.Context(), p.client, p.ref, p.image.Digest, format); err != nil {
						t.Fatal(err)
					}
				}
				for _, s := range []*Signer{one, two} {
					if err := p.verify(s.Public()); err != nil {
						t.Error(err)
					}
				}
				p.wantError(p.verify(newTestSigner(t).Public()), "the signature is not by the key")
				found, err := p.client.Referrers(t.Context(), p.ref, p.image.Digest, BundleType)
				if want := 2; err != nil || len(found) != want && format != Classic {
					t.Errorf("%d bundles, want %d, %v", len(found), want, err)
				}
				if _, err := p.m.Get(t.Context(), "sha256-"+p.image.Digest.Hex()); (err == nil) != (name == "fallback" && format != Classic) {
					t.Errorf("fallback tag: %v", err)
				}
				other := p.push(p.ref, "other")
				p.image = other // the tag has moved
				if err := p.verify(one.Public()); !errors.Is(err, ErrUnsigned) {
					t.Errorf("another image: %v", err)
				}
			})
		}
	}
}

// sealed returns a bundle of a statement, changed by change.
func sealed(s *Signer, statement string, change func(*bundle)) []byte {
	var b bundle
	if err := json.Unmarshal(must(s.seal([]byte(statement))), &b); err != nil {
		panic(err)
	}
	if change != nil {
		change(&b)
	}
	return must(json.Marshal(b))
}

// TestHostileBundles checks that none of the bundles is taken as a signature, and the
// reason that the error gives.
func TestHostileBundles(t *testing.T) {
	t.Parallel()
	s, other := newTestSigner(t), newTestSigner(t)
	img := imagetest.New(t, "amd64", false, "content").Digest
	good := string(must(newStatement(img)))
	elsewhere := string(must(newStatement(layer.FromBytes([]byte("other")))))
	rsaLike := base64.StdEncoding.EncodeToString(make([]byte, 256))
	for _, test := range []struct {
		name, want string
		raw        []byte
		manifest   func(*signatureManifest)
	}{
		{"another key", "not by the key", sealed(other, good, nil), nil},
		{"another image", `it signs another image, "sha256:` + layer.FromBytes([]byte("other")).Hex(), sealed(s, elsewhere, nil), nil},
		{"payload exchanged", "not by the key", sealed(s, elsewhere, func(b *bundle) { b.Envelope.Payload = base64.StdEncoding.EncodeToString([]byte(good)) }), nil},
		{"another digest of the subject", "it signs another image", sealed(s, strings.Replace(good, `"sha256":"`, `"sha512":"`, 1), nil), nil},
		{"signed SBOM", `it signs a statement of type "https://spdx.dev/Document"`, sealed(s, strings.Replace(good, SignType, "https://spdx.dev/Document", 1), nil), nil},
		{"no subject", "its statement has no subject", sealed(s, `{"_type":"https://in-toto.io/Statement/v1","predicateType":"`+SignType+`"}`, nil), nil},
		{"another statement", `its statement has type "x"`, sealed(s, `{"_type":"x"}`, nil), nil},
		{"statement not JSON", "parse statement", sealed(s, "x", nil), nil},
		{"another payload type", `its payload has type "text/plain"`, sealed(s, good, func(b *bundle) { b.Envelope.PayloadType = "text/plain" }), nil},
		{"no signature", "has 0 signatures", sealed(s, good, func(b *bundle) { b.Envelope.Signatures = nil }), nil},
		{"two signatures", "has 2 signatures", sealed(s, good, func(b *bundle) { b.Envelope.Signatures = append(b.Envelope.Signatures, b.Envelope.Signatures[0]) }), nil},
		{"empty signature", "not by the key", sealed(s, good, func(b *bundle) { b.Envelope.Signatures[0].Sig = "" }), nil},
		{"signature of another algorithm", "not by the key", sealed(s, good, func(b *bundle) { b.Envelope.Signatures[0].Sig = rsaLike }), nil},
		{"signature not base64", "signature: not base64", sealed(s, good, func(b *bundle) { b.Envelope.Signatures[0].Sig = "%" }), nil},
		{"certificate", "with a certificate (keyless)", sealed(other, good, func(b *bundle) { b.VerificationMaterial.Certificate = json.RawMessage("{}") }), nil},
		{"no envelope", "it has no DSSE envelope", sealed(s, good, func(b *bundle) { b.Envelope = nil }), nil},
		{"both contents", "it has both a DSSE envelope and a signature of a message", sealed(s, good, func(b *bundle) { b.Message = json.RawMessage("{}") }), nil},
		{"another media type", "its media type is", sealed(s, good, func(b *bundle) { b.MediaType = "text/plain" }), nil},
		{"not JSON", "parse bundle", []byte("\x1b[2J"), nil},
		{"gigantic", "it has 1048577 bytes", make([]byte, maxSignature+1), nil},
		{"deep", "parse bundle", []byte(strings.Repeat("[", 500_000)), nil},
		{"wrong size", "", sealed(s, good, nil), func(m *signatureManifest) { m.Layers[0].Size++ }},
		{"negative size", "it has -1 bytes", sealed(s, good, nil), func(m *signatureManifest) { m.Layers[0].Size = -1 }},
		{"two layers", "has 2 layers", sealed(s, good, nil), func(m *signatureManifest) { m.Layers = append(m.Layers, m.Layers[0]) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, nil)
			if p.image.Digest != img {
				t.Fatal("images differ")
			}
			p.attach(test.raw, test.manifest)
			err := p.verify(s.Public())
			p.wantError(err, test.want)
			if err != nil && strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("control characters in %q", err)
			}
			if err := s.Sign(t.Context(), p.client, p.ref, img, Bundle); err != nil { // a bad bundle does not prevent a good one
				t.Fatal(err)
			}
			if err := p.verify(s.Public()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHostileClassic is TestHostileBundles for the classic tag.
func TestHostileClassic(t *testing.T) {
	t.Parallel()
	s, other := newTestSigner(t), newTestSigner(t)
	for _, test := range []struct {
		name, want string
		change     func(payload []byte, l *signedLayer) []byte
		by         *Signer
	}{
		{"another key", "not by the key", nil, other},
		{"another image", `it signs another image, "sha256:1111`, func(b []byte, _ *signedLayer) []byte {
			i := bytes.Index(b, []byte("sha256:"))
			return append(append(b[:i:i], "sha256:"+strings.Repeat("1", 64)...), b[i+71:]...)
		}, s},
		{"another type", `its payload has type "atomic`, func(b []byte, _ *signedLayer) []byte {
			return bytes.Replace(b, []byte(simpleType), []byte("atomic container signature"), 1)
		}, s},
		{"another layer", "its layer has type", func(b []byte, l *signedLayer) []byte { l.MediaType = layer.MediaTypeTar; return b }, s},
		{"not JSON", "parse payload", func([]byte, *signedLayer) []byte { return []byte("x") }, s},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, ctx := newPlace(t, nil), t.Context()
			l := signedLayer{MediaType: classicType}
			payload := must(newSimple("r", p.image.Digest))
			if test.change != nil {
				payload = test.change(payload, &l)
			}
			blob := must(p.m.PutBlob(ctx, payload))
			l.Digest, l.Size = blob.Digest, blob.Size
			l.Annotations = map[string]string{classicAnnotation: base64.StdEncoding.EncodeToString(must(test.by.sign(payload)))}
			config := must(p.m.PutBlob(ctx, []byte("{}")))
			raw := must(json.Marshal(signatureManifest{SchemaVersion: 2, MediaType: layer.MediaTypeManifest, Config: signedLayer{MediaType: layer.MediaTypeConfig, Digest: config.Digest, Size: 2}, Layers: []signedLayer{l}}))
			if err := p.m.Put(ctx, "sha256-"+p.image.Digest.Hex()+".sig", layer.Image{MediaType: layer.MediaTypeManifest, Digest: layer.FromBytes(raw), Manifest: raw}); err != nil {
				t.Fatal(err)
			}
			p.wantError(p.verify(s.Public()), test.want)
			if err := s.Sign(ctx, p.client, p.ref, p.image.Digest, Classic); err != nil {
				t.Fatal(err)
			}
			if err := p.verify(s.Public()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestManyBundles checks that a flood of bundles is an error and not endless work.
func TestManyBundles(t *testing.T) {
	t.Parallel()
	list := func(n int) string {
		var all []registry.Referrer
		for i := range n {
			all = append(all, registry.Referrer{MediaType: layer.MediaTypeManifest, Digest: layer.FromBytes(fmt.Append(nil, i)), ArtifactType: BundleType})
		}
		return string(must(json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": layer.MediaTypeIndex, "manifests": all})))
	}
	p := newPlace(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "/referrers/") {
				h.ServeHTTP(w, r)
				return
			}
			_, _ = io.WriteString(w, list(maxCandidates+5))
		})
	})
	p.wantError(p.verify(newTestSigner(t).Public()), "and others")
}

// TestAttestation checks that a signed statement of another type is no attestation of the
// type that is asked for.
func TestAttestation(t *testing.T) {
	t.Parallel()
	p, s := newPlace(t, nil), newTestSigner(t)
	const spdx = "https://spdx.dev/Document"
	v := Verifier{p.client, []*PublicKey{s.Public()}}
	if err := s.Sign(t.Context(), p.client, p.ref, p.image.Digest, Bundle); err != nil {
		t.Fatal(err)
	}
	if err := v.Attestation(t.Context(), p.ref, p.image.Digest, spdx); !errors.Is(err, ErrUnsigned) {
		t.Errorf("signature only: %v", err)
	}
	p.attach(sealed(s, strings.Replace(string(must(newStatement(p.image.Digest))), SignType, spdx, 1), nil), nil)
	if err := v.Attestation(t.Context(), p.ref, p.image.Digest, spdx); err != nil {
		t.Error(err)
	}
}

// TestMembers checks nested indexes, and that deep ones are an error.
func TestMembers(t *testing.T) {
	t.Parallel()
	p := newPlace(t, nil)
	top := layer.Image{MediaType: layer.MediaTypeManifest, Digest: p.image.Digest, Manifest: p.image.Manifest}
	for depth := 1; depth <= maxNesting+1; depth++ {
		raw := must(json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": layer.MediaTypeIndex, "manifests": []signedLayer{
			{MediaType: top.MediaType, Digest: top.Digest, Size: int64(len(top.Manifest))}, {MediaType: layer.MediaTypeManifest, Digest: p.image.Digest, Size: int64(len(p.image.Manifest))},
		}}))
		top = layer.Image{MediaType: layer.MediaTypeIndex, Digest: layer.FromBytes(raw), Manifest: raw}
		if err := p.m.Put(t.Context(), string(top.Digest), top); err != nil {
			t.Fatal(err)
		}
		all, err := Members(context.WithoutCancel(t.Context()), p.client, p.ref, top.Digest)
		if depth > maxNesting {
			p.wantError(err, "nested more than 3 deep")
		} else if err != nil || len(all) != depth {
			t.Errorf("depth %d: %v, %v", depth, all, err)
		}
	}
}

func FuzzBundle(f *testing.F) {
	s := must(newSigner(newKey(f, elliptic.P256())))
	d := layer.FromBytes([]byte("image"))
	f.Add(sealed(s, string(must(newStatement(d))), nil))
	f.Add([]byte(`{"mediaType":"` + BundleType + `","dsseEnvelope":{"payload":"e30=","payloadType":"` + statementType + `","signatures":[{"sig":"MEUCIQ=="}]}}`))
	f.Add([]byte(`{"messageSignature":{},"verificationMaterial":{"certificate":{"rawBytes":""}}}`))
	key := newTestSigner(f).Public()
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := openBundle(raw, []*PublicKey{key}); err == nil {
			t.Errorf("a signature by a key that has signed nothing: %q", raw)
		}
	})
}

func FuzzStatement(f *testing.F) {
	d := layer.FromBytes([]byte("image"))
	f.Add(must(newStatement(d)))
	f.Add(must(newSimple("registry.example/app", d)))
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"` + SignType + `","subject":[{"digest":{"sha256":"x"}},{"digest":null}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, err := range []error{checkStatement(raw, d, SignType), checkSimple(raw, d)} {
			if err == nil && !bytes.Contains(bytes.ToLower(raw), []byte("sha256")) && !bytes.Contains(raw, []byte(`\u`)) {
				t.Errorf("accepted without the digest: %q", raw)
			}
		}
	})
}

func FuzzKey(f *testing.F) {
	f.Add([]byte(encrypt([]byte("x"), "p", nil)))
	f.Add([]byte(block("EC PRIVATE KEY", []byte{0x30, 0})))
	f.Add(pemOf(newTestSigner(f)))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _ = parsePublicKey(text)
		s, err := parseSigner(text, func() ([]byte, error) { return nil, errors.New("no password") })
		if err == nil {
			_ = s.Public().Hint()
		}
	})
}

// pemOf returns the public key of s in PEM.
func pemOf(s *Signer) []byte { return []byte(block("PUBLIC KEY", s.Public().der)) }
