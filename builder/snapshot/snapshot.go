// Package snapshot keeps stacks of layers whose parts are made on demand.
//
// A [Layer] has a blob, a listing and a tree: its compressed tar, the attributes of its
// paths, and a directory in overlay form. A layer of an image begins as a descriptor;
// its blob is fetched, listed and unpacked when a caller first needs the result. A layer
// that a step made begins as a list of changes: it is compressed in the background while
// callers already read its listing and its tree.
//
// A [Stack] is an ordered list of layers. Steps start from a stack and return one, and a
// stored image is one. [Stack.View] merges the listings, [Stack.Trees] the
// directories, and [Stack.NewRoot] makes a writable root for a command: an overlay mount,
// a copy of the layers where the kernel allows no mount, or the listings for a kernel of
// the step's own.
//
// Layer.mu guards the changes and the tree of one layer. A goroutine that holds it takes
// those of the layers below and waits for their blobs, never those of the layers above.
// The pipeline of a layer takes the lock of its own layer only. Manager.mu (the known
// images, the displays of fetches and the first error) and plainTrees.mu (the plain trees
// that are free) are taken last.
package snapshot

import (
	"context"
	"io"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/builder/limits"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/once"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Registry fetches blobs of images.
type Registry interface {
	// OpenBlob opens a blob of the repository of ref. The reader verifies the digest.
	OpenBlob(ctx context.Context, ref string, b layer.Descriptor) (io.ReadCloser, error)
}

// Options configures a [Manager].
type Options struct {
	Store       *store.Store
	Registry    Registry
	Progress    *progress.Reporter // may be nil
	Isolation   sandbox.Isolation  // decides how trees can be made
	Limits      limits.Limits      // of fetched layers
	Compression Compression        // of layers that are part of an image
	// Listings, if set, returns the listing that a remote cache has of a layer, or nil.
	Listings func(ctx context.Context, diffID layer.Digest) *listing.Listing
}

// Manager makes layers and stacks, and runs their pipelines. Its methods can be called
// concurrently.
type Manager struct {
	Options
	ctx          context.Context // ends pipelines and reads of trees
	compressors  chan struct{}   // layers being compressed
	background   sync.WaitGroup  // pipelines
	exports      exports
	variants     once.Map[string, layer.Descriptor]
	merged       once.Map[string, string] // key of a merged tree -> its directory
	plain        plainTrees
	descriptions once.Map[string, *description] // of trees, by their directory

	mu        sync.Mutex
	images    map[string]*Stack
	transfers []*transfer
	failed    error // of the first pipeline that failed
}

// New returns a manager. Its pipelines end with ctx. Call [Manager.Wait] before closing
// the store.
func New(ctx context.Context, o Options) *Manager {
	return &Manager{
		Options:     o,
		ctx:         ctx,
		compressors: make(chan struct{}, 2),
		exports:     exports{vertex: o.Progress.LateVertex("exporting layers")},
		plain:       plainTrees{kind: once.Value[sandbox.Snapshot]{KeepErrors: true}, trees: map[*Stack]*plainTree{}},
		images:      map[string]*Stack{},
	}
}

// Wait waits for all pipelines and returns the first error. If it returns nil, every
// layer that was added has a blob and a listing in the store.
func (m *Manager) Wait() error {
	m.background.Go(m.keepAll)
	m.background.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.transfers {
		t.finish()
	}
	m.exports.end(m.failed)
	return m.failed
}

// fail keeps the first error of a pipeline for Wait; nil is ignored.
func (m *Manager) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == nil {
		m.failed = err
	}
}

// Empty returns the stack of no layers.
func (m *Manager) Empty() *Stack { return &Stack{m: m} }

// Image returns the stack of an image's layers, bottom first. The store or the image
// ref in a registry has their blobs. Calls with the same layers return the same stack;
// v displays the fetches of the first call.
func (m *Manager) Image(layers []layer.Descriptor, ref string, v *progress.Vertex) *Stack {
	s, complete := m.image(layers, ref, v)
	if complete {
		v.Cached()
	}
	return s
}

// image is Image without the display of an image that the store has completely, which it
// reports.
func (m *Manager) image(layers []layer.Descriptor, ref string, v *progress.Vertex) (_ *Stack, complete bool) {
	var key strings.Builder
	for _, b := range layers {
		key.WriteString(string(b.DiffID) + " " + string(b.Digest) + " ") // one tree may have several compressed forms
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.images[key.String()]; ok {
		return s, false
	}
	s := m.Empty()
	t := &transfer{vertex: v, done: true}
	for _, b := range layers {
		from := m.Store.Origin(b.Digest) // of a layer that another build used and did not fetch
		if from == "" {
			from = ref
		}
		l := m.storedLayer(b)
		l.isImage = true
		if from != "" {
			l.origin = &origin{ref: from, transfer: t}
		}
		s = s.With(l)
		if _, ok := m.Store.TouchBlob(b.Digest); !ok {
			t.done = false
		}
	}
	m.images[key.String()] = s
	m.transfers = append(m.transfers, t)
	return s, t.done
}

// StoredImage returns the stack of an image of the store. Layers that the store does not
// have are fetched from where they came, or else from the image ref in a registry.
func (m *Manager) StoredImage(img layer.Image, ref string) *Stack {
	s, _ := m.image(img.Layers, ref, m.Progress.LateVertex("fetching "+ref))
	return s
}

// ApplyOptions returns o with the settings for this isolation mode. Where files cannot be
// given to other owners, all belong to one id, and only listings have the owners.
func (m *Manager) ApplyOptions(o tarball.ApplyOptions) tarball.ApplyOptions {
	o.NoChown = m.Isolation.SingleID
	o.Readable = m.Isolation.Mode == sandbox.None || m.Isolation.Mode == sandbox.Gvisor && m.Isolation.SingleID
	return o
}
