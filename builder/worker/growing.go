package worker

import (
	"cmp"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/cairn-build/cairn/layer/store"
)

// growsFrom is how many bytes of a blob make it a large one, which is worth an upload
// that begins before its end.
const growsFrom = 512 << 10

// growing is a blob that may be read while it is written.
type growing struct {
	blob *store.BlobWriter
	tell func(io.ReadCloser) // nil, or once the blob is large

	mu    sync.Mutex
	more  *sync.Cond
	size  int64
	ended bool
	err   error // why it ended early
}

func (g *growing) Write(p []byte) (int, error) {
	n, err := g.blob.Write(p)
	if g.tell == nil {
		return n, err
	}
	g.mu.Lock()
	g.size += int64(n)
	large := g.size >= growsFrom
	if g.more != nil {
		g.more.Broadcast()
	}
	g.mu.Unlock()
	if large && err == nil && g.more == nil {
		err = g.follow()
	}
	return n, err
}

// follow has the blob read from here on.
func (g *growing) follow() error {
	f, err := g.blob.Follow()
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.more = sync.NewCond(&g.mu)
	g.mu.Unlock()
	g.tell(&follower{growing: g, f: f})
	return nil
}

// end says that nothing follows, the first time; err is why, unless it is whole.
func (g *growing) end(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return
	}
	g.ended, g.err = true, err
	if g.more != nil {
		g.more.Broadcast()
	}
}

// follower reads a growing blob.
type follower struct {
	*growing
	f  *os.File
	at int64
}

// Read waits for what is not written yet.
func (f *follower) Read(p []byte) (int, error) {
	f.mu.Lock()
	for f.at == f.size && !f.ended {
		f.more.Wait()
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

// Close does not wait for the end.
func (f *follower) Close() error { return f.f.Close() }
