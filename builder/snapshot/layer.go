package snapshot

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/once"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Layer is one layer of a stack. Its blob, listing and tree are made when they are first
// needed.
type Layer struct {
	m       *Manager
	origin  *origin   // nil if the blob can be in the store only
	isImage bool      // the layer came with an image
	created time.Time // of a layer that was built; zero for those of images

	settled chan struct{} // closed when blob and err are final
	blob    layer.Descriptor
	err     error

	listing once.Value[*listing.Listing]

	mu      sync.Mutex // one fetch or unpacking at a time
	pending *pending   // the changes of a step; nil once the blob is final
	tree    string     // the directory; "" if it was not needed yet
	// times has the exact mtimes of a layer that no command made. They are complete once
	// the layer is settled. exact has those of directories, links and empty files by path.
	times *tarball.Times
	exact map[string]time.Time
}

// Changes is the content of a layer before it is written.
type Changes interface {
	Len() int    // the number of changes
	Size() int64 // the total size of the regular files, in bytes
	// All returns the changes in the order of a layer, with nil errors. It can be called
	// more than once, also concurrently.
	All() iter.Seq2[tarball.Change, error]
	Close() // releases the files that the changes are read from
}

// pending is a layer that has no blob yet.
type pending struct {
	changes Changes
}

// storedLayer returns a layer of a known blob.
func (m *Manager) storedLayer(b layer.Descriptor) *Layer {
	l := &Layer{m: m, blob: b, settled: make(chan struct{})}
	close(l.settled)
	return l
}

// Stored returns the layer that a step built at the given time, whose blob the store has.
func (m *Manager) Stored(b layer.Descriptor, created time.Time) *Layer {
	l := m.storedLayer(b)
	l.created = created
	return l
}

// Blob describes the layer's blob. It waits for a pipeline, but does not fetch.
func (l *Layer) Blob(ctx context.Context) (layer.Descriptor, error) {
	select {
	case <-l.settled:
		return l.blob, l.err
	case <-ctx.Done():
		return layer.Descriptor{}, context.Cause(ctx)
	}
}

// Created returns the time when the layer was built. It is zero for layers of images.
func (l *Layer) Created() time.Time { return l.created }

// Ref returns the reference of an image in a registry that has the layer's blob, or "".
func (l *Layer) Ref() string {
	if l.origin == nil {
		return ""
	}
	return l.origin.ref
}

// Open reads the layer's blob, from the store or else from its origin without keeping
// it. Reading reports a blob that does not match its digest as an error.
func (l *Layer) Open(ctx context.Context) (io.ReadCloser, error) {
	b, err := l.Blob(ctx)
	if err != nil {
		return nil, err
	}
	f, err := l.m.Store.OpenVerified(b.Digest)
	if err == nil || l.origin == nil {
		return f, err
	}
	return l.m.openOrigin(ctx, l.origin, b)
}

// EarlyListing returns the layer's listing as soon as its paths are known. The files of
// a layer that is being compressed have no digests.
func (l *Layer) EarlyListing(ctx context.Context) (*listing.Listing, error) {
	if x, err := l.pendingListing(); x != nil || err != nil {
		return x, err
	}
	return l.Listing(ctx)
}

// pendingListing lists a layer that has no blob yet. It returns nil if the layer has one.
func (l *Layer) pendingListing() (*listing.Listing, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == nil {
		return nil, nil
	}
	x := &listing.Listing{Entries: make([]listing.Entry, 0, l.pending.changes.Len())}
	for c := range l.pending.changes.All() {
		x.Entries = append(x.Entries, c.Entry)
		if err := readContent(&x.Entries[len(x.Entries)-1], c); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// readContent sets the content of the files that a listing carries, such as etc/passwd.
func readContent(e *listing.Entry, c tarball.Change) error {
	if !listing.CarriesContent(e.Path) || e.Type != listing.TypeFile || e.Size == 0 || e.Size > listing.MaxContent {
		return nil
	}
	f, err := c.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	e.Content, err = io.ReadAll(io.LimitReader(f, listing.MaxContent))
	if err != nil {
		return fmt.Errorf("reading %s: %w", e.Path, err)
	}
	return nil
}

// Listing returns the layer's listing with digests. It waits for the pipeline. If the
// store has no listing it reads the blob, which fetches it.
func (l *Layer) Listing(ctx context.Context) (*listing.Listing, error) {
	b, err := l.Blob(ctx)
	if err != nil {
		return nil, err
	}
	return l.listing.Do(ctx, func() (*listing.Listing, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if x, err := l.m.Store.Listing(b.DiffID); err == nil {
			return x, nil
		}
		if l.m.Listings != nil {
			if x := l.m.Listings(ctx, b.DiffID); x != nil {
				return x, nil // for this build only: not every writer of the cache is trusted
			}
		}
		var x *listing.Listing
		bound := l.m.Limits.Layer(b)
		err := l.read(ctx, b, func(r io.Reader) (err error) {
			x, err = tarball.Scan(r, bound.Limits)
			return bound.Explain(err)
		})
		if err != nil {
			return nil, err
		}
		return x, l.m.Store.PutListing(b.DiffID, x)
	})
}

// isSettled reports whether the layer's blob is known, or failed to be written.
func (l *Layer) isSettled() bool {
	select {
	case <-l.settled:
		return true
	default:
		return false
	}
}

// release drops the changes, which the blob replaces.
func (l *Layer) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending.changes.Close()
	l.pending = nil
}
