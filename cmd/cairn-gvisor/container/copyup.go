package container

import (
	"sync"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/sentry/kernel/auth"
	"gvisor.dev/gvisor/pkg/sentry/vfs"

	"github.com/cairn-build/cairn/layer/listing"
)

// copyUps keeps the times of directories in which an overlay copies up files, as Linux
// does: the content of the directory has not changed. It implements layerfs.Watcher.
type copyUps struct {
	vfs   *vfs.VirtualFilesystem
	creds *auth.Credentials
	upper vfs.VirtualDentry

	mu    sync.Mutex
	times map[string]linux.StatxTimestamp // of the parents of files whose copy has begun
}

// Starting implements layerfs.Watcher.
func (c *copyUps) Starting(ctx context.Context, path string) {
	if path == "." || c.exists(ctx, path) {
		return
	}
	st, err := c.vfs.StatAt(ctx, c.creds, at(c.upper, parent(path)), &vfs.StatOptions{Mask: linux.STATX_MTIME})
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times[path] = st.Mtime
}

// Made implements layerfs.Watcher.
func (c *copyUps) Made(ctx context.Context, path string) {
	c.mu.Lock()
	mtime, ok := c.times[path]
	delete(c.times, path)
	c.mu.Unlock()
	if !ok || !c.exists(ctx, path) {
		return
	}
	c.vfs.SetStatAt(ctx, c.creds, at(c.upper, parent(path)), &vfs.SetStatOptions{
		Stat: linux.Statx{Mask: linux.STATX_MTIME, Mtime: mtime},
	})
}

func (c *copyUps) exists(ctx context.Context, path string) bool {
	_, err := c.vfs.StatAt(ctx, c.creds, at(c.upper, path), &vfs.StatOptions{Mask: linux.STATX_TYPE})
	return err == nil
}

// parent returns the path of the directory with a file, "" for the root.
func parent(path string) string {
	if dir := listing.Dir(path); dir != "." {
		return dir
	}
	return ""
}
