package signature

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"

	"github.com/cairn-build/cairn/layer"
)

// encryptedKey is a private key that cosign generate-key-pair has encrypted with a
// password.
type encryptedKey struct {
	KDF struct {
		Name   string `json:"name"`
		Params struct {
			N int `json:"N"`
			R int `json:"r"`
			P int `json:"p"`
		} `json:"params"`
		Salt []byte `json:"salt"`
	} `json:"kdf"`
	Cipher struct {
		Name  string `json:"name"`
		Nonce []byte `json:"nonce"`
	} `json:"cipher"`
	Ciphertext []byte `json:"ciphertext"`
}

// maxScryptN limits the memory that a key file can demand, to 128 MiB.
const maxScryptN = 1 << 17

// decryptKey returns the PKCS #8 document.
func decryptKey(body []byte, password func() ([]byte, error)) ([]byte, error) {
	var k encryptedKey
	if err := layer.Unmarshal(body, &k); err != nil {
		return nil, fmt.Errorf("parse encrypted key: %w", err)
	}
	n := k.KDF.Params.N
	switch {
	case k.KDF.Name != "scrypt" || k.Cipher.Name != "nacl/secretbox":
		return nil, fmt.Errorf("key is encrypted with %.50q and %.50q: want scrypt and nacl/secretbox", k.KDF.Name, k.Cipher.Name)
	case n < 1<<14 || n > maxScryptN || n&(n-1) != 0 || k.KDF.Params.R != 8 || k.KDF.Params.P != 1:
		return nil, fmt.Errorf("key has scrypt parameters N=%d r=%d p=%d: want N of 16384 to %d, r=8, p=1", n, k.KDF.Params.R, k.KDF.Params.P, maxScryptN)
	case len(k.Cipher.Nonce) != 24:
		return nil, fmt.Errorf("nonce of the encrypted key has %d bytes, want 24", len(k.Cipher.Nonce))
	}
	secret, err := password()
	if err != nil {
		return nil, err
	}
	derived, err := scrypt.Key(secret, k.KDF.Salt, n, k.KDF.Params.R, k.KDF.Params.P, 32)
	if err != nil {
		return nil, err
	}
	der, ok := secretbox.Open(nil, k.Ciphertext, (*[24]byte)(k.Cipher.Nonce), (*[32]byte)(derived))
	if !ok {
		return nil, errors.New("the password is wrong, or the file is damaged")
	}
	return der, nil
}
