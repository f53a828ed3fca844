package input

import (
	"context"

	"github.com/cairn-build/cairn/builder/source"
)

// location is where the files of a context are.
type location interface {
	// folder is the path of the directory with the files.
	folder() string
	// open opens the files without an ignore file.
	open() (*source.Dir, error)
	// time returns the time of the context in Unix seconds, or nil if it has none.
	time(ctx context.Context) (*int64, error)
}

// userDir is a directory of the user's, the only location with an ignore file.
type userDir struct{ path string }

func (d userDir) folder() string                       { return d.path }
func (d userDir) open() (*source.Dir, error)           { return source.OpenDir(d.path, nil, nil) }
func (userDir) time(_ context.Context) (*int64, error) { return nil, nil }

// emptyDir is the context of a Dockerfile that came without one.
type emptyDir struct{ path string }

func (d emptyDir) folder() string                       { return d.path }
func (d emptyDir) open() (*source.Dir, error)           { return source.OpenDir(d.path, nil, nil) }
func (emptyDir) time(_ context.Context) (*int64, error) { return nil, nil }

// singleFile is a directory with a copy of one file.
type singleFile struct {
	dir, name string
	modified  *int64 // according to the web server; nil: unknown or a local file
}

func (f singleFile) folder() string                         { return f.dir }
func (f singleFile) open() (*source.Dir, error)             { return source.OpenDir(f.dir, nil, nil) }
func (f singleFile) time(_ context.Context) (*int64, error) { return f.modified, nil }

// archive is the directory that an archive was unpacked into.
type archive struct {
	dir      string
	files    *source.Unpacked
	fetched  bool   // from a web server
	modified *int64 // according to the web server; nil: unknown or a local archive
}

func (a archive) folder() string { return a.dir }

func (a archive) open() (*source.Dir, error) { return source.OpenUnpacked(a.dir, a.files) }

// time falls back to the time of the archive's newest file.
func (a archive) time(_ context.Context) (*int64, error) {
	if a.modified != nil {
		return a.modified, nil
	}
	if at, ok := a.files.Newest(); ok {
		return &at, nil
	}
	return nil, nil
}

// checkout is a directory with the files of a commit.
type checkout struct {
	dir        string
	commit     string
	commitTime *int64 // nil: the files do not have the time of the commit
	// dated checks the commit out with its time.
	dated func(ctx context.Context) (checkout, error)
}

func (c checkout) folder() string { return c.dir }

func (c checkout) open() (*source.Dir, error) { return source.OpenDir(c.dir, nil, nil) }

func (c checkout) time(ctx context.Context) (*int64, error) {
	if c.commitTime != nil {
		return c.commitTime, nil
	}
	again, err := c.dated(ctx)
	return again.commitTime, err
}
