package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/layer/diff"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
	"github.com/cairn-build/cairn/layer/tree"
)

// guestRoot is the root of a command in the isolation mode gvisor.
type guestRoot struct {
	layers   []sandbox.Layer
	times    []map[string]time.Time // exact times by layer, bottom first
	contents string                 // receives the contents of changed files
	scratch  string
}

// description is the exact times of the paths in a tree.
type description struct{ times map[string]time.Time }

func (s *Stack) newGuestRoot(ctx context.Context) (*Root, error) {
	g := &guestRoot{}
	var err error
	if g.layers, g.times, err = s.guestLayers(ctx); err != nil {
		return nil, err
	}
	upper, err := s.NewUpper(ctx)
	if err != nil {
		return nil, err
	}
	g.contents, g.scratch = upper.Work+"/contents", upper.Work+"/scratch"
	if err := errors.Join(os.Mkdir(g.contents, 0o700), os.Mkdir(g.scratch, 0o700)); err != nil {
		upper.Close()
		return nil, err
	}
	return &Root{stack: s, upper: upper, guest: g}, nil
}

// GuestLayers returns the layers of a tree for the isolation mode gvisor, bottom first. The
// topmost one sets the attributes of the root directory.
func (s *Stack) GuestLayers(ctx context.Context) ([]sandbox.Layer, error) {
	layers, _, err := s.guestLayers(ctx)
	return layers, err
}

func (s *Stack) guestLayers(ctx context.Context) (layers []sandbox.Layer, times []map[string]time.Time, err error) {
	if _, err := s.Trees(ctx); err != nil { // concurrently
		return nil, nil, err
	}
	for _, s := range s.chain() {
		dir, err := s.layer.Tree(ctx, s.below)
		if err != nil {
			return nil, nil, err
		}
		x, err := s.layer.EarlyListing(ctx)
		if err != nil {
			return nil, nil, err
		}
		d := &description{}
		if !s.layer.created.IsZero() {
			if d, err = s.m.describe(ctx, dir, x); err != nil {
				return nil, nil, err
			}
		}
		layers, times = append(layers, guestLayer(dir, x, d)), append(times, d.times)
	}
	root, err := s.rootEntry(ctx)
	if err != nil {
		return nil, nil, err
	}
	return append(layers, rootLayer(root)), times, nil
}

// rootLayer returns a layer that has a root directory only.
func rootLayer(root listing.Entry) sandbox.Layer {
	x := &listing.Listing{Entries: []listing.Entry{root}}
	return sandbox.Layer{
		ID:       "root " + strconv.Quote(string(x.Encode())),
		Describe: func() (*listing.Listing, []guest.Time, error) { return x, nil, nil },
	}
}

// GuestLayer returns a layer for the isolation mode gvisor of a directory that does not
// change and its listing.
func (m *Manager) GuestLayer(ctx context.Context, dir string, x *listing.Listing) (sandbox.Layer, error) {
	d, err := m.describe(ctx, dir, x)
	if err != nil {
		return sandbox.Layer{}, err
	}
	return guestLayer(dir, x, d), nil
}

func guestLayer(dir string, x *listing.Listing, d *description) sandbox.Layer {
	return sandbox.Layer{ID: dir, Tree: dir, Describe: func() (*listing.Listing, []guest.Time, error) {
		var times []guest.Time
		for path, at := range d.times {
			times = append(times, guest.Time{Path: path, Sec: at.Unix(), Nsec: int64(at.Nanosecond())})
		}
		return x, times, nil
	}}
}

// describe finds the exact times in the tree of a layer, which has the paths of the listing
// and maybe files that differ from those below in their times only.
func (m *Manager) describe(ctx context.Context, dir string, x *listing.Listing) (*description, error) {
	return m.descriptions.Do(ctx, dir, func() (*description, error) {
		listed := make(map[string]int64, len(x.Entries))
		for i := range x.Entries {
			listed[x.Entries[i].Path] = x.Entries[i].MTime
		}
		d := &description{times: map[string]time.Time{}}
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			var st unix.Stat_t
			if err == nil {
				err = unix.Lstat(path, &st)
			}
			if err != nil || path == dir || tree.IsWhiteout(&st) {
				return err
			}
			rel := path[len(dir)+1:]
			sec, ok := listed[rel]
			isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
			// A directory that is not listed was made for the entries in it.
			if st.Mtim.Nsec != 0 || ok && st.Mtim.Sec != sec || !ok && !isDir {
				d.times[rel] = time.Unix(st.Mtim.Sec, st.Mtim.Nsec)
			}
			return nil
		})
		return d, err
	})
}

// attachGuest makes spec run in the root.
func (r *Root) attachGuest(spec *sandbox.Spec) error {
	spec.Layers, spec.Upper, spec.Work = r.guest.layers, r.guest.contents, r.guest.scratch
	return nil
}

// time returns the mtime that a path had in the step.
func (g *guestRoot) time(n listing.Node) time.Time {
	for i := len(g.times) - 1; i >= max(n.Layer, 0); i-- {
		if at, ok := g.times[i][n.Path]; ok {
			return at
		}
	}
	return time.Unix(n.MTime, 0)
}

// guestChanges is Changes for the paths of the upper file system of a kernel. It makes the
// tree of the layer from them.
func (r *Root) guestChanges(ctx context.Context, list []sandbox.Change, view *listing.View, o diff.Options) (Changes, error) {
	upper := make([]diff.Upper, len(list))
	for i := range list {
		upper[i] = r.guest.upper(&list[i])
	}
	found, err := diff.Listed(ctx, upper, diff.Below{View: view, Time: r.guest.time, Open: r.stack.Open}, o)
	if err != nil {
		return nil, err
	}
	apply := r.stack.m.ApplyOptions(tarball.ApplyOptions{Below: view, Contents: r.guest.contents})
	if err := tarball.MaterializeOver(r.upper.Dir, DiffChanges(found.Tree).All(), apply); err != nil {
		return nil, fmt.Errorf("store the changes of a step: %w", r.stack.m.Store.ExplainFull(err))
	}
	for i := range found.Changes {
		if c := &found.Changes[i]; c.Open != nil {
			c.Open = func() (io.ReadCloser, error) { return os.OpenInRoot(r.upper.Dir, c.Path) }
		}
	}
	r.exact = found.Exact
	return DiffChanges(found.Changes), nil
}

// upper converts a path of the upper file system.
func (g *guestRoot) upper(c *sandbox.Change) diff.Upper {
	u := diff.Upper{
		Entry: listing.Entry{Path: c.Path, Mode: uint32(c.Mode) & 0o7777, UID: int(c.UID), GID: int(c.GID), Link: c.Link},
		Time:  time.Unix(c.Sec, c.Nsec), Inode: uint64(c.Inode), Links: uint64(max(c.Links, 0)), Opaque: c.Opaque,
	}
	u.Type = diff.TypeOf(uint32(c.Mode), c.Major == 0 && c.Minor == 0)
	switch u.Type {
	case listing.TypeFile:
		u.Size = c.Size
		u.Open = func() (io.ReadCloser, error) { return os.OpenInRoot(g.contents, c.Path) }
	case listing.TypeChar, listing.TypeBlock:
		u.Major, u.Minor = uint32(c.Major), uint32(c.Minor)
	}
	if len(c.XAttrs) > 0 {
		u.XAttrs = map[string]string{}
		for _, a := range c.XAttrs {
			u.XAttrs[a.Name] = a.Value
		}
	}
	return u
}
