package diff

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// describeUpper returns the paths of an upper directory.
func describeUpper(t testing.TB, dir string) (all []Upper) {
	t.Helper()
	walk := func(path string, _ os.DirEntry, err error) error {
		check(t, err)
		var st unix.Stat_t
		check(t, unix.Lstat(path, &st))
		rel, err := filepath.Rel(dir, path)
		check(t, err)
		u := Upper{
			Entry: listing.Entry{Path: rel, Type: typeOf(&st), Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid), Size: st.Size},
			Time:  time.Unix(st.Mtim.Sec, st.Mtim.Nsec), Inode: st.Ino, Links: uint64(st.Nlink),
		}
		at := place{unix.AT_FDCWD, path}
		switch u.Type {
		case listing.TypeSymlink:
			u.Link, err = at.readlink(int(st.Size))
			check(t, err)
		case listing.TypeChar, listing.TypeBlock:
			u.Major, u.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
		case listing.TypeFile, listing.TypeDir:
			u.XAttrs, _, err = at.xattrs()
			check(t, err)
			u.Opaque = isOpaque(at)
			u.Open = func() (io.ReadCloser, error) { return os.Open(path) }
		}
		all = append(all, u)
		return nil
	}
	check(t, filepath.WalkDir(dir, walk))
	return all
}

// listed calls Listed for an upper directory that Overlay has not changed yet.
func (l *lab) listed(upper string) ListedResult {
	l.t.Helper()
	at := func(n listing.Node) string { return filepath.Join(l.trees[n.Layer], n.TreePath) }
	found, err := Listed(l.t.Context(), describeUpper(l.t, upper), Below{
		View: l.view,
		Time: func(n listing.Node) time.Time {
			info, err := os.Lstat(at(n))
			check(l.t, err)
			return info.ModTime()
		},
		Open: func(n listing.Node) (io.ReadCloser, error) { return os.Open(at(n)) },
	}, l.o)
	check(l.t, err)
	return found
}

// sameAsListed compares the results of Listed and Overlay.
func (l *lab) sameAsListed(listed ListedResult, found Result) {
	l.t.Helper()
	ignore := cmpopts.IgnoreFields(tarball.Change{}, "Open", "Time")
	if d := cmp.Diff(found.Changes, listed.Changes, ignore, cmpopts.EquateEmpty()); d != "" {
		l.t.Errorf("Listed and Overlay differ (-overlay +listed):\n%s", d)
	}
	for i, c := range listed.Changes {
		if i < len(found.Changes) && (c.Open == nil) != (found.Changes[i].Open == nil) {
			l.t.Errorf("%s: it has content: %v", c.Path, c.Open != nil)
		}
	}
}

// TestListedRefuses checks that paths of a foreign kernel are not trusted.
func TestListedRefuses(t *testing.T) {
	t.Parallel()
	root := Upper{Entry: listing.Entry{Path: ".", Type: listing.TypeDir, Mode: 0o755}}
	file := func(path string) Upper { return Upper{Entry: listing.Entry{Path: path, Type: listing.TypeFile}} }
	link := Upper{Entry: listing.Entry{Path: "l", Type: listing.TypeSymlink, Link: "/etc"}}
	for want, upper := range map[string][]Upper{
		"its directory is missing":       {root, file("a/b")},
		"not clean":                      {root, file("../a")},
		"it is there twice":              {root, file("a"), file("a")},
		"l/f: its directory is missing":  {root, link, file("l/f")},
		"not the first directory":        {root, root},
		".: the root is not":             {file(".")},
		"a: its directory is missing":    {file("a")},
		"longer than":                    {root, file(strings.Repeat("x", listing.MaxPath+1))},
		"/a: the path is not clean, or":  {root, file("/a")},
		"a/.: the path is not clean, or": {root, file("a/.")},
	} {
		if _, err := Listed(t.Context(), upper, Below{View: listing.Empty()}, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}
