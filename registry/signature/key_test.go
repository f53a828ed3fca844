package signature

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"
)

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newTestSigner(t testing.TB) *Signer {
	t.Helper()
	s, err := newSigner(newKey(t, elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func block(kind string, body []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: body}))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// encrypt encrypts a key as cosign does, with changes to the document.
func encrypt(der []byte, password string, change func(*encryptedKey)) string {
	var k encryptedKey
	k.KDF.Name, k.Cipher.Name = "scrypt", "nacl/secretbox"
	k.KDF.Params.N, k.KDF.Params.R, k.KDF.Params.P = 1<<14, 8, 1
	k.KDF.Salt, k.Cipher.Nonce = []byte("salt"), make([]byte, 24)
	derived := must(scrypt.Key([]byte(password), k.KDF.Salt, 1<<14, 8, 1, 32))
	k.Ciphertext = secretbox.Seal(nil, der, (*[24]byte)(k.Cipher.Nonce), (*[32]byte)(derived))
	if change != nil {
		change(&k)
	}
	return block("ENCRYPTED SIGSTORE PRIVATE KEY", must(json.Marshal(k)))
}

func TestSigningKeys(t *testing.T) {
	t.Parallel()
	key := newKey(t, elliptic.P256())
	sec1, pkcs8 := must(x509.MarshalECPrivateKey(key)), must(x509.MarshalPKCS8PrivateKey(key))
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, text, want string }{
		{"PKCS 8", block("PRIVATE KEY", pkcs8), ""},
		{"SEC 1", block("EC PRIVATE KEY", sec1), ""},
		{"SEC 1 of openssl", block("EC PARAMETERS", []byte{6, 8}) + block("EC PRIVATE KEY", sec1), ""},
		{"encrypted", encrypt(pkcs8, "secret", nil), ""},
		{"encrypted, old name", strings.ReplaceAll(encrypt(pkcs8, "secret", nil), "SIGSTORE", "COSIGN"), ""},
		{"wrong password", encrypt(pkcs8, "other", nil), "the password is wrong"},
		{"demanding", encrypt(pkcs8, "secret", func(k *encryptedKey) { k.KDF.Params.N = 1 << 30 }), "scrypt parameters N=1073741824"},
		{"weak", encrypt(pkcs8, "secret", func(k *encryptedKey) { k.KDF.Params.N = 2 }), "scrypt parameters N=2"},
		{"parallel", encrypt(pkcs8, "secret", func(k *encryptedKey) { k.KDF.Params.P = 1 << 20 }), "p=1048576"},
		{"short nonce", encrypt(pkcs8, "secret", func(k *encryptedKey) { k.Cipher.Nonce = nil }), "nonce of the encrypted key has 0 bytes"},
		{"other cipher", encrypt(pkcs8, "secret", func(k *encryptedKey) { k.Cipher.Name = "none" }), `"none"`},
		{"short ciphertext", encrypt(pkcs8, "secret", func(k *encryptedKey) { k.Ciphertext = nil }), "the password is wrong, or the file is damaged"},
		{"encrypted nonsense", encrypt([]byte("x"), "secret", nil), "parse PKCS #8"},
		{"not JSON", block("ENCRYPTED SIGSTORE PRIVATE KEY", []byte("x")), "parse encrypted key"},
		{"P-384", block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(newKey(t, elliptic.P384())))), "it is ECDSA P-384, and only ECDSA P-256 can sign"},
		{"Ed25519", block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ed))), "it is Ed25519"},
		{"public", block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(key.Public()))), "it is a public key"},
		{"certificate", block("CERTIFICATE", pkcs8), "PEM block \"CERTIFICATE\" is not supported"},
		{"empty", "", "no private key in PEM"},
		{"damaged", block("EC PRIVATE KEY", sec1[:20]), "parse SEC 1"},
	} {
		s, err := parseSigner([]byte(test.text), func() ([]byte, error) { return []byte("secret"), nil })
		switch {
		case test.want != "":
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v, want %q", test.name, err, test.want)
			}
		case err != nil:
			t.Errorf("%s: %v", test.name, err)
		case !s.key.Equal(key):
			t.Errorf("%s: another key", test.name)
		}
	}
}

func TestPublicKeys(t *testing.T) {
	t.Parallel()
	public, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, ec := must(rsa.GenerateKey(rand.Reader, 2048)), newKey(t, elliptic.P256())
	pkix := func(k any) string { return block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(k))) }
	for _, test := range []struct{ name, text, want string }{
		{"P-256", pkix(ec.Public()), ""}, {"Ed25519", pkix(public), ""}, {"RSA", pkix(rsaKey.Public()), ""},
		{"P-521", pkix(newKey(t, elliptic.P521()).Public()), "it is ECDSA P-521: want ECDSA P-256"},
		{"certificate", block("CERTIFICATE", []byte("x")), "certificates are not supported"},
		{"private", block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ed))), "want PUBLIC KEY"},
		{"nothing", "x", "no public key in PEM"},
		{"nonsense", block("PUBLIC KEY", []byte("x")), "parse"},
	} {
		if _, err := parsePublicKey([]byte(test.text)); test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	short := rsaKey.PublicKey
	short.N = short.N.Rsh(short.N, 1024)
	if _, err := newPublicKey(&short); err == nil || !strings.Contains(err.Error(), "RSA of 1024 bits") {
		t.Errorf("short RSA key: %v", err)
	}
}

func TestReadKey(t *testing.T) {
	text := block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(newKey(t, elliptic.P256()))))
	t.Setenv("SIGNATURE_TEST_KEY", text)
	if _, err := LoadSigner("env://SIGNATURE_TEST_KEY", nil); err != nil {
		t.Error(err)
	}
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, maxKey+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{
		"env://SIGNATURE_TEST_NONE": "the variable SIGNATURE_TEST_NONE is not set", "awskms://x": "keys of awskms are not supported",
		"/nonexistent/key": "no such file or directory", big: "it has more than 65536 bytes",
	} {
		if _, err := LoadPublicKey(from); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", from, err, want)
		}
	}
}
