package store

import (
	"os"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

// TestVariant checks that a variant of a tree is a tree of its own, and that Check
// verifies it against the listing of the layer.
func TestVariant(t *testing.T) {
	s := open(t, t.TempDir())
	id := layer.FromBytes([]byte("layer"))
	check(t, s.PutListing(id, &listing.Listing{Entries: []listing.Entry{
		{Path: "f", Type: listing.TypeFile, Mode: 0o644, Size: 4, Digest: layer.FromBytes([]byte("text"))},
	}}))
	key := func(id layer.Digest) string { return "layer " + string(id) }
	dirs := map[string]string{}
	for _, k := range []string{key(id), Variant(key(id), 1), Variant(key(id), -1)} {
		if _, ok := s.Tree(k); ok {
			t.Errorf("there is a tree of %q", k)
		}
		tree, err := s.NewTree()
		check(t, err)
		check(t, os.WriteFile(tree.Dir+"/f", []byte("text"), 0o644))
		check(t, tree.Commit(k))
		dirs[k] = tree.Dir
	}
	for k, want := range dirs {
		if dir, ok := s.Tree(k); !ok || dir != want {
			t.Errorf("the tree of %q is %q, want %q", k, dir, want)
		}
	}
	check(t, os.WriteFile(dirs[Variant(key(id), 1)]+"/f", []byte("evil"), 0o644))
	r, err := s.Check(t.Context(), CheckOptions{LayerKey: key, Repair: true})
	check(t, err)
	if len(r.Wrong) != 1 || r.Trees != 3 || !strings.Contains(r.Wrong[0].Why, "differs from layer "+string(id)+": f: ") || !r.Wrong[0].Dropped {
		t.Errorf("%+v", r)
	}
}
