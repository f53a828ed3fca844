package input

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/limits"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
	"github.com/cairn-build/cairn/builder/source/httpsource"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/once"
)

// Fetched holds the contexts that the targets of a session have fetched, so that each is
// fetched once.
type Fetched struct {
	locations once.Map[string, location]
	files     once.Map[string, *httpsource.File]
}

// NewFetched returns a Fetched for a session. Targets that wait for a download get its
// error; a later one tries again.
func NewFetched() *Fetched {
	f := &Fetched{}
	f.locations.KeepErrors, f.files.KeepErrors = true, true
	return f
}

// once calls fetch, unless another target with the same credentials did.
func (s *Sources) once(ctx context.Context, key string, fetch func() (location, error)) (location, error) {
	if s.Fetched == nil {
		return fetch()
	}
	return fetchOnce(ctx, &s.Fetched.locations, s.Origin+" "+key, fetch)
}

func fetchOnce[V any](ctx context.Context, m *once.Map[string, V], key string, fetch func() (V, error)) (V, error) {
	return m.Do(ctx, key, func() (V, error) {
		v, err := fetch()
		if err != nil {
			m.Forget(key)
		}
		return v, err
	})
}

// checkout checks out the files of a commit, once for all targets.
func (s *Sources) checkout(ctx context.Context, r git.Request, shown string) (checkout, error) {
	l, err := s.once(ctx, fmt.Sprintf("git %+v", r), func() (location, error) { return s.newCheckout(ctx, r, shown) })
	if err != nil {
		return checkout{}, err
	}
	return l.(checkout), nil
}

func (s *Sources) newCheckout(ctx context.Context, r git.Request, shown string) (c checkout, err error) {
	v := s.Progress.Vertex(shown)
	v.Start()
	defer func() { v.Done(err) }()
	log := v.Writer(2)
	pin, err := s.Git.Resolve(ctx, r, log)
	if err != nil {
		return c, err
	}
	c.commit = cmp.Or(pin.Commit, pin.Object)
	if c.dir, err = s.Git.Checkout(ctx, r, pin, log); err != nil {
		return c, err
	}
	if r.CommitTime { // the directory itself has it too
		fi, err := os.Lstat(c.dir)
		if err != nil {
			return c, err
		}
		at := fi.ModTime().Unix()
		c.commitTime = &at
	}
	c.dated = func(ctx context.Context) (checkout, error) {
		r.CommitTime = true
		return s.checkout(ctx, r, shown)
	}
	return c, nil
}

// CheckoutDir checks out the files of a commit and returns their directory.
func (s *Sources) CheckoutDir(ctx context.Context, r git.Request) (string, error) {
	c, err := s.checkout(ctx, r, "[internal] load git source "+source.Redact(r.Remote))
	return c.dir, err
}

// fetch downloads a file from a web server into the store, once for all targets with the
// same credentials.
func (s *Sources) fetch(ctx context.Context, r httpsource.Request, shown string) (*httpsource.File, error) {
	if s.Fetched == nil {
		return s.download(ctx, r, shown)
	}
	key := fmt.Sprintf("%s %s %s", s.Origin, r.Digest, r.URL)
	return fetchOnce(ctx, &s.Fetched.files, key, func() (*httpsource.File, error) { return s.download(ctx, r, shown) })
}

func (s *Sources) download(ctx context.Context, r httpsource.Request, shown string) (f *httpsource.File, err error) {
	v := s.Progress.Vertex(shown)
	v.Start()
	defer func() { v.Done(err) }()
	f, err = s.HTTP.Get(ctx, r, showDownload(v, r.URL))
	return f, limits.Explain(err)
}

// Download downloads a file from a web server into the store and opens it.
func (s *Sources) Download(ctx context.Context, url string) (io.ReadSeekCloser, error) {
	f, err := s.fetch(ctx, httpsource.Request{URL: url}, "[internal] download "+source.Redact(url))
	if err != nil {
		return nil, err
	}
	return s.Store.OpenVerified(f.Digest)
}

// showDownload returns a function that shows how far a download is.
func showDownload(v *progress.Vertex, url string) func(done, total int64) {
	id := source.Redact(url)
	return func(done, total int64) {
		v.Status(id, done, total)
		if done == total {
			v.StatusDone(id)
		}
	}
}

