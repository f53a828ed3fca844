package input

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
	"github.com/cairn-build/cairn/builder/source/httpsource"
	"github.com/cairn-build/cairn/layer/listing"
)

// maxDefinition is the largest size of a file of a definition, in bytes.
const maxDefinition = 2 << 20

// Definition is the fetched definition of an application: the directory of a git
// repository or an archive, or a single file of a web server.
type Definition struct {
	URL    string
	Commit string // of a repository
	text   []byte // of a single file
	single bool
	dir    *source.Dir
	free   func(*source.Dir)
}

// OpenDefinition fetches a definition from a git repository or a web server. The caller
// must close it.
func (s *Sources) OpenDefinition(ctx context.Context, url string) (*Definition, error) {
	d := &Definition{URL: url, free: s.release}
	ref, err := git.Parse(url)
	switch {
	case err == nil:
		c, err := s.checkout(ctx, ref.Request(false), "[internal] load git source "+source.Redact(url))
		if err != nil {
			return nil, err
		}
		d.Commit = c.commit
		d.dir, err = s.open(c)
		return d, err
	case !errors.Is(err, git.ErrNotGit):
		return nil, err
	case !isURL(url):
		return nil, fmt.Errorf("%s is neither a git repository nor a URL of a web server", url)
	}
	files, err := s.fetchArchive(ctx, url)
	if err != nil {
		return nil, err
	}
	if _, ok := files.(singleFile); ok {
		d.single = true
		f, err := s.fetch(ctx, httpsource.Request{URL: url}, loading)
		if err != nil {
			return nil, err
		}
		blob, err := s.Store.OpenVerified(f.Digest)
		if err != nil {
			return nil, err
		}
		defer blob.Close()
		d.text, err = readDefinition(blob, source.Redact(url))
		return d, err
	}
	d.dir, err = s.open(files)
	return d, err
}

// Single returns the content of a definition that is a single file.
func (d *Definition) Single() (text []byte, ok bool) { return d.text, d.single }

// Read returns the content of a file of the definition. Symbolic links do not lead out of
// the repository or archive. The error for a missing file matches fs.ErrNotExist.
func (d *Definition) Read(name string) ([]byte, error) {
	f, err := d.dir.Resolve(name, true)
	if missing(err) {
		return nil, fmt.Errorf("there is no file %s in %s: %w", name, source.Redact(d.URL), fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	if f.Type != listing.TypeFile {
		return nil, fmt.Errorf("%s in %s is not a regular file", name, source.Redact(d.URL))
	}
	in, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return readDefinition(in, name+" in "+source.Redact(d.URL))
}

// Close releases the files.
func (d *Definition) Close() {
	if d.dir != nil {
		d.free(d.dir)
	}
}

func readDefinition(r io.Reader, name string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxDefinition+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(text) > maxDefinition {
		return nil, fmt.Errorf("%s is larger than %d MB: it is not a definition", name, maxDefinition>>20)
	}
	return text, nil
}
