package worker

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/tarball"
)

// deliver makes a result of what a step made, and starts the pipeline that
// turns it into a blob and files its record.
func (w *Worker) deliver(j solve.Job[*Result], made *work) *Result {
	l := &Layer{w: w, created: time.Now().UTC(), fresh: made, settled: make(chan struct{})}
	if made.tree != nil {
		l.tree = made.tree.Dir
		made.tree.Keep()
		l.fileTree(made.tree, j.In[0])
	}
	ships := w.Ships(j.Step)
	w.behind.Go(func() {
		defer j.Unlock()
		defer close(l.settled)
		defer l.release()
		l.blob, l.err = w.press(l, made, ships, j.Step)
		if l.err != nil && w.ctx.Err() == nil {
			l.err = &solve.Error{Step: j.Step, Err: fmt.Errorf("writing the layer of %s: %w", w.Name(j.Step), w.onDisk(l.err))}
		}
		if l.err != nil {
			w.pipeline(l.err)
			return
		}
		w.file(j, cache.Record{Below: string(j.In[0].key), Layers: []layer.Blob{l.blob}, Created: l.created.UnixNano()})
	})
	r := j.In[0].with(l, j.Content)
	w.keepPlain(r, made.plain)
	if ships && w.Made != nil {
		w.Made(l)
	}
	return r
}

// pipeline notes an error of a pipeline, if it is one, for Wait.
func (w *Worker) pipeline(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
}

// press writes a layer's changes as tar, compresses it, and keeps blob and
// index: one pass over the files for all digests.
func (w *Worker) press(l *Layer, made *work, ships bool, s *solve.Step) (layer.Blob, error) {
	waited := w.wait(s, "waits for a compressor")
	select {
	case w.presses <- struct{}{}:
		waited()
		defer func() { <-w.presses }()
	case <-w.ctx.Done():
		return layer.Blob{}, context.Cause(w.ctx)
	}
	defer w.span(s, "packs and compresses the layer")()
	how := w.Compression.Options
	var grows func(io.ReadCloser)
	if !ships {
		how = compress.Options{Format: compress.Zstd, Level: 1}
	} else if w.Grows != nil {
		grows = func(r io.ReadCloser) { w.Grows(l, r) }
	}
	var x *index.List
	b, err := w.compress(how, grows, func(out io.Writer) (err error) {
		shown := &gauge{w: out, exports: &w.exports, id: w.Name(s), total: made.changes.size()}
		x, err = tarball.Write(shown, made.changes.all())
		shown.close()
		return err
	})
	if err != nil {
		return layer.Blob{}, err
	}
	return b, w.Store.PutIndex(b.DiffID, x)
}

// compress keeps what fill writes as a blob of the given format. grows, if it is not
// nil, gets what reads the blob as soon as it is a large one.
func (w *Worker) compress(how compress.Options, grows func(io.ReadCloser), fill func(io.Writer) error) (_ layer.Blob, err error) {
	blob, err := w.Store.NewBlob()
	if err != nil {
		return layer.Blob{}, err
	}
	defer blob.Close()
	growing := &growing{blob: blob, tell: grows}
	defer func() { growing.end(err) }()
	out, err := compress.NewWriter(cancelable{w.ctx, growing}, how)
	if err != nil {
		return layer.Blob{}, err
	}
	if err := fill(out); err != nil {
		out.Close()
		return layer.Blob{}, err
	}
	if err := out.Close(); err != nil {
		return layer.Blob{}, err
	}
	growing.end(nil)
	b := out.Blob()
	if err := blob.Commit(b.Digest); err != nil {
		return layer.Blob{}, err
	}
	return b, w.Store.AddLayer(b)
}

// exports shows layers that take a while to write.
type exports struct {
	vertex *progress.Vertex
	shown  atomic.Bool
}

// end ends the display, if there is one.
func (e *exports) end(err error) {
	if e.shown.Load() {
		e.vertex.Done(err)
	}
}

// gauge is a writer that shows how much of a layer has been written, in bytes of
// its tar; layers below 4 MiB are not worth a line.
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

// cancelable is a writer that fails once its context has ended.
type cancelable struct {
	ctx context.Context
	w   io.Writer
}

func (c cancelable) Write(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.w.Write(p)
}
