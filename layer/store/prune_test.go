package store

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

// filled returns a store with a tagged, a pinned and an unreferenced image, each
// with a layer, listing, record and tree.
type filled struct {
	root                  string
	tagged, pinned, alone layer.Image
}

func fill(t *testing.T) filled {
	t.Helper()
	f := filled{root: t.TempDir()}
	s := open(t, f.root)
	for content, img := range map[string]*layer.Image{"tagged": &f.tagged, "pinned": &f.pinned, "alone": &f.alone} {
		made, bodies := testImage(t, content)
		*img = made
		_, err := s.PutBytes(bodies[0])
		check(t, err)
		check(t, s.AddLayer(made.Layers[0]))
		check(t, s.PutListing(made.Layers[0].DiffID, &listing.Listing{}))
		check(t, s.PutRecord(content, nil))
		check(t, s.PutHint(content, nil))
		tree, err := s.NewTree()
		check(t, err)
		check(t, tree.Commit(content))
	}
	check(t, s.Tag("t", f.tagged))
	check(t, s.SetPin("p", "linux/amd64", f.pinned))
	_, err := s.PutBytes(f.alone.Manifest)
	check(t, err)
	check(t, s.Close())
	return f
}

// age sets the last use of all entries.
func age(t *testing.T, root string, by time.Duration) {
	t.Helper()
	when := time.Now().Add(-by)
	for _, pattern := range []string{"blobs/sha256/*", "layers/*", "indexes/*", "records/*", "hints/*", "tags/*", "pins/*", "trees/*/*"} {
		paths, err := filepath.Glob(root + "/" + pattern)
		check(t, err)
		for _, path := range paths {
			check(t, os.Chtimes(path, when, when))
		}
	}
}

func (f filled) has(s *Store, img layer.Image, key string) (blob, index, record, tree bool) {
	_, blob = s.TouchBlob(img.Layers[0].Digest)
	_, err := s.Listing(img.Layers[0].DiffID)
	_, recordErr := s.Record(key)
	_, tree = s.Tree(key)
	return blob, err == nil, recordErr == nil, tree
}

func TestPrune(t *testing.T) {
	t.Parallel()
	week := 8 * 24 * time.Hour
	for _, tt := range []struct {
		name                   string
		age                    time.Duration
		o                      PruneOptions
		removed                PruneReport
		alone                  [4]bool // blob, listing, record and tree of the unreferenced image
		taggedRecord, pinStays bool
	}{
		{"fresh", time.Hour, PruneOptions{}, PruneReport{}, [4]bool{true, true, true, true}, true, true},
		{"old", week, PruneOptions{}, PruneReport{Blobs: 5, Records: 3, Hints: 3, Trees: 3, Pins: 1}, [4]bool{false, true, false, false}, false, false},
		{"before", time.Hour, PruneOptions{Before: time.Now()}, PruneReport{Blobs: 5, Records: 3, Hints: 3, Trees: 3, Pins: 1}, [4]bool{false, true, false, false}, false, false},
		{"all", time.Hour, PruneOptions{All: true}, PruneReport{Blobs: 5, Layers: 2, Records: 3, Hints: 3, Trees: 3, Pins: 1}, [4]bool{}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := fill(t)
			age(t, f.root, tt.age)
			s := open(t, f.root)
			r, err := s.Prune(tt.o)
			check(t, err)
			if (r.Freed > 0) != (tt.removed.Blobs > 0) {
				t.Errorf("freed %d bytes", r.Freed)
			}
			r.Freed = 0
			if r != tt.removed {
				t.Errorf("removed %+v, want %+v", r, tt.removed)
			}
			var alone [4]bool
			alone[0], alone[1], alone[2], alone[3] = f.has(s, f.alone, "alone")
			if alone != tt.alone {
				t.Errorf("lone image: %v, want %v", alone, tt.alone)
			}
			blob, index, record, _ := f.has(s, f.tagged, "tagged")
			if !blob || !index || record != tt.taggedRecord {
				t.Errorf("tagged image: blob %v, index %v, record %v", blob, index, record)
			}
			if _, err := s.Image("t"); err != nil {
				t.Errorf("tagged image: %v", err)
			}
			if _, err := s.Pin("p", "linux/amd64"); (err == nil) != tt.pinStays {
				t.Errorf("pin: %v", err)
			}
		})
	}
}

func TestPruneSparesWhatLivingProcessesUse(t *testing.T) {
	t.Parallel()
	f := fill(t)
	age(t, f.root, time.Hour)
	reader := open(t, f.root)
	if blob, index, record, tree := f.has(reader, f.alone, "alone"); !blob || !index || !record || !tree {
		t.Fatal("the store is not filled")
	}
	keyless, err := reader.NewTree()
	check(t, err)
	time.Sleep(20 * time.Millisecond) // after the next tick of the file system's clock
	gc := open(t, f.root)
	_, err = gc.Prune(PruneOptions{All: true})
	check(t, err)
	if blob, index, record, tree := f.has(reader, f.alone, "alone"); !blob || !index || !record || !tree {
		t.Errorf("gone: %v %v %v %v", blob, index, record, tree)
	}
	if _, err := os.Stat(keyless.Dir); err != nil {
		t.Errorf("tree without a key: %v", err)
	}
	if _, _, record, tree := f.has(reader, f.pinned, "pinned"); record || tree {
		t.Error("what nobody used is still there")
	}
	check(t, keyless.Close())
	check(t, reader.Close())
	time.Sleep(20 * time.Millisecond)
	last := open(t, f.root)
	_, err = last.Prune(PruneOptions{All: true})
	check(t, err)
	if blob, _, _, tree := f.has(last, f.alone, "alone"); blob || tree {
		t.Error("still there when nobody uses it any more")
	}
}

func TestPruneRemovesLostTrees(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root)
	tree, err := s.NewTree()
	check(t, err)
	check(t, tree.Commit("k"))
	check(t, os.Remove(s.keyPath("k"))) // as if killed in the middle of Commit
	check(t, s.Close())
	age(t, root, time.Hour)
	s = open(t, root)
	r, err := s.Prune(PruneOptions{All: true})
	check(t, err)
	if r.Trees != 1 {
		t.Errorf("%d trees removed, want 1", r.Trees)
	}
	check(t, s.Close())
	if l := left(t, root); len(l) > 0 {
		t.Errorf("left: %v", l)
	}
}

// After a part of a store was removed by hand, it can be used and pruned.
func TestPruneWithoutKeys(t *testing.T) {
	t.Parallel()
	f := fill(t)
	keys, err := filepath.Glob(f.root + "/trees/*/" + keysDir)
	check(t, err)
	if len(keys) != 1 {
		t.Fatalf("folders of keys: %v", keys)
	}
	check(t, os.RemoveAll(keys[0]))
	s := open(t, f.root)
	tree, err := s.NewTree()
	check(t, err)
	check(t, tree.Commit("new"))
	if _, ok := s.Tree("new"); !ok {
		t.Error("a new tree is not stored")
	}
	check(t, s.Close())

	check(t, os.RemoveAll(keys[0]))
	trees, err := filepath.Glob(f.root + "/trees/*/*")
	check(t, err)
	before := time.Now().Add(-time.Hour) // the next lease may begin at the same tick of the clock
	for _, tree := range trees {
		check(t, os.Chtimes(tree, before, before))
	}
	s = open(t, f.root)
	report, err := s.Prune(PruneOptions{All: true})
	check(t, err)
	check(t, s.Close())
	if report.Trees == 0 {
		t.Error("no tree was removed")
	}
}
