package signature

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/layer"
)

// The files of testdata/cosign were made with cosign 3.1.3: a key with the password
// "secret", and signatures by cosign sign and cosign attest. The files accepted*.json are
// signatures by cairn.key that cosign verify has accepted.
func golden(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/cosign", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCosignSignatures(t *testing.T) {
	t.Parallel()
	const image = layer.Digest("sha256:fcdfc19a814fc57fbe2b565566fa2d5d5272da2c99411079e66e559444ee7b77")
	signer, err := LoadSigner("testdata/cosign/cosign.key", func() ([]byte, error) { return []byte("secret"), nil })
	if err != nil {
		t.Fatal(err)
	}
	key, err := LoadPublicKey("testdata/cosign/cosign.pub")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(signer.Public().der, key.der) {
		t.Error("the private key has another public key")
	}
	for name, predicateType := range map[string]string{"signature.json": SignType, "attestation.json": "https://spdx.dev/Document"} {
		raw := golden(t, name)
		statement, err := openBundle(raw, []*PublicKey{key})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := checkStatement(statement, image, predicateType); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := openBundle(raw, []*PublicKey{newTestSigner(t).Public()}); err == nil {
			t.Errorf("%s: another key is accepted", name)
		}
	}
	payload := golden(t, "classic.json")
	sig := must(decodeBase64("MEQCICpSkBW+1Ccm5M7V3U9SiBsgPVRZ/oHOjlrmJwlRGvTHAiBY/0zlZ9F/H8AYswS/eRkVrMrT3BOHzZty6TqAkeBpfQ=="))
	if !key.verifies(payload, sig) || key.verifies(append(payload, ' '), sig) {
		t.Error("classic signature")
	}
	if err := checkSimple(payload, "sha256:05c0d70a03072923137afe6742dab694b5cffb814a192bceb9c5dca636189d5a"); err != nil {
		t.Error(err)
	}
}

// TestAcceptedByCosign checks that signatures still have the form that cosign has accepted;
// only the random signature bytes differ.
func TestAcceptedByCosign(t *testing.T) {
	t.Parallel()
	signer, err := LoadSigner("testdata/cosign/cairn.key", nil)
	if err != nil {
		t.Fatal(err)
	}
	statement := must(newStatement("sha256:394fcdd1dbed17abfc572adaecafd3e5d2a0f1b6dd2a0ce6947e5ea6a202e427"))
	var got, want map[string]any
	for raw, to := range map[string]*map[string]any{string(must(signer.seal(statement))): &got, string(golden(t, "accepted.json")): &want} {
		if _, err := openBundle([]byte(raw), []*PublicKey{signer.Public()}); err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal([]byte(raw), to); err != nil {
			t.Fatal(err)
		}
		(*to)["dsseEnvelope"].(map[string]any)["signatures"].([]any)[0].(map[string]any)["sig"] = "random"
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("bundle (-accepted +new):\n%s", d)
	}
	payload := must(newSimple("127.0.0.1:5077/x/c", "sha256:3a104c54447c9432e54141698cd4e819f6b7b1dc9588006c504a22d84d1d023d"))
	if d := cmp.Diff(string(golden(t, "accepted-classic.json")), string(payload)); d != "" {
		t.Errorf("payload (-accepted +new):\n%s", d)
	}
}
