package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func emptyFolder(data string) error { return os.Mkdir(data, 0o755) }

func useCache(t *testing.T, s *Store, key string, sharing Sharing) *CacheMount {
	t.Helper()
	c, err := s.CacheMount(t.Context(), key, sharing, emptyFolder, func() { t.Error("waits") })
	check(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestCacheFolderIsKept(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	first := open(t, root)
	c := useCache(t, first, "../../etc", Shared)
	if rel, err := filepath.Rel(first.path(cachesDir), c.Data); err != nil || strings.HasPrefix(rel, "..") {
		t.Fatalf("%s lies outside", c.Data)
	}
	check(t, os.WriteFile(c.Data+"/f", []byte("kept"), 0o644))
	c.Close()
	check(t, first.Close())
	again := useCache(t, open(t, root), "../../etc", Private)
	if text, err := os.ReadFile(again.Data + "/f"); string(text) != "kept" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestCacheFolderSharing(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	one, two := open(t, root), open(t, root)
	a, b := useCache(t, one, "k", Shared), useCache(t, two, "k", Shared)
	if a.Data != b.Data {
		t.Error("shared ones do not share")
	}
	c, d := useCache(t, one, "k", Private), useCache(t, two, "k", Private)
	if c.Data == a.Data || c.Data == d.Data {
		t.Error("a private one is shared")
	}
	if other := useCache(t, one, "other", Shared); other.Data == a.Data {
		t.Error("two keys share a folder")
	}
	c.Close()
	if e := useCache(t, two, "k", Private); e.Data != c.Data {
		t.Error("a free private one is not used again")
	}
}

func TestLockedCacheFolderWaits(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	one, two := open(t, root), open(t, root)
	first, err := one.CacheMount(t.Context(), "k", Locked, emptyFolder, nil)
	check(t, err)
	waits := make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	gaveUp := errors.New("gave up")
	go func() {
		<-waits
		cancel(gaveUp)
	}()
	if _, err := two.CacheMount(ctx, "k", Locked, emptyFolder, func() { close(waits) }); !errors.Is(err, gaveUp) {
		t.Errorf("after a cancelled wait: %v", err)
	}
	second, err := two.CacheMount(t.Context(), "k", Locked, emptyFolder, first.Close)
	check(t, err)
	defer second.Close()
	if first.Data != second.Data {
		t.Error("another folder after the wait")
	}
}

func TestCacheFolderIsFilledOnce(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	filled := 0
	fill := func(data string) error {
		filled++
		return os.WriteFile(data, []byte("seed"), 0o600)
	}
	for range 2 {
		c, err := s.CacheMount(t.Context(), "k", Shared, fill, nil)
		check(t, err)
		if text, err := os.ReadFile(c.Data); string(text) != "seed" {
			t.Errorf("%q, %v", text, err)
		}
		c.Close()
	}
	if filled != 1 {
		t.Errorf("filled %d times", filled)
	}
	failed := errors.New("failed")
	if _, err := s.CacheMount(t.Context(), "bad", Shared, func(string) error { return failed }, nil); !errors.Is(err, failed) {
		t.Errorf("filling failed: %v", err)
	}
}

func TestPruneOfCacheFolders(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	idle, busy := useCache(t, s, "idle", Shared), useCache(t, s, "busy", Shared)
	idle.Close()
	for _, tt := range []struct {
		o          PruneOptions
		removed    int
		idleRemain bool
	}{{PruneOptions{}, 0, true}, {PruneOptions{All: true}, 1, false}} {
		r, err := s.Prune(tt.o)
		check(t, err)
		_, idleErr := os.Stat(idle.Data)
		if _, err := os.Stat(busy.Data); r.Caches != tt.removed || err != nil || (idleErr == nil) != tt.idleRemain {
			t.Errorf("%+v: removed %d, busy: %v, idle: %v", tt.o, r.Caches, err, idleErr)
		}
	}
	if u, err := s.Usage(); err != nil || u.Caches.Count != 1 {
		t.Errorf("usage: %+v, %v", u.Caches, err)
	}
}

// A directory without its contents is made again.
func TestLostCacheFolder(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	for _, sharing := range []Sharing{Shared, Private, Locked} {
		c := useCache(t, s, "k", sharing)
		check(t, os.Remove(c.Data))
		c.Close()
		again := useCache(t, s, "k", sharing)
		if _, err := os.Stat(again.Data); err != nil || again.Data != c.Data {
			t.Errorf("%s: %s, then %s: %v", sharing, c.Data, again.Data, err)
		}
		again.Close()
	}
}

// Prune keeps the cache mounts of a running build for its next step, and removes
// them later.
func TestPruneSparesCachesOfLivingProcesses(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root)
	c, err := s.CacheMount(context.Background(), "k", Shared, func(data string) error { return os.Mkdir(data, 0o700) }, nil)
	check(t, err)
	c.Close()
	gc := open(t, root)
	if r, err := gc.Prune(PruneOptions{All: true}); err != nil || r.Caches != 0 {
		t.Errorf("removed %d: %v", r.Caches, err)
	}
	check(t, s.Close())
	if r, err := gc.Prune(PruneOptions{All: true}); err != nil || r.Caches != 1 {
		t.Errorf("removed %d afterwards: %v", r.Caches, err)
	}
}
