package snapshot

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// NewLayer is the layer of a finished step.
type NewLayer struct {
	Changes Changes // closed when the blob is written
	Root    *Root   // the root in which Changes were found; nil if there was none
	Name    string  // of the step, for the display; "" for none
	Lane    string  // of the timeline
	// Exported means that the layer is part of an image: it is compressed as the images
	// are. Other layers are compressed as cheaply as possible.
	Exported bool
	// Follow, if set, is called with a reader of the blob of an exported layer that
	// becomes large, while it is written. Follow closes the reader.
	Follow func(*Layer, io.ReadCloser)
	// Written, if set, is called when the store has the blob and the listing.
	Written func(*Layer, layer.Descriptor)
	// WrapError, if set, adds context to the error of writing the layer.
	WrapError func(error) error
	// Done, if set, is called at the end of the pipeline.
	Done func()
}

// Add returns the stack with the layer of a finished step on top. It compresses the layer
// in the background; the error of that is the error of [Layer.Blob] and [Manager.Wait].
func (s *Stack) Add(n NewLayer) *Stack {
	m := s.m
	l := &Layer{m: m, created: time.Now().UTC(), pending: &pending{changes: n.Changes}, settled: make(chan struct{})}
	top := s.With(l)
	if n.Root != nil {
		l.tree = n.Root.upper.Dir
		n.Root.upper.Keep()
		l.saveTree(n.Root.upper, s, n.Root.exact)
		m.plain.put(top, n.Root.plain)
	}
	if n.Root == nil {
		l.times = &tarball.Times{}
	}
	m.background.Go(func() {
		if n.Done != nil {
			defer n.Done()
		}
		defer close(l.settled)
		defer l.release()
		l.blob, l.err = m.write(l, n)
		if l.err != nil && m.ctx.Err() == nil && n.WrapError != nil {
			l.err = n.WrapError(l.err)
		}
		m.fail(l.err)
		if l.err == nil && n.Written != nil {
			n.Written(l, l.blob)
		}
	})
	return top
}

// write stores a layer's changes as a blob and a listing. It reads the files once.
func (m *Manager) write(l *Layer, n NewLayer) (layer.Descriptor, error) {
	waited := m.Progress.Wait(n.Lane, "waits for a compressor")
	select {
	case m.compressors <- struct{}{}:
		waited()
		defer func() { <-m.compressors }()
	case <-m.ctx.Done():
		return layer.Descriptor{}, context.Cause(m.ctx)
	}
	defer m.Progress.Span(n.Lane, progress.Work, "packs and compresses the layer")()
	how := scratch
	var follow func(io.ReadCloser)
	if n.Exported {
		how = m.Compression.Options
		if n.Follow != nil {
			follow = func(r io.ReadCloser) { n.Follow(l, r) }
		}
	}
	var x *listing.Packed
	b, err := m.writeBlob(how, follow, func(out io.Writer) (err error) {
		shown := &gauge{w: out, exports: &m.exports, id: layerOf(n.Name), total: n.Changes.Size()}
		x, err = tarball.WriteTimes(shown, n.Changes.All(), l.times)
		if err == nil {
			shown.close()
		}
		return err
	})
	if err != nil {
		return layer.Descriptor{}, err
	}
	return b, m.Store.PutListing(b.DiffID, x)
}

// WriteScratch stores the tar that fill writes as a blob that is in no image.
func (m *Manager) WriteScratch(fill func(io.Writer) error) (layer.Descriptor, error) {
	return m.writeBlob(scratch, nil, fill)
}

// writeBlob stores the tar that fill writes as a blob. If follow is not nil, it is called
// with a reader of the blob as soon as that is large.
func (m *Manager) writeBlob(how compress.Options, follow func(io.ReadCloser), fill func(io.Writer) error) (_ layer.Descriptor, err error) {
	blob, err := m.Store.NewBlob()
	if err != nil {
		return layer.Descriptor{}, err
	}
	defer blob.Close()
	growing := &growingBlob{blob: blob, follow: follow}
	defer func() { growing.end(err) }()
	out, err := compress.NewWriter(contextWriter{m.ctx, growing}, how)
	if err != nil {
		return layer.Descriptor{}, err
	}
	if err := fill(out); err != nil {
		out.Close()
		return layer.Descriptor{}, err
	}
	if err := out.Close(); err != nil {
		return layer.Descriptor{}, err
	}
	growing.end(nil)
	b := out.Blob()
	if err := blob.Commit(b.Digest); err != nil {
		return layer.Descriptor{}, err
	}
	return b, m.Store.AddLayer(b)
}

// layerOf returns the name of a step's layer: "layer of [2/3]" for "[2/3] RUN make". With
// the command it would read as if the step ran again.
func layerOf(step string) string {
	if place, _, ok := strings.Cut(step, "] "); ok && strings.HasPrefix(step, "[") {
		step = place + "]"
	}
	return "layer of " + step
}

// exports displays layers that take a while to write.
type exports struct {
	vertex *progress.Vertex
	shown  atomic.Bool
}

// end ends the display if it has begun.
func (e *exports) end(err error) {
	if e.shown.Load() {
		e.vertex.Done(err)
	}
}

// gauge is a writer that displays how many bytes of a layer's tar have been written. It
// does not display layers below 4 MiB.
type gauge struct {
	w        io.Writer
	exports  *exports
	id       string
	n, total int64
	last     int64
}

func (g *gauge) Write(p []byte) (int, error) {
	n, err := g.w.Write(p)
	if g.n += int64(n); g.n-g.last >= 4<<20 {
		g.last = g.n
		g.exports.shown.Store(true)
		g.exports.vertex.Start()
		g.exports.vertex.Status(g.id, min(g.n, g.total), g.total)
	}
	return n, err
}

func (g *gauge) close() {
	if g.last > 0 {
		g.exports.vertex.StatusDone(g.id)
	}
}

// contextWriter is a writer that fails once its context has ended.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c contextWriter) Write(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.w.Write(p)
}
