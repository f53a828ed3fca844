package builder

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/worker"
)

// tree is where a build context's files are.
type tree struct {
	dir      string           // a directory, the user's own or a temporary one
	own      bool             // it is the user's own, with an ignore file
	unpacked *source.Unpacked // if it was made from an archive
	remote   bool             // it came from the network
	modified *int64           // when, in Unix seconds, if its server says so
	file     string           // it is this file alone

	// dated makes the same with the times of a commit; nil: there is none.
	dated func(context.Context) (tree, error)
}

// open opens a context that has no ignore file.
func (t tree) open() (*source.Dir, error) {
	if t.unpacked != nil {
		return source.OpenUnpacked(t.dir, t.unpacked)
	}
	return source.OpenDir(t.dir, nil, nil)
}

// time is that of a commit or of what a server had, or when the youngest file of
// an archive was written.
func (t tree) time() *int64 {
	if t.unpacked == nil || t.modified != nil {
		return t.modified
	}
	if at, ok := t.unpacked.Newest(); ok {
		return &at
	}
	return nil
}

// find gets the files of the main context. Instead of a context, a Dockerfile
// may be what is there; then its text is not nil.
func (j *job) find(ctx context.Context) (t tree, text []byte, err error) {
	if j.opt.Context == "-" {
		return j.fromStdin(ctx)
	}
	t, err = j.fromNetwork(ctx, j.opt.Context)
	if errors.Is(err, errLocal) {
		t, err = j.local(ctx, j.opt.Context, loading)
	}
	if err != nil {
		err = fmt.Errorf("build context: %w", err)
	}
	return t, nil, err
}

// fromStdin takes an archive, or a Dockerfile without a context.
func (j *job) fromStdin(ctx context.Context) (t tree, text []byte, err error) {
	if j.opt.Dockerfile == "-" {
		return t, nil, errors.New("standard input can't be both the build context and the Dockerfile")
	}
	if j.opt.Stdin == nil {
		return t, nil, errors.New("there is no standard input to read the build context from")
	}
	in := bufio.NewReaderSize(interruptible(ctx, j.opt.Stdin), 64<<10)
	head, err := in.Peek(source.ArchiveHead)
	if err != nil && !errors.Is(err, io.EOF) {
		return t, nil, fmt.Errorf("reading the build context from standard input: %w", err)
	}
	if source.IsArchive(head) {
		t, err = j.unpack(in, loading)
		return t, nil, err
	}
	if j.opt.Dockerfile != "" {
		return t, nil, errors.New("standard input is no archive but a Dockerfile, and --file names another one: send a tar archive, or leave out --file")
	}
	if text, err = limited(in, "the Dockerfile on standard input"); err != nil {
		return t, nil, err
	}
	t.dir, err = j.Store.TempDir("context")
	return t, text, err
}

// loading is how the main context is shown on its way.
const loading = "[internal] load remote build context"

// notArchive is the error of a file that was taken for an archive.
type notArchive struct{ path string }

func (e *notArchive) Error() string { return e.path + " is neither a directory nor a tar archive" }

// local takes a directory or an archive.
func (j *job) local(ctx context.Context, path, shown string) (tree, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return tree{}, err
	}
	switch {
	case fi.IsDir():
		return tree{dir: path, own: true}, nil
	case !fi.Mode().IsRegular():
		return tree{}, fmt.Errorf("%s is neither a directory nor a file: send an archive by standard input, with - as the context", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return tree{}, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(interruptible(ctx, f), 64<<10)
	head, err := in.Peek(source.ArchiveHead)
	if err != nil && !errors.Is(err, io.EOF) {
		return tree{}, err
	}
	if !source.IsArchive(head) {
		return tree{}, &notArchive{path}
	}
	return j.unpack(in, shown)
}

// unpack makes a temporary directory of an archive.
func (j *job) unpack(r io.Reader, shown string) (t tree, err error) {
	v := j.Progress.Vertex(shown)
	v.Start()
	defer func() { v.Done(err) }()
	if t.dir, err = j.Store.TempDir("context"); err != nil {
		return t, err
	}
	t.unpacked, err = source.Unpack(t.dir, r, j.Limits.Archive())
	return t, worker.AllowMore(err)
}

// interruptible ends reading when ctx does, even if a read never returns.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	return &patient{ctx: ctx, r: r, done: make(chan struct{}, 1)}
}

// patient reads into a buffer of its own: one that was given up on may still be
// written to.
type patient struct {
	ctx  context.Context
	r    io.Reader
	done chan struct{}
	buf  []byte
	n    int
	err  error
}

func (p *patient) Read(b []byte) (int, error) {
	if p.ctx.Err() != nil {
		return 0, context.Cause(p.ctx)
	}
	if p.buf == nil {
		p.buf = make([]byte, 64<<10)
	}
	size := min(len(b), len(p.buf))
	go func() {
		p.n, p.err = p.r.Read(p.buf[:size])
		p.done <- struct{}{}
	}()
	select {
	case <-p.done:
		return copy(b, p.buf[:p.n]), p.err
	case <-p.ctx.Done():
		return 0, context.Cause(p.ctx)
	}
}
