package filecopy

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/patternmatcher"

	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer/listing"
)

// Source is the tree that a COPY or ADD reads: see [FromContext], [FromTree] and
// [FromFile].
type Source interface {
	// glob returns the paths that match a pattern, sorted, with their symlinks
	// unresolved. A pattern without wildcards matches itself.
	glob(ctx context.Context, pattern string) ([]string, error)
	// stat returns the file at a path. It follows symlinks inside the tree.
	stat(path string) (File, error)
	// scan returns the files at and below a resolved path, sorted, with digests.
	scan(ctx context.Context, path string, o source.WalkOptions) (files, error)
	// title describes the source in errors.
	title() string
}

// File is one file of a source.
type File struct {
	listing.Entry                               // with the path in the source
	Open          func() (io.ReadCloser, error) // of a regular file
	Time          func() time.Time              // the exact mtime; nil: that of the open file, see [tarball.Timed]
	group         any                           // files of the same group, unless nil, are hard links to each other
	lead          bool                          // a directory that is there only because something below it was selected
}

// files is a list in pieces: a context may have hundreds of thousands of files.
type files struct {
	head   File // the first
	pieces []filePiece
	n      int
	size   int64 // bytes of regular files; each name of a file counts
}

// filePiece is a part of a list. It can be read any number of times.
type filePiece interface {
	Len() int
	each(func(File) bool) bool
}

func (l *files) add(p filePiece) {
	if l.n == 0 {
		p.each(func(f File) bool { l.head = f; return false })
	}
	l.pieces = append(l.pieces, p)
	l.n += p.Len()
}

// id identifies the list. Copies of it have the same id.
func (l *files) id() any { return &l.pieces[0] }

func (l *files) all() iter.Seq2[int, File] {
	return func(yield func(int, File) bool) {
		i := -1
		next := func(f File) bool { i++; return yield(i, f) }
		for _, p := range l.pieces {
			if !p.each(next) {
				return
			}
		}
	}
}

// fileSlice is a piece that is held as a slice.
type fileSlice []File

func listOf(list ...File) (l files) {
	l.add(fileSlice(list))
	for i := range list {
		l.size += list[i].Size
	}
	return l
}

func (l fileSlice) Len() int { return len(l) }

func (l fileSlice) each(yield func(File) bool) bool {
	for _, f := range l {
		if !yield(f) {
			return false
		}
	}
	return true
}

// contextFiles is a piece of a context, encoded to take little memory.
type contextFiles struct{ source.Files }

func (l *contextFiles) each(yield func(File) bool) bool {
	for f := range l.All() {
		if !yield(contextFile(f)) {
			return false
		}
	}
	return true
}

func contextFile(f source.File) File {
	out := File{Entry: f.Entry, lead: f.Lead, Time: at(f.ModTime())}
	if f.Type == listing.TypeFile {
		out.Open = f.Opener()
	}
	if f.Ident != (source.Ident{}) {
		out.group = f.Ident
	}
	return out
}

// FromContext returns the source of a build context.
func FromContext(dir *source.Dir) Source { return contextSource{dir} }

type contextSource struct{ dir *source.Dir }

func (s contextSource) title() string { return "the build context" }

func (s contextSource) glob(ctx context.Context, pattern string) ([]string, error) {
	return s.dir.Glob(ctx, pattern)
}

func (s contextSource) stat(path string) (File, error) {
	f, err := s.dir.Resolve(path, true)
	return contextFile(f), err
}

func (s contextSource) scan(ctx context.Context, path string, opt source.WalkOptions) (files, error) {
	var list files
	err := s.dir.Scan(ctx, path, opt, func(found []source.File) {
		piece := &contextFiles{}
		for i := range found {
			piece.Add(&found[i])
			list.size += found[i].Size
		}
		list.add(piece)
	})
	return list, err
}

// FromFile returns the source that holds one file, such as a download.
func FromFile(f File) Source { return fileSource{f} }

type fileSource struct{ f File }

func (s fileSource) title() string { return imageTitle }

func (s fileSource) glob(_ context.Context, pattern string) ([]string, error) {
	return []string{clean(pattern)}, nil
}

func (s fileSource) stat(p string) (File, error) {
	if clean(p) != s.f.Path {
		return File{}, missing(p)
	}
	return s.f, nil
}

func (s fileSource) scan(_ context.Context, p string, _ source.WalkOptions) (files, error) {
	f, err := s.stat(p)
	return listOf(f), err
}

// FromTree returns the source of the files of an image or a stage. The view has the
// digests of all files.
func FromTree(t Tree) Source { return treeSource{t} }

type treeSource struct{ Tree }

const imageTitle = "the image or stage that it is copied from"

func (s treeSource) title() string { return imageTitle }

// missing returns the error for a path that does not exist.
func missing(name string) error {
	return &fs.PathError{Op: "open", Path: "/" + strings.TrimPrefix(name, "/"), Err: fs.ErrNotExist}
}

// clean makes a path relative to the root, which is ".".
func clean(p string) string {
	if p = strings.TrimPrefix(path.Clean("/"+p), "/"); p == "" {
		return "."
	}
	return p
}

