// Package diff finds the changes of a build step: it reads the upper directory of an
// overlay and returns the paths that a layer must set or remove.
//
// An overlay copies up more files than have changed, and hides whole directories if
// only some of their children were removed. A layer has the exact differences. It
// leaves out files that are equal to those below in type, mode, owner, device, size,
// time, link, extended attributes and contents. A directory that was replaced
// becomes one whiteout for each missing child. Every ancestor of a change is in the
// layer, with its attributes, because a layer may be applied over any other.
//
// The upper directory is then changed to match the layer. From then on it is the
// unpacked tree of the layer, with one difference: its files keep the times that the
// step gave them, to the nanosecond, so that the next step can tell which file is
// newer. Only the layer has times in whole seconds that are not later than the epoch.
// A file that differs from the one below in such a time only is in the tree and not in
// the layer. The cost depends on the number of entries in the upper directory; files
// below are read only if all else is equal.
//
// Layers do not contain sockets, labels of security modules, attributes in the
// trusted namespace, or those of the overlay. Hard links between regular files are
// kept. When a file of a lower tree is written, an overlay breaks its hard links;
// each name is then a separate file in the layer too.
package diff

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Options are the options of Overlay and Plain.
type Options struct {
	// Epoch, if not nil, is the latest mtime of the layer, in Unix seconds.
	Epoch *int64
	// Root is the root directory in the layers below, since no tree is reliable for
	// it; nil stands for 0755, owner 0:0. Its mtime is not compared.
	Root *listing.Entry
	// Owner, if not nil, returns the owner of a path below, if it exists. It is for
	// trees in which all files belong to one user. A file keeps its owner if its
	// path and type stay the same.
	Owner func(path string, t listing.Type) (uid, gid int, ok bool)
	// Time, if not nil, returns the mtime of a path in the layers below, if it exists.
	// The lower trees may have more precise or later times.
	Time func(path string) (sec int64, ok bool)
	// Touched lists paths whose ctime Plain ignores.
	Touched []string
}

func (o Options) root() listing.Entry {
	if o.Root != nil {
		return *o.Root
	}
	return listing.Entry{Path: ".", Type: listing.TypeDir, Mode: RootMode}
}

// RootMode is the mode of the root directory of every tree. A change of it lasts as long
// as the step, and is not part of its layer.
const RootMode = 0o755

// Prepare sets the attributes of an empty upper directory to those of the root
// below, so that the step sees them and Overlay compares with them.
func Prepare(upper string, root listing.Entry) error {
	if err := unix.Lchown(upper, root.UID, root.GID); err != nil && err != unix.EPERM && err != unix.EINVAL {
		return fmt.Errorf("prepare %s: %w", upper, err)
	}
	for name, value := range root.XAttrs {
		if err := unix.Lsetxattr(upper, name, []byte(value), 0); err != nil && err != unix.ENOTSUP && err != unix.EPERM {
			return fmt.Errorf("prepare %s: %w", upper, err)
		}
	}
	if err := unix.Chmod(upper, root.Mode); err != nil {
		return fmt.Errorf("prepare %s: %w", upper, err)
	}
	if err := setTime(unix.AT_FDCWD, upper, unix.Timespec{Sec: root.MTime}); err != nil {
		return fmt.Errorf("prepare %s: %w", upper, err)
	}
	return nil
}

// Result is the differences that Overlay and Plain find.
type Result struct {
	Changes []tarball.Change // in the order of listing.Compare, for tarball.Write
	// Exact means that the tree has no other paths than the layer. Otherwise it also has
	// files that differ from those below in their times only.
	Exact bool
}

// Overlay returns the differences between the upper directory of an overlay and the
// lower trees, topmost first. It changes the upper directory to the tree of these
// differences. All directories are in the form of the option userxattr. The overlay
// must have been unmounted.
func Overlay(ctx context.Context, upper string, lowers []string, o Options) (Result, error) {
	s, err := overlay(ctx, upper, lowers, o)
	if err != nil {
		return Result{}, err
	}
	return s.result(upper), nil
}

func overlay(ctx context.Context, upper string, lowers []string, o Options) (*scan, error) {
	fd, err := unix.Open(upper, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("read the changes in %s: %w", upper, err)
	}
	defer unix.Close(fd)
	if err := unix.Fchmod(fd, RootMode); err != nil {
		return nil, fmt.Errorf("clean up the changes in %s: %w", upper, err)
	}
	s := &scan{ctx: ctx, upper: place{fd, ""}, o: o}
	if err := s.run(lowers); err != nil {
		return nil, fmt.Errorf("read the changes in %s: %w", upper, err)
	}
	s.own()
	s.decide()
	if err := s.settle(); err != nil {
		return nil, fmt.Errorf("clean up the changes in %s: %w", upper, err)
	}
	return s, nil
}

// result returns the nodes that are part of the layer.
func (s *scan) result(upper string) Result {
	exact := !slices.ContainsFunc(s.nodes, func(n *node) bool { return n.keep && !n.emit && n.parent != nil })
	kept := slices.DeleteFunc(s.nodes, func(n *node) bool { return !n.emit })
	return Result{changes(kept, func(n *node, c *tarball.Change) {
		if c.Type == listing.TypeFile && c.Size > 0 {
			c.Open = opener(upper, n.Path)
		}
	}), exact}
}

// changes sorts nodes and returns them as changes, completed by a function. The names of
// one file become hard links to the first.
func changes(nodes []*node, complete func(*node, *tarball.Change)) []tarball.Change {
	slices.SortFunc(nodes, func(a, b *node) int {
		return listing.ComparePaths(a.Path, a.Type, b.Path, b.Type)
	})
	first := map[inode]string{}
	all := make([]tarball.Change, len(nodes))
	for i, n := range nodes {
		c := &all[i]
		c.Entry = n.Entry
		if n.links > 1 {
			if target, ok := first[n.inode]; ok {
				c.Type, c.Link, c.Size = listing.TypeHardlink, target, 0
				continue
			}
			first[n.inode] = n.Path
		}
		complete(n, c)
	}
	return all
}

func opener(upper, path string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		return openFile(upper, path)
	}
}

// openFile opens path relative to the descriptor of upper, because both paths
// together can be longer than the kernel's limit.
func openFile(upper, path string) (*os.File, error) {
	dir, err := unix.Open(upper, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: upper, Err: err}
	}
	defer unix.Close(dir)
	fd, err := unix.Openat(dir, path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
