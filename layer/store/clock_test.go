package store

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// setBack simulates that the clock was set back after s was opened: its lease is in
// the future.
func setBack(t *testing.T, s *Store, by time.Duration) {
	t.Helper()
	l := s.lease
	l.start += int64(by)
	l.name = fmt.Sprintf("%016x-%s", l.start, randomName(6))
	path := s.path(tmpDir, l.name)
	check(t, os.Rename(l.dir.Name(), path))
	check(t, l.dir.Close())
	var err error
	l.dir, err = os.Open(path)
	check(t, err)
	check(t, flock(l.dir, unix.LOCK_EX))
}

// Entries of a running process stay, even if the clock was set back meanwhile and
// processes of the new time used them too.
func TestPruneAfterTheClockWasSetBack(t *testing.T) {
	f := fill(t)
	age(t, f.root, time.Hour)
	s := open(t, f.root)
	setBack(t, s, 24*time.Hour)
	if blob, index, record, tree := f.has(s, f.alone, "alone"); !blob || !index || !record || !tree {
		t.Fatal("the store is not filled")
	}
	made, err := s.PutBytes([]byte("made"))
	check(t, err)
	check(t, s.PutRecord("made", nil))
	tree, err := s.NewTree()
	check(t, err)
	check(t, tree.Commit("made"))

	other := open(t, f.root)
	f.has(other, f.alone, "alone")
	check(t, other.Close())
	gc := open(t, f.root)
	_, err = gc.Prune(PruneOptions{All: true})
	check(t, err)
	if blob, index, record, tree := f.has(s, f.alone, "alone"); !blob || !index || !record || !tree {
		t.Errorf("what was used is gone: %v %v %v %v", blob, index, record, tree)
	}
	_, blob := s.TouchBlob(made)
	_, err = s.Record("made")
	if _, tree := s.Tree("made"); !blob || err != nil || !tree {
		t.Errorf("what was made is gone: %v %v %v", blob, err, tree)
	}
	if _, _, record, tree := f.has(s, f.pinned, "pinned"); record || tree {
		t.Error("what nobody used is still there")
	}
}

// A store that was filled while the clock was ahead is used, and can be emptied.
func TestPruneWhatIsOfTheFuture(t *testing.T) {
	f := fill(t)
	age(t, f.root, -1000*24*time.Hour)
	s := open(t, f.root)
	if blob, index, record, tree := f.has(s, f.alone, "alone"); !blob || !index || !record || !tree {
		t.Errorf("not used: %v %v %v %v", blob, index, record, tree)
	}
	gc := open(t, f.root)
	r, err := gc.Prune(PruneOptions{All: true})
	check(t, err)
	if r.Blobs+r.Records+r.Trees != 0 {
		t.Errorf("a living process might use it: removed %+v", r)
	}
	check(t, s.Close())
	r, err = gc.Prune(PruneOptions{All: true})
	check(t, err)
	if r.Blobs != 5 || r.Records != 3 || r.Trees != 3 || r.Pins != 1 {
		t.Errorf("removed %+v", r)
	}
	if _, err := gc.Image("t"); err != nil {
		t.Errorf("tagged image: %v", err)
	}
}

// Entries of a build that began during Prune are newer than its start, and do not
// count as being from the future.
func TestPruneLeavesWhatIsMadeMeanwhile(t *testing.T) {
	f := fill(t)
	age(t, f.root, -time.Minute)
	s := open(t, f.root)
	r, err := s.Prune(PruneOptions{All: true})
	check(t, err)
	if r.Blobs+r.Records+r.Trees != 0 {
		t.Errorf("removed %+v", r)
	}
}