// fetchArchive downloads a main context and unpacks it, once for all targets. The context
// is a directory of the archive if the URL has the fragment :DIR.
func (s *Sources) fetchArchive(ctx context.Context, url string) (location, error) {
	url, dir, _ := CutDirectory(url)
	l, err := s.once(ctx, "archive "+url, func() (location, error) {
		f, err := s.fetch(ctx, httpsource.Request{URL: url}, loading)
		if err != nil {
			return nil, err
		}
		return s.unpackFetched(f)
	})
	if err != nil || dir == "" {
		return l, err
	}
	a, ok := l.(archive)
	if !ok {
		return nil, fmt.Errorf("%s is not a tar archive, so that it has no directory %s", source.Redact(url), dir)
	}
	if a.dir, err = source.Folder(a.dir, dir, "archive"); err != nil {
		return nil, fmt.Errorf("%s: %w", source.Redact(url), err)
	}
	a.files = a.files.Below(dir)
	return a, nil
}

// CutDirectory returns the URL of an archive and the directory in it that the fragment
// :DIR names, if url has one.
func CutDirectory(url string) (archive, dir string, ok bool) {
	archive, dir, ok = strings.Cut(url, "#:")
	if !ok || strings.Contains(archive, "#") {
		return url, "", false
	}
	return archive, strings.TrimPrefix(path.Join("/", dir), "/"), true
}

// fetchFile downloads a file that is a context, once for all targets.
func (s *Sources) fetchFile(ctx context.Context, url, shown string) (location, error) {
	return s.once(ctx, "file "+url, func() (location, error) {
		f, err := s.fetch(ctx, httpsource.Request{URL: url}, shown)
		if err != nil {
			return nil, err
		}
		return s.copyFetched(f)
	})
}

// unpackFetched unpacks a downloaded archive. Any other file becomes a context of its
// own, as a Dockerfile without a context.
func (s *Sources) unpackFetched(f *httpsource.File) (location, error) {
	blob, err := s.Store.OpenVerified(f.Digest)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	in, isArchive, err := sniff(blob)
	if err != nil {
		return nil, err
	}
	if !isArchive {
		return s.copyFetched(f)
	}
	a, err := s.unpack(in, "[internal] unpack build context")
	if err != nil {
		return nil, err
	}
	a.fetched = true
	a.modified, err = s.fileTime(f)
	return a, err
}

// copyFetched makes a directory with a downloaded file, which is called "context" as
// with BuildKit.
func (s *Sources) copyFetched(f *httpsource.File) (location, error) {
	blob, err := s.Store.OpenVerified(f.Digest)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	at := f.Modified
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	file, err := s.copyToDir("context", blob, 0o600, at)
	if err != nil {
		return nil, err
	}
	file.modified, err = s.fileTime(f)
	return file, err
}

// fileTime returns the time when a file was last changed, in Unix seconds: according to
// its server or else, if it is an archive, the time of the newest file in it. It
// returns nil if neither is known.
func (s *Sources) fileTime(f *httpsource.File) (*int64, error) {
	if !f.Modified.IsZero() {
		at := f.Modified.Unix()
		return &at, nil
	}
	blob, err := s.Store.OpenBlob(f.Digest)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	if at, ok := source.NewestIn(blob); ok {
		return &at, nil
	}
	return nil, nil
}

// remoteTime returns the time of a source that ADD fetches, in Unix seconds.
func (s *Sources) remoteTime(ctx context.Context, r *plan.Remote) (*int64, error) {
	const shown = "[internal] resolve SOURCE_DATE_EPOCH"
	ref, err := git.Parse(r.URL)
	if err == nil {
		if r.Checksum != "" {
			ref.Checksum = r.Checksum
		}
		q := ref.Request(r.KeepGitDir)
		q.CommitTime = true
		c, err := s.checkout(ctx, q, shown)
		return c.commitTime, err
	}
	if !errors.Is(err, git.ErrNotGit) {
		return nil, err
	}
	sum := layer.Digest(r.Checksum)
	if sum != "" {
		if err := sum.Validate(); err != nil {
			return nil, fmt.Errorf("--checksum: %w", err)
		}
	}
	f, err := s.fetch(ctx, httpsource.Request{URL: r.URL, Digest: sum}, shown)
	if err != nil {
		return nil, err
	}
	return s.fileTime(f)
}
