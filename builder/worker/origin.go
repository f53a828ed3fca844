package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer/index"
	"github.com/moby/patternmatcher"
)

// origin is what COPY reads from: a build context or the tree of a result.
type origin interface {
	// Glob lists the paths that a source matches, unresolved, sorted. A source
	// without wildcards gives itself.
	Glob(ctx context.Context, pattern string) ([]string, error)
	// Follow gives what is at a path, symlinks followed inside the root.
	Follow(path string) (file, error)
	// Scan lists what is at and below a resolved path, sorted, with digests.
	Scan(ctx context.Context, path string, o source.WalkOptions) (files, error)
}

// files is a list in pieces: a context may have hundreds of thousands.
type files struct {
	head   file // the first
	pieces []filePiece
	n      int
	size   int64 // bytes of regular files; each name of a file counts
}

// filePiece is some files, of which each has to be had as often as it is asked for.
type filePiece interface {
	Len() int
	each(func(file) bool) bool
}

func (l *files) add(p filePiece) {
	if l.n == 0 {
		p.each(func(f file) bool { l.head = f; return false })
	}
	l.pieces = append(l.pieces, p)
	l.n += p.Len()
}

// id tells the list from others: copies of it have the same.
func (l *files) id() any { return &l.pieces[0] }

func (l *files) all() iter.Seq2[int, file] {
	return func(yield func(int, file) bool) {
		i := -1
		next := func(f file) bool { i++; return yield(i, f) }
		for _, p := range l.pieces {
			if !p.each(next) {
				return
			}
		}
	}
}

// plainFiles are a piece as they are.
type plainFiles []file

func listed(list ...file) (l files) {
	l.add(plainFiles(list))
	for i := range list {
		l.size += list[i].Size
	}
	return l
}

func (l plainFiles) Len() int { return len(l) }

func (l plainFiles) each(yield func(file) bool) bool {
	for _, f := range l {
		if !yield(f) {
			return false
		}
	}
	return true
}

// contextFiles are a piece of a context, in little memory.
type contextFiles struct{ source.Files }

func (l *contextFiles) each(yield func(file) bool) bool {
	for f := range l.All() {
		if !yield(fromContext(f)) {
			return false
		}
	}
	return true
}

// file is one file of an origin. Path is relative to the origin's root.
type file struct {
	index.Entry
	group any  // files with the same, not nil, are hard links of each other
	lead  bool // a directory that was not chosen itself, but something below it was
	open  func() (io.ReadCloser, error)
}

// contextOrigin is a build context.
type contextOrigin struct{ dir *source.Dir }

func (o contextOrigin) Glob(ctx context.Context, pattern string) ([]string, error) {
	return o.dir.Glob(ctx, pattern)
}

func (o contextOrigin) Follow(path string) (file, error) {
	f, err := o.dir.Resolve(path, true)
	return fromContext(f), err
}

func (o contextOrigin) Scan(ctx context.Context, path string, opt source.WalkOptions) (files, error) {
	var list files
	err := o.dir.Scan(ctx, path, opt, func(found []source.File) {
		piece := &contextFiles{}
		for i := range found {
			piece.Add(&found[i])
			list.size += found[i].Size
		}
		list.add(piece)
	})
	return list, err
}

func fromContext(f source.File) file {
	out := file{Entry: f.Entry, lead: f.Lead}
	if f.Type == index.TypeFile {
		out.open = f.Opener()
	}
	if f.Ident != (source.Ident{}) {
		out.group = f.Ident
	}
	return out
}

// treeOrigin is the tree of a result, known by its indexes; only the layers
// that hold a file which is copied need to be unpacked.
type treeOrigin struct {
	ctx    context.Context
	result *Result
	view   *index.View
}

// missing is the error for a path that is not there, as os would have it.
func missing(name string) error {
	return &fs.PathError{Op: "open", Path: "/" + strings.TrimPrefix(name, "/"), Err: fs.ErrNotExist}
}

func clean(p string) string {
	if p = strings.TrimPrefix(path.Clean("/"+p), "/"); p == "" {
		return "."
	}
	return p
}

