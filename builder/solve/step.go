// Package solve finds the result of each step of a build, once.
//
// A [Step] is a value: it says what to do (Op) and on what (In). It has a key
// before it has a result, and two keys at that. The recipe key covers every
// input by its own recipe and needs nothing to be run. The content key covers
// the inputs of which only a selection is used (COPY, bind mounts) by the
// content of that selection. A [Solver] looks a step up by recipe, then by
// content, and runs it only when both miss. So a stage whose result is known
// is not rebuilt just to learn a key, and a rebuilt stage that gives the same
// bytes is a hit for all that follows (early cutoff, the idea of the go
// command's build cache).
//
// The package knows nothing of images: what a result is, how it is stored,
// observed and made is the [Runner]'s affair.
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
	Op    string  // what to do: canonical JSON, part of the key
	Extra string  // what the runner needs besides and no key covers: proxies, references, names
	In    []Input // what it is done on
	Fresh bool    // run it, and what uses it whole, even where a result is known; the new one is filed as ever
}

// Input is a step whose result another step uses.
type Input struct {
	Step *Step
	Sel  string // the selection that is used, canonical JSON; "" means all of it
}

// Key names a step's result: lower-case hex of a SHA-256.
type Key string

// keyer hashes structured data: every field is preceded by its length, so that
// no two different sequences of fields give the same bytes.
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
