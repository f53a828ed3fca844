package store

import (
	"strconv"
	"sync"
	"testing"
)

// TestFirstTrees makes the first trees of a boot concurrently: each can be
// committed.
func TestFirstTrees(t *testing.T) {
	for range 50 {
		s, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				tree, err := s.NewTree()
				if err != nil {
					t.Error(err)
					return
				}
				if err := tree.Commit(strconv.Itoa(i)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for i := range 8 {
			if _, ok := s.Tree(strconv.Itoa(i)); !ok {
				t.Errorf("tree %d is not there", i)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
