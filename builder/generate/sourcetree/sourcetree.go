// Package sourcetree reads the files of a source tree with bounds.
//
// It never leaves the tree: a symbolic link that leads out of it is an unreadable file.
// A listing ends at a number of files and a depth, and leaves out directories of
// dependencies and outputs.
package sourcetree

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

const (
	// MaxFile is the size of the largest file that is read, in bytes.
	MaxFile = 8 << 20

	maxFiles  = 20_000
	maxSource = 256 << 10 // of a source file that is searched
	maxSearch = 64 << 20  // bytes of all searches
	maxDepth  = 12
)

// skipped lists directories of dependencies, outputs and tools.
var skipped = []string{
	"node_modules", "bower_components", "vendor", "target", "__pycache__", "venv", "env", "site-packages", "obj", "testdata",
}

// ErrLink is the error for a symbolic link that leads out of the tree, or nowhere.
var ErrLink = errors.New("a symbolic link that leads out of the source tree, or nowhere")

// ErrLarge is the error for a file that is larger than MaxFile.
var ErrLarge = errors.New("it is larger than the limit")

// Tree is a source tree.
type Tree struct {
	root     *os.Root
	files    []string // sorted by depth, then name
	searched int
	// Truncated reports whether the tree has more files than are listed.
	Truncated bool
}

// Open opens a directory and lists its files. The caller closes the tree.
func Open(dir string) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the source tree: %w", err)
	}
	t := &Tree{root: root}
	if err := t.list(); err != nil {
		return nil, errors.Join(fmt.Errorf("reading the source tree: %w", err), root.Close())
	}
	return t, nil
}

// Close closes the tree.
func (t *Tree) Close() error { return t.root.Close() }

// list lists directories breadth-first, so that a bound cuts the deepest files.
func (t *Tree) list() error {
	dirs := []string{"."}
	for depth := 0; len(dirs) > 0 && depth < maxDepth; depth++ {
		var below []string
		for _, dir := range dirs {
			entries, err := fs.ReadDir(t.root.FS(), dir)
			if err != nil && dir == "." {
				return err
			}
			for _, e := range entries {
				name := path.Join(dir, e.Name())
				switch {
				case e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !slices.Contains(skipped, e.Name()):
					below = append(below, name)
				case e.IsDir():
				case len(t.files) == maxFiles:
					t.Truncated = true
				default:
					t.files = append(t.files, name)
				}
			}
		}
		dirs = below
	}
	t.Truncated = t.Truncated || len(dirs) > 0
	return nil
}

// Files lists the files whose path matches a pattern of path.Match, those of upper
// directories first. A pattern without a slash matches names in all directories.
func (t *Tree) Files(pattern string) (found []string) {
	for _, name := range t.files {
		subject := name
		if !strings.Contains(pattern, "/") {
			subject = path.Base(name)
		}
		if ok, _ := path.Match(pattern, subject); ok {
			found = append(found, name)
		}
	}
	return found
}

// Below lists the files of a directory and those below it with one of the extensions.
func (t *Tree) Below(dir string, extensions ...string) (found []string) {
	for _, name := range t.files {
		if (dir == "." || strings.HasPrefix(name, dir+"/")) && slices.Contains(extensions, path.Ext(name)) {
			found = append(found, name)
		}
	}
	return found
}

// First returns the first of the names that is a file of the tree, or "".
func (t *Tree) First(names ...string) string {
	for _, name := range names {
		if t.Has(name) {
			return name
		}
	}
	return ""
}

// Has reports whether a path is a regular file of the tree. Links inside the tree are
// followed.
func (t *Tree) Has(name string) bool {
	fi, err := t.root.Stat(name)
	return err == nil && fi.Mode().IsRegular()
}

// HasDir reports whether a path is a directory of the tree.
func (t *Tree) HasDir(name string) bool {
	fi, err := t.root.Stat(name)
	return err == nil && fi.IsDir()
}

// Executable reports whether a file may be executed.
func (t *Tree) Executable(name string) bool {
	fi, err := t.root.Stat(name)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}

// Read reads a file. A missing file is an error that matches fs.ErrNotExist.
func (t *Tree) Read(name string) ([]byte, error) {
	text, err := t.read(name, MaxFile)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", name, err)
	}
	return text, nil
}

func (t *Tree) read(name string, limit int64) ([]byte, error) {
	if fi, err := t.root.Lstat(name); err != nil {
		return nil, cause(err)
	} else if fi.Mode()&fs.ModeSymlink != 0 {
		if _, err := t.root.Stat(name); err != nil {
			return nil, ErrLink
		}
	}
	if fi, err := t.root.Stat(name); err != nil {
		return nil, cause(err)
	} else if !fi.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := t.root.Open(name)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, cause(err)
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%w of %d bytes", ErrLarge, limit)
	}
	return text, nil
}

// Text returns the content of a file, or "" if it cannot be read.
func (t *Tree) Text(name string) string {
	text, err := t.read(name, MaxFile)
	if err != nil {
		return ""
	}
	return string(text)
}

// Search calls f with the text of each source file until it returns true, and returns
// the name of that file, or "". It leaves out large files, and ends when all searches
// have read too much.
func (t *Tree) Search(files []string, f func(name, text string) bool) string {
	for _, name := range files {
		if t.searched > maxSearch {
			return ""
		}
		text, err := t.read(name, maxSource)
		if t.searched += len(text); err == nil && f(name, string(text)) {
			return name
		}
	}
	return ""
}

// cause returns an error without the operation and path that it names.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// SortByDepth sorts paths: those of upper directories first, then by name.
func SortByDepth(names []string) {
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(strings.Count(a, "/")-strings.Count(b, "/"), strings.Compare(a, b))
	})
}
