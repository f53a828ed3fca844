package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
)

// hold starts one entry of each kind, reports that, and waits to be killed.
func hold(s *Store) error {
	w, err := s.NewBlob()
	if err != nil {
		return err
	}
	fmt.Fprint(w, "half a blob")
	for _, key := range []string{"", "stored", "taken"} {
		tree, err := s.NewTree()
		if err != nil {
			return err
		}
		if err := os.MkdirAll(tree.Dir+"/usr/bin", 0o755); err != nil {
			return err
		}
		if key != "" {
			if err := tree.Commit(key); err != nil {
				return err
			}
		}
	}
	if _, ok := s.Take("taken"); !ok {
		return errors.New("a tree was not given")
	}
	if _, err := s.TempDir("context-*"); err != nil {
		return err
	}
	if _, err := s.Lock(context.Background(), "key", nil); err != nil {
		return err
	}
	if err := s.PutRecord("theirs", []byte("r")); err != nil {
		return err
	}
	fmt.Print("ready\n")
	select {}
}

// churn does the work of n builds with few keys and verifies every read.
func churn(s *Store, n int) error {
	for i := range n {
		key := fmt.Sprint("key ", i%7)
		if err := churnOnce(s, key, []byte(strings.Repeat(key, 50))); err != nil {
			return fmt.Errorf("round %d: %w", i, err)
		}
	}
	return nil
}

func churnOnce(s *Store, key string, content []byte) error {
	unlock, err := s.Lock(context.Background(), key, nil)
	if err != nil {
		return err
	}
	defer unlock()
	dir, ok := s.Tree(key)
	if !ok {
		tree, err := s.NewTree()
		if err != nil {
			return err
		}
		defer tree.Close()
		if err := os.WriteFile(tree.Dir+"/f", content, 0o644); err != nil {
			return err
		}
		if err := tree.Commit(key); err != nil {
			return err
		}
		dir = tree.Dir
	}
	d, err := s.PutBytes(content)
	if err != nil {
		return err
	}
	if err := s.PutRecord(key, []byte(d)); err != nil {
		return err
	}
	// Entries that were looked up stay while this store is open.
	if b, err := os.ReadFile(dir + "/f"); err != nil || !bytes.Equal(b, content) {
		return fmt.Errorf("tree: %q, %w", b, err)
	}
	if b, err := s.Record(key); err != nil || layer.Digest(b) != d {
		return fmt.Errorf("record: %q, %w", b, err)
	}
	if b, err := s.ReadBytes(d, 1<<20); err != nil || !bytes.Equal(b, content) {
		return fmt.Errorf("blob: %q, %w", b, err)
	}
	return nil
}

// TestManyProcesses churns in processes that start and end, some of them killed,
// during repeated prunes of all unused entries.
func TestManyProcesses(t *testing.T) {
	root := t.TempDir()
	done := make(chan struct{})
	var wg, pruning sync.WaitGroup
	pruning.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				pruneOnce(t, root)
			}
		}
	})
	for i := range 4 {
		wg.Go(func() {
			for round := range 4 {
				runChurn(t, root, i == 3 && round%2 == 0)
			}
		})
	}
	wg.Wait()
	close(done)
	pruning.Wait()
	s := open(t, root)
	_, err := s.Prune(PruneOptions{All: true})
	check(t, err)
	check(t, s.Close())
	if l := left(t, root); len(l) > 0 {
		t.Errorf("left: %v", l)
	}
	if trees, _ := filepath.Glob(root + "/trees/*/*/tree"); len(trees) > 0 {
		t.Errorf("trees left: %v", trees)
	}
}

func pruneOnce(t *testing.T, root string) {
	s, err := Open(root)
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := s.Prune(PruneOptions{All: true}); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func runChurn(t *testing.T, root string, kill bool) {
	cmd := other(t, "churn", root)
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return
	}
	if kill {
		time.Sleep(20 * time.Millisecond)
		cmd.Process.Kill()
	}
	if err := cmd.Wait(); err != nil && !kill {
		t.Errorf("%v: %s", err, out.String())
	}
}
