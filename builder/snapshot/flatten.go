package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Flatten returns the whole tree as the changes of one layer.
func (s *Stack) Flatten(ctx context.Context) (iter.Seq2[tarball.Change, error], error) {
	return s.FlattenDir(ctx, "/")
}

// FlattenDir returns the tree of a directory as the changes of one layer. Symbolic links
// of its path are followed in the whole tree.
func (s *Stack) FlattenDir(ctx context.Context, dir string) (iter.Seq2[tarball.Change, error], error) {
	view, err := s.FullView(ctx)
	if err != nil {
		return nil, err
	}
	top, n, ok, err := view.Resolve(dir, true)
	switch {
	case err == nil && !ok:
		err = syscall.ENOENT
	case err == nil && n.Type != listing.TypeDir:
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, err
	}
	type data struct {
		layer int
		path  string
	}
	return func(yield func(tarball.Change, error) bool) {
		links := map[data]string{}
		_ = view.Walk(top, func(n listing.Node) error {
			c := tarball.Change{Entry: n.Entry}
			c.Path = within(top, n.Path)
			c.Content = nil
			if n.Type == listing.TypeFile || n.Type == listing.TypeHardlink {
				id := data{n.Layer, n.TreePath}
				if first, ok := links[id]; ok {
					c.Type, c.Link, c.Size, c.Digest = listing.TypeHardlink, first, 0, ""
				} else {
					links[id] = c.Path
					c.Type, c.Link = listing.TypeFile, ""
					c.Open = func() (io.ReadCloser, error) { return s.Open(n) }
				}
			}
			if !yield(c, nil) {
				return fs.SkipAll
			}
			return nil
		})
	}, nil
}

// within returns the path of a file in the directory top, which has it.
func within(top, path string) string {
	switch {
	case top == ".":
		return path
	case path == top:
		return "."
	}
	return strings.TrimPrefix(path, top+"/")
}

// at returns the stack whose top is the layer that has a node.
func (s *Stack) at(n listing.Node) *Stack {
	for s.depth > n.Layer+1 {
		s = s.below
	}
	return s
}

// Time returns the exact mtime of a path of a view of the stack, which is that on disk.
// It returns false if the path has that of its layer, in whole seconds.
func (s *Stack) Time(n listing.Node) (time.Time, bool) {
	if n.Layer < 0 {
		return time.Time{}, false
	}
	s = s.at(n)
	return s.layer.exactTime(s.m.ctx, s.below, n.TreePath)
}

// Open opens a regular file of a view of the stack. It unpacks the layer that has the
// file if that has no tree yet.
func (s *Stack) Open(n listing.Node) (io.ReadCloser, error) {
	s = s.at(n)
	dir, err := s.layer.Tree(s.m.ctx, s.below)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenInRoot(dir, n.TreePath) // refuses symlinks that lead out of dir
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damagedTree(dir, errors.New("it is missing"))
	}
	if err != nil {
		return nil, fmt.Errorf("reading /%s of an unpacked layer: %w", n.Path, err)
	}
	return treeFile{f, dir}, nil
}

// treeFile is a file of an unpacked layer. Trees are not verified when they are mounted,
// so that a changed file shows only when its digest is computed.
type treeFile struct {
	*os.File
	dir string
}

// ModTime implements [tarball.Timed].
func (f treeFile) ModTime() (time.Time, error) {
	info, err := f.Stat()
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// Changed implements [tarball.Guarded].
func (f treeFile) Changed(err error) error { return damagedTree(f.dir, err) }

func damagedTree(dir string, err error) error {
	return fmt.Errorf("an unpacked layer in the store was damaged on disk (%s: %w): cairn check --repair drops it and the results of steps that may have read it", dir, err)
}
