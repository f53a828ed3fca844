package listing

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// parse makes a layer from lines such as "bin/ 755", "etc/passwd =text", "lib ->
// usr/lib", "b == a" (hard link), "-gone" (whiteout), "dir!" (opaque).
func parse(t testing.TB, lines string) *Listing {
	t.Helper()
	x := &Listing{}
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		x.Entries = append(x.Entries, parseEntry(line))
	}
	slices.SortFunc(x.Entries, Compare)
	return x
}

func parseEntry(line string) Entry {
	if from, to, ok := strings.Cut(line, " -> "); ok {
		return Entry{Path: from, Type: TypeSymlink, Mode: 0o777, Link: to}
	}
	if from, to, ok := strings.Cut(line, " == "); ok {
		return Entry{Path: from, Type: TypeHardlink, Link: to}
	}
	if path, ok := strings.CutPrefix(line, "-"); ok {
		return Entry{Path: path, Type: TypeWhiteout}
	}
	if path, ok := strings.CutSuffix(line, "!"); ok {
		return Entry{Path: path, Type: TypeOpaque}
	}
	path, content, _ := strings.Cut(line, " =")
	if path, ok := strings.CutSuffix(path, "/"); ok {
		return Entry{Path: path, Type: TypeDir, Mode: 0o750}
	}
	e := Entry{Path: path, Type: TypeFile, Mode: 0o644, Size: int64(len(content))}
	if CarriesContent(path) {
		e.Content = []byte(content)
	}
	return e
}

