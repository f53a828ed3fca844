package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestTree(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root)
	tree, err := s.NewTree()
	check(t, err)
	if st, err := os.Stat(tree.Dir); err != nil || st.Mode() != fs.ModeDir|0o755 {
		t.Errorf("Dir: %v, %v", st.Mode(), err)
	}
	check(t, os.WriteFile(tree.Dir+"/f", []byte("x"), 0o644))
	check(t, os.MkdirAll(tree.Work+"/work", 0o000))
	if _, ok := s.Tree("k"); ok {
		t.Error("found before Commit")
	}
	check(t, tree.Commit("k"))
	check(t, tree.Commit("another key"))
	check(t, tree.Close())
	for _, key := range []string{"k", "another key"} {
		if dir, ok := s.Tree(key); !ok || dir != tree.Dir {
			t.Errorf("Tree(%q) = %q, %v, want %q", key, dir, ok, tree.Dir)
		}
	}
	if b, err := os.ReadFile(tree.Dir + "/f"); err != nil || string(b) != "x" {
		t.Errorf("content %q, %v", b, err)
	}
	check(t, s.Close())
	if dir, ok := open(t, root).Tree("k"); !ok || dir != tree.Dir {
		t.Errorf("after Close: %q, %v", dir, ok)
	}
}

func TestSecondTreeUnderAKey(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root)
	first, err := s.NewTree()
	check(t, err)
	second, err := s.NewTree()
	check(t, err)
	check(t, first.Commit("k"))
	check(t, second.Commit("k"))
	check(t, second.Close())
	if dir, _ := s.Tree("k"); dir != first.Dir {
		t.Errorf("Tree = %q, want the first", dir)
	}
	if _, err := os.Stat(second.Dir); err != nil {
		t.Errorf("the second is gone while the store is open: %v", err)
	}
	check(t, s.Close())
	if _, err := os.Stat(second.Dir); err == nil {
		t.Error("the second is still there after Close")
	}
	if l := left(t, root); len(l) > 0 {
		t.Errorf("left: %v", l)
	}
}

func TestUnfiledTrees(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root)
	dropped, err := s.NewTree()
	check(t, err)
	check(t, os.MkdirAll(dropped.Dir+"/a/b", 0o755))
	check(t, os.Chmod(dropped.Dir+"/a", 0o500))
	check(t, dropped.Close())
	if _, err := os.Stat(dropped.Dir); err == nil {
		t.Error("Close left the tree")
	}
	kept, err := s.NewTree()
	check(t, err)
	kept.Keep()
	check(t, kept.Close())
	if _, err := os.Stat(kept.Dir); err != nil {
		t.Errorf("Close removed a kept tree: %v", err)
	}
	dir, err := s.TempDir("x-*")
	check(t, err)
	check(t, os.WriteFile(dir+"/f", nil, 0o644))
	check(t, s.Close())
	if l := left(t, root); len(l) > 0 {
		t.Errorf("left: %v", l)
	}
}

func TestTreesOfAnotherBoot(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	check(t, open(t, root).Close())
	old := filepath.Join(root, treesDir, "0b0e5c1a-another-boot")
	check(t, os.MkdirAll(old+"/x/tree/usr/bin", 0o755))
	s := open(t, root)
	if _, err := os.Stat(old); err == nil {
		t.Error("still there")
	}
	s.trash.work.Wait()
	if l := left(t, root); len(l) != 1 { // the lease
		t.Errorf("left: %v", l)
	}
}

func TestRemoveTreeGoesDeep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/deep"
	check(t, os.Mkdir(dir, 0o755))
	wd, err := os.OpenRoot(dir)
	check(t, err)
	name := strings.Repeat("d", 200)
	for range 40 { // 8,000 bytes of path
		check(t, wd.Mkdir(name, 0o755))
		next, err := wd.OpenRoot(name)
		check(t, err)
		wd.Close()
		wd = next
	}
	wd.Close()
	outside := t.TempDir() + "/f"
	check(t, os.WriteFile(outside, nil, 0o644))
	check(t, os.Symlink(outside, dir+"/link"))
	check(t, os.Symlink(filepath.Dir(outside), dir+"/dirlink"))
	var stop atomic.Bool
	stop.Store(true)
	if r := removeTree(dir, &stop); r.err != nil || r.files != 0 {
		t.Errorf("told to stop: %+v", r)
	}
	if r := removeTree(dir, nil); r.err != nil || r.files != 43 {
		t.Errorf("removed %+v", r)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("a symlink was followed: %v", err)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	stores := []*Store{open(t, root), open(t, root)}
	var wg sync.WaitGroup
	var inside, most, waits atomic.Int32
	for i := range 60 {
		wg.Go(func() {
			var mine int
			unlock, err := stores[i%2].Lock(context.Background(), "key", func() { mine++; waits.Add(1) })
			if err != nil {
				t.Error(err)
				return
			}
			if n := inside.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(100 * time.Microsecond)
			inside.Add(-1)
			unlock()
			if mine > 1 {
				t.Errorf("waiting was called %d times", mine)
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d held the key at once", most.Load())
	}
	if waits.Load() == 0 {
		t.Error("nobody ever waited")
	}
}

func TestLockCancelled(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	unlock, err := s.Lock(context.Background(), "key", nil)
	check(t, err)
	other, err := s.Lock(context.Background(), "other key", func() { t.Error("waits for another key") })
	check(t, err)
	other()
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := s.Lock(ctx, "key", cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want Canceled", err)
	}
	unlock()
	again, err := s.Lock(context.Background(), "key", nil)
	check(t, err)
	again()
}
