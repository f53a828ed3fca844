package source

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func resolveTree() tree {
	return tree{
		"f": text("f"), "d/x": text("x"), "d/sub/y": text("y"), "d/out": link("../../../../../f"),
		"rel": link("d/x"), "abs": link("/d/x"), "dir": link("d"), "twice": link("dir/sub/../x"), "up": link("../../.."),
		"passwd": link("/etc/passwd"), "rooted": link("/"), "loop": link("loop"), "ping": link("pong"), "pong": link("ping"),
		"dangling": link("d/none"), "sock": socket(), "pipe": fifo(), "hidden/h": text("h"), "tohidden": link("hidden/h"),
		"part/keep": text("k"), "part/drop": text("d"), "secretlink": link("f"), "deeplink": link("d/sub/"), "self": link("."),
	}
}

const resolveIgnore = "hidden\npart\n!part/keep\nsecretlink\n"

func TestResolve(t *testing.T) {
	root := resolveTree().make(t)
	d := open(t, root, resolveIgnore, nil)
	for _, c := range []struct {
		path   string
		follow bool
		want   string
		err    error
	}{
		{"f", true, "f", nil},
		{"/f", true, "f", nil},
		{"../../f", true, "f", nil},
		{"./d//x/", true, "d/x", nil},
		{"", true, ".", nil},
		{"/", false, ".", nil},
		{"rel", true, "d/x", nil},
		{"rel", false, "rel", nil},
		{"abs", true, "d/x", nil},
		{"dir/x", false, "d/x", nil},
		{"dir", true, "d", nil},
		{"twice", true, "d/x", nil},
		{"up", true, ".", nil},
		{"up/f", true, "f", nil},
		{"d/out", true, "f", nil},
		{"rooted/d/x", true, "d/x", nil},
		{"self/self/self/f", true, "f", nil},
		{"deeplink/y", true, "d/sub/y", nil},
		{"pipe", true, "pipe", nil},
		{"part", true, "part", nil},
		{"part/keep", true, "part/keep", nil},
		{"none", true, "", fs.ErrNotExist},
		{"f/x", true, "", fs.ErrNotExist},
		{"dangling", true, "", fs.ErrNotExist},
		{"dangling", false, "dangling", nil},
		{"passwd", true, "", fs.ErrNotExist}, // there is no etc/passwd in the context
		{"sock", true, "", fs.ErrNotExist},
		{"loop", true, "", unix.ELOOP},
		{"ping/x", true, "", unix.ELOOP},
		{"hidden", true, "", &IgnoredError{"hidden", "hidden"}},
		{"hidden/h", true, "", &IgnoredError{"hidden/h", "hidden"}},
		{"tohidden", true, "", &IgnoredError{"hidden/h", "hidden"}},
		{"secretlink", true, "", &IgnoredError{"secretlink", "secretlink"}},
		{"part/drop", true, "", &IgnoredError{"part/drop", "part"}},
	} {
		f, err := d.Resolve(c.path, c.follow)
		if c.err == nil && (err != nil || f.Path != c.want) {
			t.Errorf("%q (%v): got %q, %v, want %q", c.path, c.follow, f.Path, err, c.want)
		}
		if ig, ok := c.err.(*IgnoredError); ok {
			if diff := cmp.Diff(error(ig), err); diff != "" || !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q: %v: %s", c.path, err, diff)
			}
		} else if !errors.Is(err, c.err) {
			t.Errorf("%q: %v, want %v", c.path, err, c.err)
		}
	}
}

func TestResolveErrors(t *testing.T) {
	d := open(t, resolveTree().make(t), resolveIgnore, nil)
	for path, want := range map[string]string{
		"none":     "stat none: no such file or directory",
		"none/x/y": "stat none/x/y: no such file or directory",
		"dangling": "resolve dangling: stat d/none: no such file or directory",
		"passwd":   "resolve passwd: stat etc/passwd: no such file or directory",
		"loop":     "resolve loop: too many levels of symbolic links",
		"sock":     "list sock: sockets and devices are not part of a build context: file does not exist",
		"hidden/h": `hidden/h: excluded by the ignore file (pattern "hidden")`,
	} {
		if _, err := d.Resolve(path, true); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

func TestGlob(t *testing.T) {
	tr := resolveTree()
	tr["arr[0].txt"] = text("")
	tr[`back\slash`] = text("")
	tr["a*b"] = text("")
	tr[".dot"] = text("")
	root := tr.make(t)
	d := open(t, root, resolveIgnore, nil)
	for _, c := range []struct{ pattern, want string }{
		{"f", "f"},
		{"none", "none"},
		{"/d/../f/", "f"},
		{"f*", "f"},
		{"d/*", "d/out d/sub d/x"},
		{"/d/*", "d/out d/sub d/x"},
		{"dir/*", "d/out d/sub d/x"},
		{"*/x", "d/x"}, // dir is a symlink, and not entered
		{"*/*/y", "d/sub/y"},
		{"?", "d f"},
		{"none*", ""},
		{"hidden/*", "error"},
		{"hid*", ""},
		{"hid*/*", ""},
		{"pa*/*", "part/keep"},
		{"pa*", "part passwd"},
		{"secret*", ""},
		{"soc?", ""},
		{"pip?", "pipe"},
		{"[a-b]*", `a*b abs arr[0].txt back\slash`},
		{"arr[[]0].txt", "arr[0].txt"},
		{`a\*b*`, "a*b"},
		{`a\*b`, `a\*b`},
		{".d*", ".dot"},
		{"*.txt", "arr[0].txt"},
		{"*dot", ".dot"},
		{"none/*", "error"},
		{"f/*", ""},
		{"**/y", ""}, // no more than one element
		{"d/**/y", "d/sub/y"},
		{"[", "error"},
	} {
		got, err := d.Glob(context.Background(), c.pattern)
		joined := strings.Join(got, " ")
		if err != nil {
			joined = "error"
		}
		if joined != c.want {
			t.Errorf("%q: got %q (%v), want %q", c.pattern, joined, err, c.want)
		}
	}
	if _, err := d.Glob(context.Background(), "[a"); !errors.Is(err, filepath.ErrBadPattern) {
		t.Errorf("bad pattern: %v", err)
	}
}

func TestHasWildcard(t *testing.T) {
	for element, want := range map[string]bool{
		"": false, "a": false, "a*": true, "?": true, "[a]": true, "]": false,
		`\*`: false, `\\*`: true, `a\`: false, `\[\?`: false, `\a[`: true,
	} {
		if got := HasWildcard(element); got != want {
			t.Errorf("%q: got %v, want %v", element, got, want)
		}
	}
}
