package source

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
)

// tree describes a directory by a map from paths to nodes. Parents need not be listed.
type tree map[string]node

type node struct {
	text string
	mode uint32 // type and permissions
}

func file(text string, perm uint32) node { return node{text, unix.S_IFREG | perm} }
func link(target string) node            { return node{target, unix.S_IFLNK} }
func hard(target string) node            { return node{target, 0} }
func folder(perm uint32) node            { return node{"", unix.S_IFDIR | perm} }
func fifo() node                         { return node{"", unix.S_IFIFO | 0o600} }
func socket() node                       { return node{"", unix.S_IFSOCK | 0o600} }

// text returns a plain file.
func text(s string) node { return file(s, 0o644) }

func (tr tree) make(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	var paths []string
	for p := range tr {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, func(a, b string) int { // hard links last
		if (tr[a].mode == 0) != (tr[b].mode == 0) {
			return map[bool]int{true: 1, false: -1}[tr[a].mode == 0]
		}
		return map[bool]int{true: 1, false: -1}[a > b]
	})
	for _, p := range paths {
		tr[p].make(t, root, filepath.Join(root, p))
	}
	return root
}

func (n node) make(t testing.TB, root, p string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(p), 0o755))
	switch n.mode & unix.S_IFMT {
	case unix.S_IFREG:
		must(t, os.WriteFile(p, []byte(n.text), 0o600))
		must(t, unix.Chmod(p, n.mode&0o7777))
	case unix.S_IFLNK:
		must(t, os.Symlink(n.text, p))
	case unix.S_IFDIR:
		must(t, os.MkdirAll(p, 0o755))
		must(t, unix.Chmod(p, n.mode&0o7777))
	case 0:
		must(t, os.Link(filepath.Join(root, n.text), p))
	default:
		must(t, unix.Mknod(p, n.mode, 0))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, root, ignore string, h Hints) *Dir {
	t.Helper()
	d, err := OpenDir(root, []byte(ignore), h)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func walk(t testing.TB, d *Dir, path string, o WalkOptions) (paths []string) {
	t.Helper()
	must(t, d.Walk(context.Background(), path, o, func(f File) error {
		paths = append(paths, f.Path)
		return nil
	}))
	return paths
}

func scan(t testing.TB, d *Dir) map[string]File {
	t.Helper()
	out := map[string]File{}
	last := ""
	must(t, d.Scan(context.Background(), ".", WalkOptions{}, func(files []File) {
		for _, f := range files {
			if f.Type == listing.TypeFile && f.Digest == "" {
				t.Errorf("%s: no digest", f.Path)
			}
			if last != "." && f.Path <= last {
				t.Errorf("%s comes after %s", f.Path, last)
			}
			out[f.Path], last = f, f.Path
		}
	}))
	return out
}
