package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer/listing"
)

// Glance is a summary of the changes in a root.
type Glance struct {
	Files int      // that were made or changed
	Bytes int64    // of them
	Last  []string // absolute paths of some that were changed last, the last first
}

// lastChanged is the number of paths in a Glance.
const lastChanged = 3

type glanced struct {
	path string
	at   time.Time
}

// Glance summarizes the changes of a command with the given result in the root since a
// time. It changes nothing.
func (r *Root) Glance(ctx context.Context, res sandbox.Result, since time.Time) (Glance, error) {
	var g Glance
	var all []glanced
	touched := map[string]bool{}
	for _, path := range res.Touched {
		touched[strings.TrimPrefix(path, "/")] = true
	}
	add := func(path string, size int64, at time.Time) {
		if touched[path] {
			return
		}
		g.Files, g.Bytes = g.Files+1, g.Bytes+size
		all = append(all, glanced{"/" + path, at})
		if len(all) > 1000 {
			all = newest(all)
		}
	}
	var err error
	switch {
	case r.guest != nil:
		for _, c := range res.Changes {
			if c.Mode&unix.S_IFMT == unix.S_IFREG {
				add(c.Path, c.Size, time.Unix(c.Sec, c.Nsec))
			}
		}
	case r.plain != nil:
		err = glanceAt(ctx, r.plain.tree.Dir, since.Add(-clockStep), add)
	default:
		err = glanceAt(ctx, r.upper.Dir, time.Time{}, add)
	}
	for _, one := range newest(all) {
		g.Last = append(g.Last, one.path)
	}
	return g, err
}

// clockStep is the time by which the clock of a file system may be late.
const clockStep = 20 * time.Millisecond

func newest(all []glanced) []glanced {
	slices.SortStableFunc(all, func(a, b glanced) int { return b.at.Compare(a.at) })
	return all[:min(len(all), lastChanged)]
}

// glanceAt calls add for the regular files of a tree that were changed since a time.
func glanceAt(ctx context.Context, dir string, since time.Time, add func(path string, size int64, at time.Time)) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		var st unix.Stat_t
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil || !e.Type().IsRegular():
			return err
		}
		if unix.Lstat(path, &st) != nil {
			return nil
		}
		if at := time.Unix(st.Ctim.Unix()); !at.Before(since) {
			add(path[len(dir)+1:], st.Size, at)
		}
		return nil
	})
}

// Reopen lets another command with the given spec see the changes of one that had the given
// result. They are in place except in the isolation mode gvisor.
func (r *Root) Reopen(ctx context.Context, res sandbox.Result, spec *sandbox.Spec) error {
	if r.guest == nil {
		return nil
	}
	changes, err := r.Changes(ctx, res, nil)
	if err != nil {
		return err
	}
	x := &listing.Listing{}
	for c, err := range changes.All() {
		if err != nil {
			return err
		}
		x.Entries = append(x.Entries, c.Entry)
		if err := readContent(&x.Entries[len(x.Entries)-1], c); err != nil {
			return err
		}
	}
	slices.SortFunc(x.Entries, listing.Compare)
	upper, err := r.stack.NewUpper(ctx)
	if err != nil {
		return err
	}
	layer, err := r.stack.m.GuestLayer(ctx, r.upper.Dir, x)
	if err != nil {
		upper.Close()
		return err
	}
	layer.ID += " " + strconv.Itoa(len(r.guest.layers))
	// The directories of the last layer stay until the store is closed.
	r.upper.Keep()
	r.upper = upper
	g := r.guest
	top := len(g.layers) - 1
	g.layers = slices.Concat(g.layers[:top], []sandbox.Layer{layer}, g.layers[top:])
	g.times = append(g.times, map[string]time.Time{})
	g.contents, g.scratch = upper.Work+"/contents", upper.Work+"/scratch"
	if err := errors.Join(os.Mkdir(g.contents, 0o700), os.Mkdir(g.scratch, 0o700)); err != nil {
		return err
	}
	return r.attachGuest(spec)
}

// Renew makes the folders for temporary files of spec, which is attached to the root,
// usable for another command.
func (r *Root) Renew(spec *sandbox.Spec) error {
	if r.guest != nil {
		var err error
		for _, dir := range []string{r.guest.contents, r.guest.scratch} {
			err = errors.Join(err, os.RemoveAll(dir), os.Mkdir(dir, 0o700))
		}
		return err
	}
	// A volatile mount does not accept a used workdir.
	err := os.RemoveAll(spec.Work + "/work")
	for _, m := range spec.Mounts {
		if m.Work != "" {
			err = errors.Join(err, os.RemoveAll(m.Work+"/work"))
		}
	}
	return err
}

// Hides reports whether the changes in the root hide files that are added below them at a
// path, because they have removed or replaced a directory of it.
func (r *Root) Hides(path string) bool {
	if r.guest != nil || r.plain != nil {
		return false
	}
	at := r.upper.Dir
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		at += "/" + name
		var st unix.Stat_t
		if unix.Lstat(at, &st) != nil {
			return false
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return true
		}
		if _, err := unix.Lgetxattr(at, "user.overlay.opaque", nil); err == nil {
			return true
		}
	}
	return false
}
