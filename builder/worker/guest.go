package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// inGuest reports whether commands run in a kernel of their own, which cannot mount
// directories of the machine.
func (c *commands) inGuest() bool { return c.isolation.Mode == sandbox.Gvisor }

// guestBind is bind for the isolation mode gvisor.
func (m *mounter) guestBind(ctx context.Context, want op.Mount, mount *sandbox.Mount) (err error) {
	mount.Type = "layers"
	if r := m.job.In[want.Input]; r.dir == nil {
		mount.Subpath = want.Source
		mount.Layers, err = r.stack.GuestLayers(ctx)
		return err
	}
	c, err := m.contextCopy(ctx, m.job.In[want.Input], m.job.Step.In[want.Input].Sel)
	if err != nil {
		return err
	}
	l, err := m.layers.GuestLayer(ctx, c.dir, c.listing)
	mount.Subpath, mount.Layers = c.sub, []sandbox.Layer{l}
	return err
}

// guestCache sets the directory of a cache mount in the isolation mode gvisor. The owners
// of its files are in a record beside it.
func (m *mounter) guestCache(want op.Mount, data string, mount *sandbox.Mount) error {
	info, err := os.Lstat(data)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("the cache on %s is a file, which cannot be mounted in the isolation mode gvisor: make it a directory", want.Target)
	}
	mount.Type, mount.Source, mount.Record, mount.Mode = "cache", data, recordOf(data), 0o755
	if o := want.Owner; o != nil {
		mount.UID, mount.GID, mount.Mode = o.UID, o.GID, o.Mode
	}
	return err
}

// recordOf returns the path of the record of a cache mount, an encoded listing beside its
// directory. It has the attributes of files that the directory cannot have.
func recordOf(data string) string { return filepath.Dir(data) + "/record" }

// writeRecord writes the record of a cache mount, and removes the entries that are in the
// record only: all but directories and regular files.
func writeRecord(data string, x *listing.Listing) error {
	err := filepath.WalkDir(data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Type().IsRegular() {
			return err
		}
		return os.Remove(path)
	})
	if err != nil {
		return err
	}
	return os.WriteFile(recordOf(data), x.Encode(), 0o600)
}

// readRecord returns the content of a cache mount with a record, nil if it has none.
func readRecord(data string) ([]tarball.Change, error) {
	text, err := os.ReadFile(recordOf(data))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	x, err := listing.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", recordOf(data), err)
	}
	changes := make([]tarball.Change, len(x.Entries))
	for i := range x.Entries {
		c := &changes[i]
		c.Entry = x.Entries[i]
		c.Digest, c.Content = "", nil
		if c.Type == listing.TypeFile && c.Size > 0 {
			c.Open = func() (io.ReadCloser, error) { return os.OpenInRoot(data, c.Path) }
		}
	}
	return changes, nil
}

// guestScripts returns mounts of the heredocs that are executed as files.
func guestScripts(files []op.RunFile) (mounts []sandbox.Mount) {
	for _, f := range files {
		mounts = append(mounts, sandbox.Mount{
			Type: "file", Target: scriptsDir + "/" + path.Base(f.Name), ReadOnly: true, Data: f.Data, Mode: 0o755,
		})
	}
	return mounts
}
