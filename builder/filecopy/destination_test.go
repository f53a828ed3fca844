package filecopy

import (
	"errors"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

func change(t listing.Type, path string) tarball.Change {
	return tarball.Change{Entry: listing.Entry{Path: path, Type: t, Mode: 0o755, MTime: 50}}
}

// TestDestinationReplace checks a path whose type changes, also several times.
func TestDestinationReplace(t *testing.T) {
	t.Parallel()
	const f, d, l = listing.TypeFile, listing.TypeDir, listing.TypeFifo
	below := treeOf(t, "d 0700 1:1 dir", "f 0600 1:1 dir/a one", "d 0700 1:1 dir/sub", "f 0600 1:1 dir/sub/b two", "f 0600 1:1 file x")
	type step struct {
		kind listing.Type
		path string
	}
	kinds := map[listing.Type]string{f: "f", d: "d", l: "p", listing.TypeWhiteout: "w"}
	for name, test := range map[string]struct {
		steps []step
		want  []string
	}{
		"nothing":                    {nil, nil},
		"the root is left out":       {[]step{{d, "."}, {f, "x"}}, []string{"f x"}},
		"a new file":                 {[]step{{f, "dir/c"}}, []string{"d dir", "f dir/c"}},
		"a file over a file":         {[]step{{f, "file"}, {f, "file"}}, []string{"f file"}},
		"a file over a dir":          {[]step{{f, "dir"}}, []string{"f dir"}},
		"changes below are dropped":  {[]step{{f, "dir/c"}, {f, "dir"}}, []string{"f dir"}},
		"a dir over a replaced dir":  {[]step{{f, "dir"}, {d, "dir"}}, []string{"d dir", "w dir/a", "w dir/sub"}},
		"a name in a replaced dir":   {[]step{{f, "dir"}, {d, "dir"}, {f, "dir/a"}}, []string{"d dir", "f dir/a", "w dir/sub"}},
		"a dir in a replaced dir":    {[]step{{f, "dir"}, {d, "dir"}, {d, "dir/sub"}}, []string{"d dir", "w dir/a", "w dir/sub", "d dir/sub"}},
		"a replaced dir below":       {[]step{{l, "dir/sub"}, {d, "dir/sub"}}, []string{"d dir", "d dir/sub", "w dir/sub/b"}},
		"a dir over a dir":           {[]step{{d, "dir"}}, []string{"d dir"}},
		"a dir over a file":          {[]step{{d, "file"}, {f, "file/x"}}, []string{"d file", "f file/x"}},
		"a new dir that is replaced": {[]step{{d, "n"}, {f, "n/x"}, {f, "n"}, {d, "n"}}, []string{"d n"}},
		"similar names stay":         {[]step{{f, "dir.x"}, {f, "dir-x"}, {f, "dir"}}, []string{"f dir", "f dir-x", "f dir.x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dst := newDestination(below, nil)
			for _, s := range test.steps {
				dst.set(change(s.kind, s.path))
				if e, ok := dst.lookup(s.path); !ok || e.Type != s.kind {
					t.Errorf("%s: %v %v", s.path, e, ok)
				}
			}
			changes, err := dst.changes()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for c := range changes.All() {
				got = append(got, kinds[c.Type]+" "+c.Path)
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestDestinationLookup checks that files of a replaced directory are gone.
func TestDestinationLookup(t *testing.T) {
	t.Parallel()
	below := treeOf(t, "d 0700 1:1 dir", "d 0700 1:1 dir/sub", "f 0600 1:1 dir/sub/b two", "f 0600 1:1 dirt x")
	dst := newDestination(below, nil)
	if _, ok := dst.lookup("dir/sub/b"); !ok {
		t.Error("dir/sub/b does not exist")
	}
	dst.set(change(listing.TypeFile, "dir"))
	dst.set(change(listing.TypeDir, "dir"))
	for p, want := range map[string]bool{"dir": true, "dir/sub": false, "dir/sub/b": false, "dirt": true, ".": true, "gone": false} {
		if _, ok := dst.lookup(p); ok != want {
			t.Errorf("%s exists: %v", p, ok)
		}
	}
	if !dst.isFree("gone") || dst.isFree("dirt") {
		t.Error("a missing path is not free, or a file is")
	}
}

func TestMkdirs(t *testing.T) {
	t.Parallel()
	lines := []string{"d 0700 1:1 dir", "l dir/back ..", "l dir/abs /new/place", "l dir/loop loop", "f 0600 1:1 file x", "l tofile file"}
	for p, test := range map[string]struct {
		want string
		err  error
	}{
		".":            {},
		"dir":          {},
		"dir/a/b":      {want: "d 0700 1:1 dir\nd 0711 3:4 dir/a\nd 0711 3:4 dir/a/b\n"},
		"dir/back":     {},
		"dir/abs":      {want: "d 0711 3:4 new\nd 0711 3:4 new/place\n"},
		"dir/loop":     {err: syscall.ELOOP},
		"file":         {err: syscall.ENOTDIR},
		"file/x":       {err: syscall.ENOTDIR},
		"tofile":       {err: syscall.ENOTDIR},
		"new/deep/dir": {want: "d 0711 3:4 new\nd 0711 3:4 new/deep\nd 0711 3:4 new/deep/dir\n"},
	} {
		dst := newDestination(treeOf(t, lines...), nil)
		err := dst.mkdirs(p, listing.Entry{Mode: 0o711, UID: 3, GID: 4})
		if !errors.Is(err, test.err) {
			t.Errorf("%s: %v, want %v", p, err, test.err)
		}
		changes, err := dst.changes()
		if err != nil {
			t.Fatal(err)
		}
		if got := describe(t, changes); got != test.want {
			t.Errorf("%s: got %q, want %q", p, got, test.want)
		}
	}
}

// TestResolve checks symlinks on the way to a destination.
func TestResolve(t *testing.T) {
	t.Parallel()
	below := treeOf(t, "d 0700 1:1 a", "d 0700 1:1 a/b", "l a/up ..", "l a/out ../../../..", "l a/abs /a/b", "l a/new fresh/dir", "l self self", "l x y", "l y x", "f 0600 1:1 file x")
	for p, want := range map[string]string{
		"/":               ".",
		"":                ".",
		"/../..":          ".",
		"/a/b":            "a/b",
		"a//b/./c":        "a/b/c",
		"/a/up/a/up":      ".",
		"/a/out/a":        "a",
		"/a/abs/c":        "a/b/c",
		"/a/new/c":        "a/fresh/dir/c",
		"/none/../a":      "a",
		"/file/x":         "file/x",
		"/self":           "/self: too many levels of symbolic links",
		"/x/z":            "/x/z: too many levels of symbolic links",
		"/a/b/../up/self": "/a/up/self: too many levels of symbolic links",
	} {
		got, err := newDestination(below, nil).resolve(p)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", p, got, want)
		}
	}
}

// TestResolveBelow checks that names of an archive stay below its root, and that links
// which lead nowhere are errors.
func TestResolveBelow(t *testing.T) {
	t.Parallel()
	below := treeOf(t, "d 0700 1:1 etc", "d 0700 1:1 r", "d 0700 1:1 r/etc", "d 0700 1:1 r/a", "l r/up ..", "l r/abs /etc", "l r/a/rel ../etc", "l r/gone nothing/x", "l r/chain abs", "l r/bad gone/..", "l r/me me")
	for name, want := range map[string]string{
		"x":            "r/x",
		"a/x":          "r/a/x",
		"../../x":      "r/x",
		"a/../../x":    "r/x",
		"new/x":        "r/new/x",
		"up/x":         "r/x",
		"up/etc/x":     "r/etc/x",
		"abs/x":        "r/etc/x",
		"abs":          "r/abs", // the last element is not followed
		"a/rel/x":      "r/etc/x",
		"chain/x":      "r/etc/x",
		"chain/../x":   "r/x",
		"gone":         "r/gone",
		"gone/x":       "/r/gone: its link to nothing/x leads nowhere",
		"bad/x":        "/r/gone: its link to nothing/x leads nowhere",
		"me/x":         "/r: too many levels of symbolic links",
		"a/../gone/..": "/r/gone: its link to nothing/x leads nowhere",
	} {
		got, err := newDestination(below, nil).resolveBelow("r", name)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path, dir string
		want      bool
	}{
		{"a", ".", true},
		{".", ".", false},
		{"a", "a", false},
		{"a/b", "a", true},
		{"ab", "a", false},
		{"ab/c", "a", false},
		{"a", "a/b", false},
		{".", "a", false},
	} {
		if got := within(c.path, c.dir); got != c.want {
			t.Errorf("%s within %s: %v", c.path, c.dir, got)
		}
	}
}

func TestClamp(t *testing.T) {
	t.Parallel()
	epoch := int64(10)
	for _, c := range []struct {
		epoch      *int64
		time, want int64
	}{{nil, 99, 99}, {&epoch, 99, 10}, {&epoch, 10, 10}, {&epoch, -3, -3}} {
		if got := clamp(c.epoch, c.time); got != c.want {
			t.Errorf("%d: got %d, want %d", c.time, got, c.want)
		}
	}
}
