// Package layer holds the values that images consist of: digests, descriptors of
// layers, platforms, manifests, configs and indexes.
//
// All of them are plain data: nothing reads a disk or a network. Digests and
// descriptors from outside are validated before use, because they become file names
// and URLs.
package layer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// Digest identifies bytes by their hash: "sha256:" and 64 lower-case hex digits.
type Digest string

const digestPrefix = "sha256:"

// Validate returns an error if d does not have exactly the form of a digest.
func (d Digest) Validate() error {
	hexPart, ok := strings.CutPrefix(string(d), digestPrefix)
	if !ok {
		return fmt.Errorf("digest %.100q: only sha256 is supported", string(d))
	}
	if len(hexPart) != 2*sha256.Size {
		return fmt.Errorf("digest %.100q: want 64 hex digits, have %d", string(d), len(hexPart))
	}
	for _, c := range []byte(hexPart) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("digest %q: not lower-case hex", string(d))
		}
	}
	return nil
}

// Hex returns the part after "sha256:".
func (d Digest) Hex() string {
	return strings.TrimPrefix(string(d), digestPrefix)
}

// FromBytes returns the digest of b.
func FromBytes(b []byte) Digest {
	sum := sha256.Sum256(b)
	return FromSum(sum[:])
}

// FromHash returns the digest of the bytes written to h, a SHA-256.
func FromHash(h hash.Hash) Digest {
	var buf [sha256.Size]byte
	return FromSum(h.Sum(buf[:0]))
}

// FromSum returns the digest whose 32 raw bytes are sum.
func FromSum(sum []byte) Digest {
	var buf [len(digestPrefix) + 2*sha256.Size]byte
	n := copy(buf[:], digestPrefix)
	n += hex.Encode(buf[n:], sum[:sha256.Size])
	return Digest(buf[:n])
}

// ChainID returns the chain ID of a stack of layers, bottom first, as defined by the
// OCI image specification. It is empty for no layers.
func ChainID(diffIDs []Digest) Digest {
	if len(diffIDs) == 0 {
		return ""
	}
	chain := diffIDs[0]
	for _, d := range diffIDs[1:] {
		chain = FromBytes([]byte(string(chain) + " " + string(d)))
	}
	return chain
}
