package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/limits"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/diff"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
)

// cacheMountKey returns the key of a cache mount's directory: its id, and its initial
// content, which is the selection with the given digest or an empty directory with an
// owner.
func cacheMountKey(id string, m op.Mount, digest string) string {
	key := "cache " + id
	if m.Input > 0 {
		key += "\x00" + digest + m.Source
	}
	if o := m.Owner; o != nil {
		key += fmt.Sprintf("\x00%d:%d %o", o.UID, o.GID, o.Mode)
	}
	return key
}

// sharingFor returns how a cache mount is shared with other processes in an isolation mode.
// In a chroot a directory is moved into the tree of one step, which cannot share it; a
// kernel of its own has its changes until the last step that uses the directory has ended.
func sharingFor(mode sandbox.Mode, sharing string) store.Sharing {
	s := store.Sharing(sharing)
	if (mode == sandbox.Chroot || mode == sandbox.Gvisor) && s == store.Shared {
		return store.Locked
	}
	return s
}

// localKey returns the key of the directory of a cache mount in the store. One of the
// isolation mode gvisor has its owners in a record, which other modes do not read.
func (c *cacheMounts) localKey(key string) string {
	if c.layers.Isolation.Mode == sandbox.Gvisor {
		return key + "\x00gvisor"
	}
	return key
}

// cacheMounts transfers the directories of cache mounts between machines.
type cacheMounts struct {
	store    *store.Store
	layers   *snapshot.Manager
	limits   limits.Limits
	progress *progress.Reporter
	remote   func(context.Context) []*remote.CacheMounts // nil for none

	mu     sync.Mutex
	used   map[string]string        // by RUNs of this build: key -> id
	joined map[string]*joinedMounts // of the isolation mode gvisor, by key
}

// joinedMounts is a cache mount that steps of one kernel use at once.
type joinedMounts struct {
	busy  chan struct{} // has one element while mount and users change
	mount *store.CacheMount
	users int
}

// join returns a cache mount that other steps of this process may use too, and a function
// that releases it. The first step opens it.
func (c *cacheMounts) join(ctx context.Context, key string, open func() (*store.CacheMount, error)) (*store.CacheMount, func(), error) {
	c.mu.Lock()
	j := c.joined[key]
	if j == nil {
		if c.joined == nil {
			c.joined = map[string]*joinedMounts{}
		}
		j = &joinedMounts{busy: make(chan struct{}, 1)}
		c.joined[key] = j
	}
	c.mu.Unlock()
	select {
	case j.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	defer func() { <-j.busy }()
	if j.users == 0 {
		m, err := open()
		if err != nil {
			return nil, nil, err
		}
		j.mount = m
	}
	j.users++
	return j.mount, j.leave, nil
}

// leave closes the cache mount after its last user.
func (j *joinedMounts) leave() {
	j.busy <- struct{}{}
	defer func() { <-j.busy }()
	if j.users--; j.users == 0 {
		j.mount.Close()
	}
}

// use notes that a RUN uses a cache mount.
func (c *cacheMounts) use(key, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used == nil {
		c.used = map[string]string{}
	}
	c.used[key] = id
}

// restore makes the directory dir with the content that another machine exported. It
// returns false if there is none or if that fails.
func (c *cacheMounts) restore(ctx context.Context, key, id, dir string) bool {
	if c.remote == nil {
		return false
	}
	for _, from := range c.remote(ctx) {
		r, b, ok, err := from.Open(ctx, key)
		if !ok {
			continue
		}
		if err == nil {
			end := c.progress.Span("cache mounts", progress.Work, "fetches "+id)
			err = c.unpack(r, b, dir)
			end()
		}
		if err == nil {
			return true
		}
		c.progress.Warn("%v: the cache mount %s begins empty", err, id)
		if err := os.RemoveAll(dir); err != nil {
			c.progress.Warn("%v", err)
		}
	}
	return false
}

func (c *cacheMounts) unpack(r io.ReadCloser, b layer.Descriptor, dir string) error {
	defer r.Close()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return snapshot.Uncompress(b, r, func(tar io.Reader) error {
		bound := c.limits.Layer(b)
		x, err := tarball.Apply(dir, tar, c.layers.ApplyOptions(tarball.ApplyOptions{Limits: bound.Limits}))
		if err == nil && c.layers.Isolation.Mode == sandbox.Gvisor {
			err = writeRecord(dir, x)
		}
		return bound.Explain(err)
	})
}

// pack writes the directories that RUNs of this build used to the store.
func (c *cacheMounts) pack(ctx context.Context) ([]remote.CacheMount, error) {
	c.mu.Lock()
	used := maps.Clone(c.used)
	c.mu.Unlock()
	var all []remote.CacheMount
	for _, key := range slices.Sorted(maps.Keys(used)) {
		packed, err := c.packOne(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("cache mount %s: %w", used[key], err)
		}
		if packed != nil {
			packed.ID = used[key]
			all = append(all, *packed)
		}
	}
	return all, nil
}

// packOne packs one directory. It waits until no step uses it. It returns nil if the
// cache mount is a file.
func (c *cacheMounts) packOne(ctx context.Context, key string) (*remote.CacheMount, error) {
	removed := func(string) error { return errors.New("it was removed meanwhile") }
	mount, err := c.store.CacheMount(ctx, c.localKey(key), store.Locked, removed, func() {})
	if err != nil {
		return nil, err
	}
	defer mount.Close()
	if info, err := os.Lstat(mount.Data); err != nil || !info.IsDir() {
		return nil, err
	}
	changes, err := readRecord(mount.Data)
	if changes == nil && err == nil {
		changes, err = diff.List(ctx, mount.Data)
	}
	if err != nil {
		return nil, err
	}
	b, err := c.layers.WriteScratch(func(out io.Writer) error {
		_, err := tarball.Write(out, snapshot.DiffChanges(changes).All())
		return err
	})
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return c.store.OpenVerified(b.Digest) }
	return &remote.CacheMount{Key: key, Blob: b, Source: remote.Source{Open: open}}, nil
}
