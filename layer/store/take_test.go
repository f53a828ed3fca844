package store

import (
	"os"
	"testing"
)

// TestTake checks that a tree is given to one caller, who removes or stores it again.
func TestTake(t *testing.T) {
	root := t.TempDir()
	s, other := open(t, root), open(t, root)
	made, err := s.NewTree()
	check(t, err)
	check(t, os.WriteFile(made.Dir+"/f", []byte("text"), 0o644))
	check(t, made.Commit("k"))
	check(t, made.Close())
	taken, ok := other.Take("k")
	if !ok {
		t.Fatal("the tree was not given")
	}
	if text, err := os.ReadFile(taken.Dir + "/f"); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	if _, ok := s.Take("k"); ok {
		t.Error("the tree was given twice")
	}
	if _, ok := s.Tree("k"); ok {
		t.Error("the tree still has its key")
	}
	check(t, s.Close()) // the tree is no longer that of its maker
	if _, err := os.Stat(taken.Dir); err != nil {
		t.Error(err)
	}
	check(t, taken.Commit("k"))
	again, ok := other.Take("k")
	if !ok {
		t.Fatal("the tree was not given again")
	}
	check(t, again.Close())
	if _, err := os.Stat(again.Dir); !os.IsNotExist(err) {
		t.Errorf("the closed tree is still there: %v", err)
	}
	if _, ok := other.Take("k"); ok {
		t.Error("a removed tree was given")
	}
}
