package worker

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/cairn-build/cairn/builder/filecopy"
	"github.com/cairn-build/cairn/builder/limits"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
	"github.com/cairn-build/cairn/builder/source/httpsource"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/once"
	"github.com/cairn-build/cairn/layer/store"
)

// downloads fetches the repositories and files of ADD. It asks for the version of each
// source once.
type downloads struct {
	credentials map[string]Credentials // by origin
	store       *store.Store
	display     *display
	commits     once.Map[string, git.Pin]
	files       once.Map[string, *httpsource.File]

	mu   sync.Mutex
	dirs []*source.Dir // closed by close
}

func (d *downloads) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, dir := range d.dirs {
		dir.Close()
	}
	d.dirs = nil
}

// pinGit returns the key of the commit that a repository's ref points to. If the step
// keeps .git, the key has the name of the ref.
func (d *downloads) pinGit(ctx context.Context, s *solve.Step, o op.Git) (string, error) {
	p, err := d.commit(ctx, s, o)
	return o.Request().Key(p), err
}

func (d *downloads) commit(ctx context.Context, s *solve.Step, o op.Git) (git.Pin, error) {
	return d.commits.Do(ctx, s.Op+s.Extra, func() (git.Pin, error) {
		v := d.display.vertex(s)
		v.Start()
		p, err := d.credentials[o.Extra.Origin].Git.Resolve(ctx, o.Request(), v.Writer(2))
		if err != nil {
			return p, d.display.failed(ctx, v, err)
		}
		return p, nil
	})
}

// checkout returns the files of a commit. They stay open until close.
func (d *downloads) checkout(ctx context.Context, s *solve.Step, o op.Git) (*source.Dir, error) {
	p, err := d.commit(ctx, s, o)
	if err != nil {
		return nil, err
	}
	v := d.display.vertex(s)
	v.Start()
	at, err := d.credentials[o.Extra.Origin].Git.Checkout(ctx, o.Request(), p, v.Writer(2))
	if err != nil {
		return nil, d.display.failed(ctx, v, err)
	}
	dir, err := source.OpenDir(at, nil, nil)
	if err != nil {
		return nil, d.display.failed(ctx, v, err)
	}
	v.Done(nil)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dirs = append(d.dirs, dir)
	return dir, nil
}

// pinHTTP returns the digest and the time of the file at a URL. It asks no server if the
// Dockerfile has the digest.
func (d *downloads) pinHTTP(ctx context.Context, s *solve.Step, o op.HTTP) (string, error) {
	if o.Digest != "" {
		return string(o.Digest), nil
	}
	f, err := d.fetch(ctx, s, o)
	if err != nil {
		return "", err
	}
	if f.Modified.IsZero() {
		return string(f.Digest), nil
	}
	return string(f.Digest) + f.Modified.UTC().Format(" 2006-01-02T15:04:05"), nil
}

func (d *downloads) fetch(ctx context.Context, s *solve.Step, o op.HTTP) (*httpsource.File, error) {
	return d.files.Do(ctx, s.Op+s.Extra, func() (*httpsource.File, error) {
		v := d.display.vertex(s)
		v.Start()
		f, err := d.credentials[o.Extra.Origin].HTTP.Get(ctx, httpsource.Request{URL: o.Extra.URL, Digest: o.Digest}, statusOf(v, o.Name))
		if err != nil {
			return nil, d.display.failed(ctx, v, limits.Explain(err))
		}
		return f, nil
	})
}

// statusOf returns a function that displays a download, at most once a mebibyte.
func statusOf(v *progress.Vertex, name string) func(done, total int64) {
	var last int64
	return func(done, total int64) {
		if done-last >= 1<<20 || done == total && last > 0 {
			last = done
			v.Status(name, done, total)
		}
	}
}

// file returns the file at a URL.
func (d *downloads) file(ctx context.Context, s *solve.Step, o op.HTTP) (*filecopy.File, error) {
	f, err := d.fetch(ctx, s, o)
	if err != nil {
		return nil, err
	}
	v := d.display.vertex(s)
	v.Start()
	v.Done(nil)
	e := listing.Entry{Path: o.Name, Type: listing.TypeFile, Mode: 0o600, Size: f.Size, Digest: f.Digest}
	if !f.Modified.IsZero() {
		e.MTime = f.Modified.Unix()
	}
	open := func() (io.ReadCloser, error) { return d.store.OpenVerified(f.Digest) }
	at := time.Unix(e.MTime, 0)
	return &filecopy.File{Entry: e, Open: open, Time: func() time.Time { return at }}, nil
}
