package snapshot

import (
	"cmp"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/cairn-build/cairn/layer/store"
)

// followSize is the size in bytes from which a blob can be read while it is written. An
// upload of a smaller one gains nothing from an early start.
const followSize = 512 << 10

// growingBlob is a blob that can be read while it is written.
type growingBlob struct {
	blob   *store.BlobWriter
	follow func(io.ReadCloser) // called once the blob is large; nil: never

	mu    sync.Mutex
	grown *sync.Cond // nil until follow was called
	size  int64
	ended bool
	err   error // the reason of an early end
}

func (g *growingBlob) Write(p []byte) (int, error) {
	n, err := g.blob.Write(p)
	if g.follow == nil {
		return n, err
	}
	g.mu.Lock()
	g.size += int64(n)
	large := g.size >= followSize
	if g.grown != nil {
		g.grown.Broadcast()
	}
	g.mu.Unlock()
	if large && err == nil && g.grown == nil {
		err = g.startFollower()
	}
	return n, err
}

// startFollower hands a reader of the blob to follow.
func (g *growingBlob) startFollower() error {
	f, err := g.blob.Follow()
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.grown = sync.NewCond(&g.mu)
	g.mu.Unlock()
	g.follow(&follower{growingBlob: g, f: f})
	return nil
}

// end marks the end of the blob, which is incomplete if err is not nil. Further calls do
// nothing.
func (g *growingBlob) end(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return
	}
	g.ended, g.err = true, err
	if g.grown != nil {
		g.grown.Broadcast()
	}
}

// follower reads a growing blob.
type follower struct {
	*growingBlob
	f  *os.File
	at int64
}

// Read waits until there are bytes to read or the blob has ended.
func (f *follower) Read(p []byte) (int, error) {
	f.mu.Lock()
	for f.at == f.size && !f.ended {
		f.grown.Wait()
	}
	left, err := f.size-f.at, f.err
	f.mu.Unlock()
	if left == 0 || err != nil {
		return 0, cmp.Or(err, io.EOF)
	}
	n, err := f.f.ReadAt(p[:min(left, int64(len(p)))], f.at)
	f.at += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Close closes the reader at any time. It does not wait for the end of the blob.
func (f *follower) Close() error { return f.f.Close() }