// list formats a view: a line with path, type, layer and tree path for each node.
func list(t testing.TB, v *View) []string {
	t.Helper()
	var lines []string
	err := v.Walk(".", func(n Node) error {
		lines = append(lines, describe(n))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func describe(n Node) string {
	s := n.Path
	switch n.Type {
	case TypeDir:
		s += "/"
	case TypeSymlink:
		s += " -> " + n.Link
	case TypeHardlink:
		s += " == " + n.Link
	}
	s += fmt.Sprintf(" @%d", n.Layer)
	if n.TreePath != n.Path {
		s += " in " + n.TreePath
	}
	return s
}

func TestWith(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		layers []string
		want   string
	}{
		{"nothing", nil, "./ @-1"},
		{"parents are implied", []string{"a/b/c"}, "./ @-1|a/ @-1|a/b/ @-1|a/b/c @0"},
		{"order is bytewise", []string{"a/\na/x\na-b\na-b2/\na-b2/y\na.c"}, "./ @-1|a/ @0|a-b @0|a-b2/ @0|a-b2/y @0|a.c @0|a/x @0"},
		{"whiteout", []string{"a/\na/x\na/y", "-a/x"}, "./ @-1|a/ @0|a/y @0"},
		{"whiteout of a directory", []string{"a/\na/x/y\nb", "-a"}, "./ @-1|b @0"},
		{"whiteout of nothing", []string{"b", "-a/b/c"}, "./ @-1|b @0"},
		{"whiteout and addition", []string{"a/\na/x", "-a\na/\na/y"}, "./ @-1|a/ @1|a/y @1"},
		{"whiteout spares its own layer", []string{"a/x", "a/y\n-a/x\na/x"}, "./ @-1|a/ @-1|a/x @1|a/y @1"},
		{"opaque", []string{"a/\na/x\na/d/e", "a/\na!\na/y"}, "./ @-1|a/ @1|a/y @1"},
		{"opaque through symlink", []string{"a/x\nl -> a", "l!"}, "./ @-1|a/ @-1|l -> a @0"},
		{"opaque root", []string{"a/\nb", ".!\nc"}, "./ @-1|c @1"},
		{"directory over directory", []string{"a/\na/x", "a/"}, "./ @-1|a/ @1|a/x @0"},
		{"directory over file", []string{"a", "a/\na/x"}, "./ @-1|a/ @1|a/x @1"},
		{"file over directory", []string{"a/\na/x", "a"}, "./ @-1|a @1"},
		{"directory over symlink", []string{"b/\nb/x\na -> b", "a/\na/y"}, "./ @-1|a/ @1|a/y @1|b/ @0|b/x @0"},
		{"symlinked parent", []string{"usr/bin/\nbin -> usr/bin", "bin/x"}, "./ @-1|bin -> usr/bin @0|usr/ @-1|usr/bin/ @0|usr/bin/x @1"},
		{"absolute symlinked parent", []string{"usr/bin/\nbin -> /usr/bin", "bin/x"}, "./ @-1|bin -> /usr/bin @0|usr/ @-1|usr/bin/ @0|usr/bin/x @1"},
		{"escaping symlinked parent", []string{"l -> ../../e", "l/x"}, "./ @-1|e/ @-1|e/x @1|l -> ../../e @0"},
		{"whiteout through symlink", []string{"usr/bin/x\nbin -> usr/bin", "-bin/x"}, "./ @-1|bin -> usr/bin @0|usr/ @-1|usr/bin/ @-1"},
		{"looping parent", []string{"a -> b\nb -> a", "a/x"}, "./ @-1|a -> b @0|b -> a @0"},
		{"hard link", []string{"a\nb == a"}, "./ @-1|a @0|b == a @0 in a"},
		{"hard link before its target", []string{"b\na == b"}, "./ @-1|a == b @0 in b|b @0"},
		{"hard link chain", []string{"a\nb == a", "c == b"}, "./ @-1|a @0|b == a @0 in a|c == b @0 in a"},
		{"hard link through symlink", []string{"u/\nl -> u", "l/f\nx == l/f"}, "./ @-1|l -> u @0|u/ @0|u/f @1|x == u/f @1 in u/f"},
		{"hard link to nothing", []string{"b == a"}, "./ @-1"},
		{"root", []string{"./"}, "./ @0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := Empty()
			var before []string
			for _, text := range tt.layers {
				before = append(before, strings.Join(list(t, v), "|"))
				v = v.WithLayer(parse(t, text))
			}
			if got := strings.Join(list(t, v), "|"); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if v.Depth() != len(tt.layers) {
				t.Errorf("depth %d", v.Depth())
			}
			// Earlier views must not have changed.
			v = Empty()
			for i, text := range tt.layers {
				if got := strings.Join(list(t, v), "|"); got != before[i] {
					t.Errorf("view %d changed: %s, was %s", i, got, before[i])
				}
				v = v.WithLayer(parse(t, text))
			}
		})
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	v := Empty().WithLayer(parse(t, `
		usr/bin/sh
		bin -> usr/bin
		abs -> /usr/bin
		up -> ../../../usr
		usr/rel -> ../bin/sh
		dangling -> no/where
		loop -> loop
		self -> .
		file
	`))
	tests := []struct {
		path   string
		follow bool
		want   string
		ok     bool
	}{
		{".", true, ".", true},
		{"", true, ".", true},
		{"/", true, ".", true},
		{"/bin/sh", true, "usr/bin/sh", true},
		{"abs//sh", true, "usr/bin/sh", true},
		{"bin", false, "bin", true},
		{"bin/", false, "bin", true},
		{"bin/.", false, "usr/bin", true},
		{"bin", true, "usr/bin", true},
		{"up/bin", true, "usr/bin", true},
		{"usr/rel", true, "usr/bin/sh", true},
		{"bin/..", true, "usr", true},
		{"../../file", true, "file", true},
		{"dangling", true, "no/where", false},
		{"dangling", false, "dangling", true},
		{"dangling/x", true, "no/where/x", false},
		{"bin/none/deep", true, "usr/bin/none/deep", false},
		{"bin/none/../sh", true, "usr/bin/sh", true},
		{"file/x", true, "file/x", false},
		{"self/self/file", true, "file", true},
	}
	for _, tt := range tests {
		got, n, ok, err := v.Resolve(tt.path, tt.follow)
		if err != nil || got != tt.want || ok != tt.ok || ok && n.Path != tt.want {
			t.Errorf("Resolve(%q, %v) = %q, %q, %v, %v; want %q, %v", tt.path, tt.follow, got, n.Path, ok, err, tt.want, tt.ok)
		}
	}
	if _, _, _, err := v.Resolve("loop/x", true); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("loop: %v", err)
	}
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	v := Empty().WithLayer(parse(t, "etc/passwd =root:x:0:0\nu -> etc/passwd\nother =x")).WithLayer(parse(t, "etc/group ="))
	tests := []struct {
		path, want string
		ok         bool
	}{
		{"etc/passwd", "root:x:0:0", true},
		{"/u", "root:x:0:0", true},
		{"etc/group", "", true},
		{"other", "", false},
		{"etc", "", false},
		{"none", "", false},
	}
	for _, tt := range tests {
		got, ok := v.ReadFile(tt.path)
		if string(got) != tt.want || ok != tt.ok {
			t.Errorf("ReadFile(%q) = %q, %v", tt.path, got, ok)
		}
	}
	big := parse(t, "etc/passwd =x")
	big.Entries[0].Size, big.Entries[0].Content = MaxContent+1, nil
	if got, ok := Empty().WithLayer(big).ReadFile("etc/passwd"); ok {
		t.Errorf("a dropped content was read as %q", got)
	}
}

func TestReadDirAndLookup(t *testing.T) {
	t.Parallel()
	v := Empty().WithLayer(parse(t, "d/b\nd/a/\nd/a-\nd/a/x\nf"))
	var got []string
	for _, n := range v.ReadDir("d") {
		got = append(got, describe(n))
	}
	if diff := cmp.Diff([]string{"d/a/ @0", "d/a- @0", "d/b @0"}, got); diff != "" {
		t.Error(diff)
	}
	if got := v.ReadDir("f"); got != nil {
		t.Errorf("children of a file: %v", got)
	}
	if _, ok := v.Lookup("f/x"); ok {
		t.Error("found something in a file")
	}
	if n, ok := v.Lookup("d/a/x"); !ok || n.Path != "d/a/x" {
		t.Errorf("Lookup: %v, %v", n, ok)
	}
}

func TestWalkStops(t *testing.T) {
	t.Parallel()
	v := Empty().WithLayer(parse(t, "a/\na/x\na-\nb/\nb/y\nc"))
	var got []string
	skip := map[string]error{"a": fs.SkipDir, "c": fs.SkipAll}
	err := v.Walk(".", func(n Node) error {
		got = append(got, n.Path)
		return skip[n.Path]
	})
	if err != nil || strings.Join(got, " ") != ". a a- b b/y c" {
		t.Errorf("walked %v, %v", got, err)
	}
	boom := errors.New("boom")
	if err := v.Walk("b", func(n Node) error { return boom }); err != boom {
		t.Errorf("error %v", err)
	}
}
