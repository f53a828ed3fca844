package remote

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/retry"
)

const (
	// patience is the time for which a writer tries to get in between others. One of
	// several writers succeeds at each attempt, so it is enough for a thousand that
	// begin at once.
	patience = 10 * time.Minute

	firstPause   = 20 * time.Millisecond
	longestPause = 2 * time.Second
)

// sightings is the number of images of other writers in a row that must have the content
// of a writer, unless one of them stays.
const sightings = 6

// kept reports whether the images of other writers keep the content of one. look
// reports whether the image that is there now has it. A single image does not show that:
// it can be overwritten by a writer that had read an older one, until it has stayed for
// longer than a write takes, or until many were made from each other.
func kept(ctx context.Context, at backend, took time.Duration, look func() (bool, layer.Digest, error)) (bool, error) {
	for range sightings {
		has, digest, err := look()
		if err != nil || !has {
			return false, err
		}
		if err := at.settle(ctx, took); err != nil {
			return false, err
		}
		if now, err := at.digest(ctx); err != nil || now == digest {
			return err == nil, err
		}
	}
	return true, nil
}

// rivals counts the attempts at which other writers were faster.
type rivals struct {
	lost  int
	since time.Time // the first of them
}

// wait waits a random time before the next attempt. The limit of the time grows with the
// number of attempts, so that many writers do not all try at once, but only for a
// while, so that one which has waited long has the same chance as a new one.
func (r *rivals) wait(ctx context.Context) error {
	if r.lost == 0 {
		r.since = time.Now()
	}
	r.lost++
	if waited := time.Since(r.since); waited > patience {
		return fmt.Errorf("other builds update it all the time; gave up after %d attempts in %v: use a name of its own for each target or branch", r.lost, waited.Round(time.Second))
	}
	longest := min(firstPause<<min(r.lost, 16), longestPause)
	return retry.Sleep(ctx, rand.N(longest))
}