func (o treeOrigin) Follow(p string) (file, error) {
	_, n, ok, err := o.view.Resolve(clean(p), true)
	if err != nil {
		return file{}, err
	}
	if !ok {
		return file{}, missing(p)
	}
	return o.file(n), nil
}

func (o treeOrigin) file(n index.Node) file {
	f := file{Entry: n.Entry}
	if n.Type == index.TypeHardlink {
		f.Type, f.Link = index.TypeFile, ""
		f.group = [2]any{n.Layer, n.TreePath}
	} else if n.Type == index.TypeFile {
		f.group = [2]any{n.Layer, n.TreePath}
	}
	f.open = func() (io.ReadCloser, error) { return o.open(n) }
	return f
}

// open opens a file in its layer's tree. Symlinks of the image can't lead out
// of it: os.Root refuses that.
func (o treeOrigin) open(n index.Node) (io.ReadCloser, error) {
	r := o.result
	for i := len(r.Layers()) - 1; i > n.Layer; i-- {
		r = r.below
	}
	dir, err := r.layer.Tree(o.ctx, r.below)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenInRoot(dir, n.TreePath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damagedTree(dir, errors.New("it is missing"))
	}
	if err != nil {
		return nil, fmt.Errorf("reading /%s of an unpacked layer: %w", n.Path, err)
	}
	return treeFile{f, dir}, nil
}

// treeFile is a file of an unpacked layer. Steps use it as it is: nothing but its
// index tells that somebody changed it.
type treeFile struct {
	*os.File
	dir string
}

// Changed implements [tarball.Guarded].
func (f treeFile) Changed(err error) error { return damagedTree(f.dir, err) }

func damagedTree(dir string, err error) error {
	return fmt.Errorf("an unpacked layer in the store was damaged on disk (%s: %w): cairn check --repair drops it, and what was made with it", dir, err)
}

// Glob follows the part before the first wildcard, then matches element by
// element.
func (o treeOrigin) Glob(_ context.Context, pattern string) ([]string, error) {
	elems := strings.Split(clean(pattern), "/")
	plain := 0
	for plain < len(elems) && !wild(elems[plain]) {
		plain++
	}
	if plain == len(elems) {
		return []string{clean(pattern)}, nil
	}
	lead := clean(path.Join(elems[:plain]...))
	base, n, ok, err := o.view.Resolve(lead, true)
	switch {
	case err != nil:
		return nil, err
	case !ok && lead != ".":
		return nil, missing(lead)
	case n.Type != index.TypeDir:
		return nil, nil
	}
	return o.match(base, elems[plain:], nil)
}

func (o treeOrigin) match(dir string, elems []string, found []string) ([]string, error) {
	for _, n := range o.view.ReadDir(dir) {
		ok, err := filepath.Match(elems[0], path.Base(n.Path))
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", elems[0], err)
		}
		switch {
		case !ok:
		case len(elems) == 1:
			found = append(found, n.Path)
		case n.Type == index.TypeDir:
			if found, err = o.match(n.Path, elems[1:], found); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

func wild(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

func (o treeOrigin) Scan(ctx context.Context, root string, opt source.WalkOptions) (files, error) {
	keep, err := newFilter(root, opt)
	if err != nil {
		return files{}, err
	}
	var list []file
	err = o.view.Walk(root, func(n index.Node) error {
		ok, err := keep.match(n)
		if ok && err == nil {
			list = append(list, o.file(n))
		}
		return err
	})
	if err != nil {
		return files{}, err
	}
	return listed(keep.withParents(list, o)...), ctx.Err()
}

// filter applies patterns of --exclude and --parents below a directory.
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

func (f *filter) match(n index.Node) (bool, error) {
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
	if n.Type == index.TypeDir {
		f.seen[rel] = up
	}
	return ok, nil
}

// withParents adds the directories that lead to what matched.
func (f *filter) withParents(files []file, o treeOrigin) []file {
	if f.include == nil && f.exclude == nil {
		return files
	}
	have := map[string]bool{}
	for _, fl := range files {
		have[fl.Path] = true
	}
	var out []file
	for _, fl := range files {
		var up []file
		for p := path.Dir(fl.Path); p != f.root && p != "." && !have[p]; p = path.Dir(p) {
			n, _ := o.view.Lookup(p)
			dir := o.file(n)
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
