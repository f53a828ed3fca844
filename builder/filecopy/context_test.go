package filecopy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/source"
)

// openContext opens a build context with the given paths, in the form of treeOf. Owners
// are ignored.
func openContext(t *testing.T, ignore string, lines ...string) *source.Dir {
	t.Helper()
	root := t.TempDir()
	for _, line := range lines {
		fields := strings.Fields(line)
		var err error
		switch fields[0] {
		case "d":
			err = os.Mkdir(filepath.Join(root, fields[3]), 0o755)
		case "f":
			err = os.WriteFile(filepath.Join(root, fields[3]), []byte(strings.Join(fields[4:], " ")), 0o644)
		case "l":
			err = os.Symlink(fields[2], filepath.Join(root, fields[1]))
		case "h":
			err = os.Link(filepath.Join(root, fields[2]), filepath.Join(root, fields[1]))
		case "s":
			err = unix.Mknod(filepath.Join(root, fields[1]), unix.S_IFSOCK|0o600, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, err := source.OpenDir(root, []byte(ignore), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

// TestSources checks that a copy from a context and one from a stage with the same files
// make the same changes.
func TestSources(t *testing.T) {
	t.Parallel()
	lines := []string{
		"d 0755 0:0 a", "f 0644 0:0 a/x.go 1", "f 0644 0:0 a/y.c 2", "d 0755 0:0 a/b", "f 0644 0:0 a/b/z.go 3", "d 0755 0:0 a/b/c", "f 0644 0:0 a/b/c/w.go 4",
		"h a/b/c/other a/b/z.go", "l a/b/link z.go", "l la a/b", "f 0644 0:0 top 5",
	}
	context, stage := FromContext(openContext(t, "", lines...)), FromTree(treeOf(t, lines...))
	below := treeOf(t, "d 0711 1:1 app")
	parents := func(pivot, include string) []op.CopySource {
		return []op.CopySource{{Path: pivot, Parents: true, Include: include}}
	}
	for name, test := range map[string]struct {
		op   op.Copy
		want string
	}{
		"a file": {op.Copy{Sources: paths("/a/b/z.go"), Dest: "/app/n"}, "d 0711 1:1 app\nf 0644 0:0 app/n 3\n"},
		"a file with exclude": {
			op.Copy{Sources: paths("/a/b/z.go"), Dest: "/app/n", Exclude: []string{"x"}},
			"d 0711 1:1 app\nf 0644 0:0 app/n 3\n",
		},
		"files with exclude": {
			op.Copy{Sources: paths("/a/*.go", "/a/b/*.go"), Dest: "/app", DestDir: true, Exclude: []string{"x"}},
			"d 0711 1:1 app\nf 0644 0:0 app/x.go 1\nf 0644 0:0 app/z.go 3\n",
		},
		"a directory with exclude": {
			op.Copy{Sources: paths("/a/b"), Dest: "/app", Exclude: []string{"c/w*"}},
			"d 0711 1:1 app\nd 0755 0:0 app/c\nf 0644 0:0 app/c/other 3\nl app/link z.go\nh app/z.go app/c/other\n",
		},
		"a directory with exclude and an exception": {
			op.Copy{Sources: paths("/a/b"), Dest: "/app", Exclude: []string{"*", "!c/w.go"}},
			"d 0711 1:1 app\nd 0755 0:0 app/c\nf 0644 0:0 app/c/w.go 4\n",
		},
		"a link to a directory with exclude": {
			op.Copy{Sources: paths("/la"), Dest: "/app", Exclude: []string{"c", "link"}},
			"d 0711 1:1 app\nf 0644 0:0 app/z.go 3\n",
		},
		"the root with exclude": {
			op.Copy{Sources: paths("/"), Dest: "/app", Exclude: []string{"a", "la"}},
			"d 0711 1:1 app\nf 0644 0:0 app/top 5\n",
		},
		"parents": {
			op.Copy{Sources: parents("/", "a/b/*.go"), Dest: "/app", DestDir: true},
			"d 0711 1:1 app\nd 0755 0:0 app/a\nd 0755 0:0 app/a/b\nf 0644 0:0 app/a/b/z.go 3\n",
		},
		"parents below a pivot": {
			op.Copy{Sources: parents("/a/b", "c/w.go"), Dest: "/app", DestDir: true},
			"d 0711 1:1 app\nd 0755 0:0 app/c\nf 0644 0:0 app/c/w.go 4\n",
		},
		"parents and exclude": {
			op.Copy{Sources: parents("/a/b", "c"), Dest: "/app", DestDir: true, Exclude: []string{"**/w.go"}},
			"d 0711 1:1 app\nd 0755 0:0 app/c\nf 0644 0:0 app/c/other 3\n",
		},
		"parents without a match": {op.Copy{Sources: parents("/a/b", "*.h"), Dest: "/app", DestDir: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, from := range []struct {
				name string
				src  Source
			}{{"context", context}, {"stage", stage}} {
				o := test.op
				o.Chown, o.Sources = "0:0", append([]op.CopySource(nil), o.Sources...)
				got, err := copyInto(t, below, from.src, o)
				if err != nil {
					got = err.Error()
				}
				if d := cmp.Diff(test.want, got); d != "" {
					t.Errorf("from the %s (-want +got):\n%s", from.name, d)
				}
			}
		})
	}
}

// TestContextErrors checks the errors for paths that a context does not have.
func TestContextErrors(t *testing.T) {
	t.Parallel()
	src := FromContext(openContext(t, "hidden\n*.tmp\n", "d 0755 0:0 dir", "f 0644 0:0 dir/file x", "f 0644 0:0 hidden x", "f 0644 0:0 dir/keep.tmp x", "f 0644 0:0 a.tmp x", "s sock"))
	for path, want := range map[string]string{
		"/dir/fle":     `"/dir/fle": not found in the build context (did you mean /dir/file?)`,
		"/dri":         `"/dri": not found in the build context (did you mean /dir?)`,
		"/hidden":      `"/hidden": not found: the ignore file leaves it out by the pattern "hidden"`,
		"/a.tmp":       `"/a.tmp": not found: the ignore file leaves it out by the pattern "*.tmp"`,
		"/sock":        `"/sock": sockets and devices cannot be part of a build context`,
		"/none/*.c":    `"/none": not found in the build context`,
		"/../dir/file": "", // ".." stops at the root
		"/dir/keep*":   "",
	} {
		got := ""
		if _, err := Select(t.Context(), src, op.Selection{Paths: []op.SelPath{{Path: path}}}); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

// TestSourceErrors checks that an error of a source other than a missing path is returned
// unchanged.
func TestSourceErrors(t *testing.T) {
	t.Parallel()
	other := errors.New("other")
	if got := notFound(t.Context(), FromTree(treeOf(t)), "a", other); got != other {
		t.Errorf("got %v", got)
	}
	_, err := Select(t.Context(), FromTree(treeOf(t, "l loop loop")), op.Selection{Paths: []op.SelPath{{Path: "/loop"}}})
	if !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop: %v", err)
	}
}
