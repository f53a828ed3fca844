package filecopy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Selected holds the files that a selection matches in a source.
type Selected struct {
	// Digest identifies the names, attributes and content of the files, without
	// attributes that the copy replaces.
	Digest string
	paths  [][]Match // for each path of the selection, its matches in order
}

// bulkSize is the number of files above which a selection is large and a directory is
// copied as a bulk.
const bulkSize = 20_000

// Len returns the number of files.
func (s *Selected) Len() (n int) {
	for _, ms := range s.paths {
		for _, m := range ms {
			n += m.files.n
		}
	}
	return n
}

// IsLarge reports whether there are too many files to keep the list for another step.
func (s *Selected) IsLarge() bool { return s.Len() > bulkSize }

// First returns the first match of the first path. A selection of a path without
// wildcards has one.
func (s *Selected) First() Match { return s.paths[0][0] }

// Match is a path that a source matched, with the files below it. The head of files is
// the path itself, with its symlinks resolved.
type Match struct {
	name  string // its last element before resolving: the name of a copy in a directory
	files files
	whole bool // a missing destination gets the attributes of the directory
}

// Root returns the entry of the matched path itself.
func (m Match) Root() listing.Entry { return m.files.head.Entry }

// Changes returns the files as changes that make a copy of them in an empty tree, with
// the match itself at a path. Further names of one file are hard links to the first.
func (m Match) Changes(at string) iter.Seq2[tarball.Change, error] {
	return func(yield func(tarball.Change, error) bool) {
		first := map[any]string{}
		for _, f := range m.files.all() {
			c := tarball.Change{Entry: f.Entry, Open: f.Open, Time: f.Time}
			c.Path, c.Content = path.Join(at, m.rel(f)), nil
			if f.group != nil && f.Type == listing.TypeFile {
				if to, ok := first[f.group]; ok {
					c = tarball.Change{Entry: listing.Entry{Path: c.Path, Type: listing.TypeHardlink, Link: to}}
				} else {
					first[f.group] = c.Path
				}
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}

// rel returns a file's path relative to the match, which is ".".
func (m Match) rel(f File) string {
	root := m.files.head.Path
	switch {
	case f.Path == root:
		return "."
	case root == ".":
		return f.Path
	}
	return f.Path[len(root)+1:]
}

// Select finds the files that a selection matches in src. A plain path that does not
// exist is an error that suggests a similar name.
func Select(ctx context.Context, src Source, sel op.Selection) (*Selected, error) {
	s := &Selected{}
	for _, p := range sel.Paths {
		ms, err := selectPath(ctx, src, p, sel.Exclude)
		if err != nil {
			return nil, err
		}
		s.paths = append(s.paths, ms)
	}
	s.Digest = digest(sel, s.paths)
	return s, nil
}

// selectPath finds the matches of one path of a selection.
func selectPath(ctx context.Context, src Source, sp op.SelPath, exclude []string) ([]Match, error) {
	names := []string{clean(sp.Path)}
	if !sp.Literal {
		var err error
		if names, err = src.glob(ctx, sp.Path); err != nil {
			return nil, notFound(ctx, src, fixedPrefix(sp.Path), err)
		}
	}
	opt := source.WalkOptions{Exclude: exclude}
	if sp.Parents {
		opt.Include = []string{sp.Include}
	}
	var out []Match
	for _, name := range names {
		top, err := src.stat(name)
		if err != nil {
			if sp.Required {
				name = path.Join(sp.Path, sp.Include)
			}
			return nil, notFound(ctx, src, name, err)
		}
		list, err := src.scan(ctx, top.Path, opt)
		if err != nil {
			return nil, err
		}
		if sp.Required && !containsPath(list, path.Join(top.Path, sp.Include)) {
			name = path.Join(sp.Path, sp.Include)
			if _, err = src.stat(name); err == nil {
				err = fs.ErrNotExist // it is below a symlink
			}
			return nil, notFound(ctx, src, name, err)
		}
		if list.n > 0 {
			out = append(out, Match{path.Base(name), list, sp.Literal})
		}
	}
	return out, nil
}

// fixedPrefix returns the elements of a pattern before the first one with a wildcard.
// That path must exist, while the rest may match nothing.
func fixedPrefix(pattern string) string {
	at := "/"
	for elem := range strings.SplitSeq(clean(pattern), "/") {
		if source.HasWildcard(elem) {
			break
		}
		at = path.Join(at, elem)
	}
	return at
}

// containsPath reports whether files has a path or something below it. A path below a
// symlink exists and yet --parents does not copy it.
func containsPath(list files, p string) bool {
	for _, f := range list.all() {
		if f.Path == p || strings.HasPrefix(f.Path, p+"/") {
			return true
		}
	}
	return false
}

// notFound returns the error for a source path that does not exist or that the ignore
// file excludes, with the path as in the Dockerfile. It returns other errors unchanged.
func notFound(ctx context.Context, src Source, name string, err error) error {
	var ignored *source.IgnoredError
	if errors.As(err, &ignored) {
		return fmt.Errorf("%q: not found: the ignore file leaves it out by the pattern %q", "/"+clean(name), ignored.Pattern)
	}
	if errors.Is(err, source.ErrSpecial) {
		return fmt.Errorf("%q: sockets and devices cannot be part of a build context", "/"+clean(name))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	where := src.title()
	if guess := suggest(ctx, src, clean(name)); guess != "" {
		where += " (did you mean /" + guess + "?)"
	}
	return fmt.Errorf("%q: not found in %s", "/"+clean(name), where)
}

// suggest returns an existing path that is similar to name, which does not exist: its
// first missing element is replaced by a similar name that begins with the same letter,
// and the elements that do not exist there are left out. It returns "" for none.
func suggest(ctx context.Context, src Source, name string) string {
	dir, rest := ".", strings.Split(name, "/")
	for ; len(rest) > 0; dir, rest = path.Join(dir, rest[0]), rest[1:] {
		if source.HasWildcard(rest[0]) {
			return ""
		}
		if _, err := src.stat(path.Join(dir, rest[0])); errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if len(rest) == 0 {
		return ""
	}
	siblings, err := src.glob(ctx, path.Join(dir, "*"))
	if err != nil {
		return ""
	}
	var names []string
	for _, p := range siblings {
		if n := path.Base(p); strings.EqualFold(n[:1], rest[0][:1]) {
			names = append(names, n)
		}
	}
	guess := dockerfile.Suggest(rest[0], names)
	if guess == "" {
		return ""
	}
	guess = path.Join(dir, guess)
	whole := path.Join(append([]string{guess}, rest[1:]...)...)
	if _, err := src.stat(whole); err == nil {
		return whole
	}
	return guess
}

// Files returns the paths of the first n files, without directories, and the number of
// the others.
func (s *Selected) Files(n int) (first []string, more int) {
	for _, ms := range s.paths {
		for _, m := range ms {
			for _, f := range m.files.all() {
				switch {
				case f.Type == listing.TypeDir:
				case len(first) < n:
					first = append(first, f.Path)
				default:
					more++
				}
			}
		}
	}
	return first, more
}
