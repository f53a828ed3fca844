package worker

import (
	"context"
	"io"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
	"github.com/cairn-build/cairn/builder/source/http"
	"github.com/cairn-build/cairn/layer/index"
)

// remotes are what ADD fetches from elsewhere. What a source is now is asked
// once for each.
type remotes struct {
	git  *git.Source
	http *http.Fetcher
	pins onceMap[string, git.Pin]
	got  onceMap[string, *http.File]
	dirs []*source.Dir // guarded by the worker's mu; open until it is done
}

func (w *Worker) newRemotes() {
	w.remote.git = git.New(git.Options{Store: w.Store, Secrets: w.Secrets, Agent: w.Agent})
	w.remote.http = http.New(http.Options{Store: w.Store, Secrets: w.Secrets, UserAgent: "cairn", MaxBytes: w.Limits.MaxDownload()})
}

func (r *remotes) close() {
	for _, d := range r.dirs {
		d.Close()
	}
	r.dirs = nil
	r.http.Close()
}

// Ahead asks at once what all sources that are fetched are now. Keys are told one
// after the other, and would have it done so.
func (w *Worker) Ahead(ctx context.Context, steps []*solve.Step) {
	for _, s := range steps {
		if !plan.Fetched(s) {
			continue
		}
		op, err := plan.DecodeOp(s)
		if err != nil {
			continue
		}
		switch op := op.(type) {
		case plan.Git: // who needs the answer asks again, and gets the error
			w.behind.Go(func() { _, _ = w.pinGit(ctx, s, op) })
		case plan.HTTP:
			w.behind.Go(func() { _, _ = w.pinHTTP(ctx, s, op) })
		}
	}
}

// pinGit tells which commit a repository's source is. A kept .git also has the
// name of its ref.
func (w *Worker) pinGit(ctx context.Context, s *solve.Step, op plan.Git) (string, error) {
	p, err := w.commit(ctx, s, op)
	return op.Request().Key(p), err
}

func (w *Worker) commit(ctx context.Context, s *solve.Step, op plan.Git) (git.Pin, error) {
	return w.remote.pins.do(s.Op+s.Extra, func() (git.Pin, error) {
		v := w.vertex(s)
		v.Start()
		p, err := w.remote.git.Resolve(ctx, op.Request(), v.Writer(2))
		if err != nil {
			return p, w.fail(ctx, v, err)
		}
		return p, nil
	})
}

// checkout makes the tree of a commit.
func (w *Worker) checkout(ctx context.Context, s *solve.Step, op plan.Git) (*Result, error) {
	p, err := w.commit(ctx, s, op)
	if err != nil {
		return nil, err
	}
	v := w.vertex(s)
	v.Start()
	at, err := w.remote.git.Checkout(ctx, op.Request(), p, v.Writer(2))
	if err != nil {
		return nil, w.fail(ctx, v, err)
	}
	dir, err := source.OpenDir(at, nil, nil)
	if err != nil {
		return nil, w.fail(ctx, v, err)
	}
	v.Done(nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remote.dirs = append(w.remote.dirs, dir)
	return &Result{dir: dir}, nil
}

// pinHTTP tells what is at a URL now. Where a digest says what has to be there,
// nobody is asked.
func (w *Worker) pinHTTP(ctx context.Context, s *solve.Step, op plan.HTTP) (string, error) {
	if op.Digest != "" {
		return string(op.Digest), nil
	}
	f, err := w.fetch(ctx, s, op)
	if err != nil {
		return "", err
	}
	if f.Modified.IsZero() {
		return string(f.Digest), nil
	}
	return string(f.Digest) + f.Modified.UTC().Format(" 2006-01-02T15:04:05"), nil
}

func (w *Worker) fetch(ctx context.Context, s *solve.Step, op plan.HTTP) (*http.File, error) {
	return w.remote.got.do(s.Op+s.Extra, func() (*http.File, error) {
		v := w.vertex(s)
		v.Start()
		f, err := w.remote.http.Get(ctx, http.Request{URL: op.Extra.URL, Digest: op.Digest}, gaugeOf(v, op.Name))
		err = AllowMore(err)
		if err != nil {
			return nil, w.fail(ctx, v, err)
		}
		return f, nil
	})
}

// gaugeOf shows a download, a line for every so many bytes.
func gaugeOf(v *progress.Vertex, name string) func(done, total int64) {
	var last int64
	return func(done, total int64) {
		if done-last >= 1<<20 || done == total && last > 0 {
			last = done
			v.Status(name, done, total)
		}
	}
}

// download makes the tree with one file of a URL.
func (w *Worker) download(ctx context.Context, s *solve.Step, op plan.HTTP) (*Result, error) {
	f, err := w.fetch(ctx, s, op)
	if err != nil {
		return nil, err
	}
	v := w.vertex(s)
	v.Start()
	v.Done(nil)
	e := index.Entry{Path: op.Name, Type: index.TypeFile, Mode: 0o600, Size: f.Size, Digest: f.Digest}
	if !f.Modified.IsZero() {
		e.MTime = f.Modified.Unix()
	}
	open := func() (io.ReadCloser, error) { return w.Store.OpenVerified(f.Digest) }
	return &Result{alone: &file{Entry: e, open: open}}, nil
}

// fileOrigin is a tree with one file.
type fileOrigin struct{ f file }

func (o fileOrigin) Glob(_ context.Context, pattern string) ([]string, error) {
	return []string{clean(pattern)}, nil
}

func (o fileOrigin) Follow(p string) (file, error) {
	if clean(p) != o.f.Path {
		return file{}, missing(p)
	}
	return o.f, nil
}

func (o fileOrigin) Scan(_ context.Context, p string, _ source.WalkOptions) (files, error) {
	f, err := o.Follow(p)
	return listed(f), err
}
