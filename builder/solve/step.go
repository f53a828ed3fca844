// Package solve computes the result of each step of a build once, from the cache if
// possible.
//
// A [Step] is an operation (Op) on inputs (In). It has two cache keys, both known
// before it runs. The recipe key consists of the operation and the recipe keys of
// the inputs, so computing it runs nothing. The content key has the digest of the
// selected files instead, for inputs of which a step uses only a part (COPY, bind
// mounts). BuildKit calls them the definition-based and the content-based cache key.
//
// A [Solver] looks a step up by its recipe key, then by its content key, and runs it
// only if both miss. So it does not rebuild a cached stage only to compute a key, and
// a rebuilt stage with the same bytes as before is a hit for the steps that follow
// (early cutoff, as in the go command's build cache).
//
// The package does not depend on images: a [Runner] defines the type of results and how
// they are stored, observed and made.
package solve

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
)

// Step is one operation on the results of other steps.
// Steps form a graph without cycles; they must not change once solved.
type Step struct {
	Op      string  // operation, as canonical JSON; part of the key
	Extra   string  // data for the runner that is not part of the key: proxies, references, names
	In      []Input // inputs of the operation
	NoCache bool    // run the step, and all that use its whole result, without looking up cached results
}

// Input is a step whose result another step uses.
type Input struct {
	Step *Step
	Sel  string // the part that is used, as canonical JSON; "" means the whole result
}

// Key is a cache key: a SHA-256 in lower-case hex.
type Key string

// keyer hashes a sequence of fields. Each is preceded by its length, so that
// different sequences are different bytes.
type keyer struct{ h hash.Hash }

func newKeyer(kind string) keyer {
	k := keyer{sha256.New()}
	k.add(kind)
	return k
}

func (k keyer) add(fields ...string) {
	var n [8]byte
	for _, f := range fields {
		binary.BigEndian.PutUint64(n[:], uint64(len(f)))
		k.h.Write(n[:])
		k.h.Write([]byte(f))
	}
}

func (k keyer) sum() Key { return Key(hex.EncodeToString(k.h.Sum(nil))) }
