// Package signature signs images in registries and verifies signatures, with keys and in
// the formats of cosign.
//
// A signature is a sigstore bundle, attached to the image as a referrer, or a classic one
// under the tag sha256-DIGEST.sig. Keys are files or variables. Certificates of Fulcio and
// the transparency log Rekor are not used.
package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	maxKey     = 64 << 10 // bytes of a file
	minRSABits = 2048
	maxRSABits = 16384
)

// Signer is a private key, ECDSA P-256.
type Signer struct{ key *ecdsa.PrivateKey }

// PublicKey is a key that verifies signatures: ECDSA P-256, Ed25519 or RSA.
type PublicKey struct {
	key crypto.PublicKey
	der []byte // SubjectPublicKeyInfo
}

// LoadSigner reads a private key in PEM from a file or env://VARIABLE: PKCS #8, SEC 1, or
// encrypted by cosign. password is called for an encrypted one.
func LoadSigner(from string, password func() ([]byte, error)) (*Signer, error) {
	text, err := readKey(from)
	if err != nil {
		return nil, err
	}
	s, err := parseSigner(text, password)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", from, err)
	}
	return s, nil
}

// LoadPublicKey reads a public key in PEM from a file or env://VARIABLE.
func LoadPublicKey(from string) (*PublicKey, error) {
	text, err := readKey(from)
	if err != nil {
		return nil, err
	}
	k, err := parsePublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("public key %s: %w", from, err)
	}
	return k, nil
}

func readKey(from string) ([]byte, error) {
	if name, ok := strings.CutPrefix(from, "env://"); ok {
		text, ok := os.LookupEnv(name)
		if !ok || text == "" {
			return nil, fmt.Errorf("reading key %s: the variable %s is not set", from, name)
		}
		return []byte(text), nil
	}
	if scheme, _, ok := strings.Cut(from, "://"); ok {
		return nil, fmt.Errorf("reading key %s: keys of %s are not supported: want a file, or env://VARIABLE", from, scheme)
	}
	f, err := os.Open(from)
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err == nil && len(text) > maxKey {
		err = fmt.Errorf("it has more than %d bytes", maxKey)
	}
	if err != nil {
		return nil, fmt.Errorf("reading key %s: %w", from, err)
	}
	return text, nil
}

func parseSigner(text []byte, password func() ([]byte, error)) (*Signer, error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errors.New("no private key in PEM: want PKCS #8, SEC 1 or one of cosign generate-key-pair")
		}
		text = rest
		switch block.Type {
		case "EC PARAMETERS": // openssl writes them before the key
			continue
		case "EC PRIVATE KEY":
			k, err := x509.ParseECPrivateKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("parse SEC 1: %w", err)
			}
			return newSigner(k)
		case "PRIVATE KEY":
			return parsePKCS8(block.Bytes)
		case "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
			der, err := decryptKey(block.Bytes, password)
			if err != nil {
				return nil, err
			}
			return parsePKCS8(der)
		case "PUBLIC KEY":
			return nil, errors.New("it is a public key, and signing needs the private one")
		default:
			return nil, fmt.Errorf("PEM block %.100q is not supported: want PRIVATE KEY, EC PRIVATE KEY or ENCRYPTED SIGSTORE PRIVATE KEY", block.Type)
		}
	}
}

func parsePKCS8(der []byte) (*Signer, error) {
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("parse PKCS #8: %w", err)
	}
	return newSigner(k)
}

func newSigner(key any) (*Signer, error) {
	k, ok := key.(*ecdsa.PrivateKey)
	if !ok || k.Curve != elliptic.P256() {
		return nil, fmt.Errorf("it is %s, and only ECDSA P-256 can sign", describe(key))
	}
	return &Signer{k}, nil
}

// describe names the type of a key.
func describe(key any) string {
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		return "ECDSA " + k.Curve.Params().Name
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *rsa.PrivateKey:
		return fmt.Sprintf("RSA of %d bits", k.N.BitLen())
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA of %d bits", k.N.BitLen())
	case ed25519.PrivateKey, ed25519.PublicKey:
		return "Ed25519"
	}
	return "a key of another algorithm"
}

func parsePublicKey(text []byte) (*PublicKey, error) {
	block, _ := pem.Decode(text)
	switch {
	case block == nil:
		return nil, errors.New("no public key in PEM")
	case block.Type == "CERTIFICATE":
		return nil, errors.New("certificates are not supported: want the public key in PEM")
	case block.Type != "PUBLIC KEY":
		return nil, fmt.Errorf("PEM block %.100q is not supported: want PUBLIC KEY", block.Type)
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	return newPublicKey(k)
}

func newPublicKey(key any) (*PublicKey, error) {
	ok := false
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		ok = k.Curve == elliptic.P256()
	case *rsa.PublicKey:
		ok = k.N.BitLen() >= minRSABits && k.N.BitLen() <= maxRSABits
	case ed25519.PublicKey:
		ok = true
	}
	if !ok {
		return nil, fmt.Errorf("it is %s: want ECDSA P-256, Ed25519 or RSA of %d to %d bits", describe(key), minRSABits, maxRSABits)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return &PublicKey{key, der}, nil
}

// Public returns the public key.
func (s *Signer) Public() *PublicKey {
	k, err := newPublicKey(&s.key.PublicKey)
	if err != nil {
		panic(err) // newSigner has checked the key
	}
	return k
}

func (s *Signer) sign(message []byte) ([]byte, error) {
	sum := sha256.Sum256(message)
	return ecdsa.SignASN1(rand.Reader, s.key, sum[:])
}

// Hint identifies the key, as cosign does: the SHA-256 of its SubjectPublicKeyInfo in
// base64.
func (k *PublicKey) Hint() string {
	sum := sha256.Sum256(k.der)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// verifies reports whether sig is a signature of message by the key. The key alone
// determines the algorithm.
func (k *PublicKey) verifies(message, sig []byte) bool {
	sum := sha256.Sum256(message)
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, sum[:], sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(key, message, sig)
	}
	return false
}
