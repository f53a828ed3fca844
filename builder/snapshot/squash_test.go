package snapshot

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// TestSquash checks the changes of merged layers, and that the tree stays the same.
func TestSquash(t *testing.T) {
	gone := func(path string) tarball.Change {
		return tarball.Change{Entry: listing.Entry{Path: path, Type: listing.TypeWhiteout}}
	}
	opaque := func(path string) tarball.Change {
		return tarball.Change{Entry: listing.Entry{Path: path, Type: listing.TypeOpaque}}
	}
	link := func(path, target string) tarball.Change {
		return tarball.Change{Entry: listing.Entry{Path: path, Type: listing.TypeHardlink, Link: target}}
	}
	base := []tarball.Change{dir("a"), file("a/b", "b"), dir("a/d"), file("a/d/e", "e"), file("f", "f")}
	for _, test := range []struct {
		name   string
		layers [][]tarball.Change
		base   int
		want   string // of the merged layer: -path is a whiteout, path=target a link
	}{
		{"of the base", [][]tarball.Change{base, {dir("a"), file("a/x", "1")}, {dir("n"), file("n/y", "2")}}, 1, "a a/x n n/y"},
		{"all", [][]tarball.Change{base, {file("z", "1")}}, 0, "a a/b a/d a/d/e f z"},
		{"changed twice", [][]tarball.Change{base, {file("f", "1")}, {file("f", "22")}}, 1, "f"},
		{"added and removed", [][]tarball.Change{base, {file("z", "1")}, {gone("z")}}, 1, ""},
		{"removed", [][]tarball.Change{base, {dir("a"), gone("a/b")}, {gone("f")}}, 1, "a -a/b -f"},
		{"removed directory", [][]tarball.Change{base, {gone("a")}, {file("z", "1")}}, 1, "-a z"},
		{"removed and back", [][]tarball.Change{base, {gone("a")}, {dir("a"), file("a/n", "1")}}, 1, "a -a/b -a/d a/n"},
		{"file for a directory", [][]tarball.Change{base, {gone("a")}, {file("a", "1")}}, 1, "a"},
		{"directory for a file", [][]tarball.Change{base, {gone("f")}, {dir("f"), file("f/g", "1")}}, 1, "f f/g"},
		{"opaque", [][]tarball.Change{base, {dir("a"), opaque("a")}, {dir("a"), file("a/n", "1")}}, 1, "a -a/b -a/d a/n"},
		{"links", [][]tarball.Change{base, {file("l", "1"), link("m", "l")}, {file("z", "1")}}, 1, "l m=l z"},
		{"a link whose target changed", [][]tarball.Change{base, {file("l", "1"), link("m", "l")}, {file("l", "2")}}, 1, "l m"},
		{"one layer", [][]tarball.Change{base, {file("z", "1")}}, 1, "z"},
		{"order", [][]tarball.Change{base, {dir("a"), dir("a/d"), file("a/d/x", "1")}, {file("a-b", "2")}}, 1, "a a-b a/d a/d/x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newBlobs()
			var blobs []layer.Descriptor
			for _, changes := range test.layers {
				blobs = append(blobs, r.pack(t, changes...))
			}
			m := newManager(t, r, openStore(t))
			stack := m.Image(blobs, "example/image", nil)
			squashed, err := stack.Squash(t.Context(), test.base, "merging")
			must(t, err)
			if n := len(squashed.Layers()); n != test.base+1 {
				t.Errorf("%d layers, want %d", n, test.base+1)
			}
			merged, err := squashed.Top().Listing(t.Context())
			must(t, err)
			if got := describe(merged); got != test.want {
				t.Errorf("the merged layer has %q, want %q", got, test.want)
			}
			must(t, m.Wait())
			if got, want := contents(t, squashed), contents(t, stack); got != want {
				t.Errorf("the tree is\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// describe lists the entries of a layer.
func describe(x *listing.Listing) string {
	var all []string
	for _, e := range x.Entries {
		switch e.Type {
		case listing.TypeWhiteout:
			all = append(all, "-"+e.Path)
		case listing.TypeHardlink:
			all = append(all, e.Path+"="+e.Link)
		default:
			all = append(all, e.Path)
		}
	}
	return strings.Join(all, " ")
}

// contents lists the paths of a stack with their attributes.
func contents(t *testing.T, s *Stack) string {
	t.Helper()
	v, err := s.FullView(t.Context())
	must(t, err)
	var b strings.Builder
	must(t, v.Walk(".", func(n listing.Node) error {
		_, err := fmt.Fprintln(&b, n.Path, n.Mode, n.Size, n.Digest, n.MTime)
		return err
	}))
	return b.String()
}
