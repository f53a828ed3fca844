package input

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cairn-build/cairn/builder/limits"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
	"github.com/cairn-build/cairn/builder/source/httpsource"
	"github.com/cairn-build/cairn/layer"
)

// checkout checks out the files of a commit.
func (s *Sources) checkout(ctx context.Context, r git.Request, shown string) (c checkout, err error) {
	v := s.Progress.Vertex(shown)
	v.Start()
	defer func() { v.Done(err) }()
	log := v.Writer(2)
	pin, err := s.Git.Resolve(ctx, r, log)
	if err != nil {
		return c, err
	}
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

// fetch downloads a file from a web server into the store.
func (s *Sources) fetch(ctx context.Context, r httpsource.Request, shown string) (f *httpsource.File, err error) {
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