func (s treeSource) stat(p string) (File, error) {
	_, n, ok, err := s.View.Resolve(clean(p), true)
	if err != nil {
		return File{}, err
	}
	if !ok {
		return File{}, missing(p)
	}
	return s.file(n), nil
}

// file returns a node as a file. Nodes with the same data are one group.
func (t Tree) file(n listing.Node) File {
	f := File{Entry: n.Entry}
	if n.Type == listing.TypeHardlink {
		f.Type, f.Link = listing.TypeFile, ""
	}
	if f.Type == listing.TypeFile {
		f.group = [2]any{n.Layer, n.TreePath}
	}
	f.Open = func() (io.ReadCloser, error) { return t.Open(n) }
	if f.Type != listing.TypeFile || f.Size == 0 {
		f.Time = t.timeOf(n)
	}
	return f
}

// glob resolves the elements before the first wildcard and matches the others one by
// one.
func (s treeSource) glob(_ context.Context, pattern string) ([]string, error) {
	elems := strings.Split(clean(pattern), "/")
	fixed := 0
	for fixed < len(elems) && !source.HasWildcard(elems[fixed]) {
		fixed++
	}
	if fixed == len(elems) {
		return []string{clean(pattern)}, nil
	}
	lead := clean(path.Join(elems[:fixed]...))
	base, n, ok, err := s.View.Resolve(lead, true)
	switch {
	case err != nil:
		return nil, err
	case !ok && lead != ".":
		return nil, missing(lead)
	case n.Type != listing.TypeDir:
		return nil, nil
	}
	return s.match(base, elems[fixed:], nil)
}

// match appends the paths below dir that match a pattern's elements to found.
func (s treeSource) match(dir string, elems []string, found []string) ([]string, error) {
	for _, n := range s.View.ReadDir(dir) {
		ok, err := filepath.Match(elems[0], path.Base(n.Path))
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", elems[0], err)
		}
		switch {
		case !ok:
		case len(elems) == 1:
			found = append(found, n.Path)
		case n.Type == listing.TypeDir:
			if found, err = s.match(n.Path, elems[1:], found); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

func (s treeSource) scan(ctx context.Context, root string, opt source.WalkOptions) (files, error) {
	keep, err := newFilter(root, opt)
	if err != nil {
		return files{}, err
	}
	var list []File
	err = s.View.Walk(root, func(n listing.Node) error {
		ok, err := keep.match(n)
		if ok && err == nil {
			list = append(list, s.file(n))
		}
		return err
	})
	if err != nil {
		return files{}, err
	}
	return listOf(keep.withParents(list, s.Tree)...), ctx.Err()
}

// filter applies the patterns of --exclude and --parents below a directory.
type filter struct {
	root             string
	include, exclude *patternmatcher.PatternMatcher
	seen             map[string][2]patternmatcher.MatchInfo // of directories
}

func newFilter(root string, o source.WalkOptions) (f *filter, err error) {
	f = &filter{root: root, seen: map[string][2]patternmatcher.MatchInfo{}}
	if len(o.Include) > 0 {
		if f.include, err = patternmatcher.New(o.Include); err != nil {
			return nil, fmt.Errorf("pattern %q: %w", o.Include, err)
		}
	}
	if len(o.Exclude) > 0 {
		if f.exclude, err = patternmatcher.New(o.Exclude); err != nil {
			return nil, fmt.Errorf("pattern %q: %w", o.Exclude, err)
		}
	}
	return f, nil
}

func (f *filter) match(n listing.Node) (bool, error) {
	if f.include == nil && f.exclude == nil || n.Path == f.root {
		return true, nil
	}
	rel := strings.TrimPrefix(n.Path, f.root+"/")
	up := f.seen[path.Dir(rel)]
	ok := true
	var err error
	if f.include != nil {
		if ok, up[0], err = f.include.MatchesUsingParentResults(rel, up[0]); err != nil {
			return false, err
		}
	}
	if f.exclude != nil {
		var out bool
		if out, up[1], err = f.exclude.MatchesUsingParentResults(rel, up[1]); err != nil {
			return false, err
		}
		ok = ok && !out
	}
	if n.Type == listing.TypeDir {
		f.seen[rel] = up
	}
	return ok, nil
}

// withParents adds the directories that lead to the files.
func (f *filter) withParents(files []File, t Tree) []File {
	if f.include == nil && f.exclude == nil {
		return files
	}
	have := map[string]bool{}
	for _, fl := range files {
		have[fl.Path] = true
	}
	var out []File
	for _, fl := range files {
		if fl.Path == f.root {
			out = append(out, fl)
			continue
		}
		var up []File
		for p := path.Dir(fl.Path); p != f.root && p != "." && !have[p]; p = path.Dir(p) {
			n, _ := t.View.Lookup(p)
			dir := t.file(n)
			dir.lead = true
			up, have[p] = append(up, dir), true
		}
		for i := len(up) - 1; i >= 0; i-- {
			out = append(out, up[i])
		}
		out = append(out, fl)
	}
	return out
}
