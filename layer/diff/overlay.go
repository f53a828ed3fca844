// Package diff finds what a step changed: it reads the upper directory of an
// overlay and says which paths a layer must set or remove.
//
// An overlay copies up more than changes, and hides whole directories where
// only some of their children went. A layer says exactly what differs: what is
// equal to the tree below in type, mode, owner, device, size, time, link,
// extended attributes and content is left out; a directory that was replaced
// is one whiteout for each child that is missing; every ancestor of a change
// is in it, with its attributes, because a layer may be laid over anything.
//
// The upper directory is then made to say the same as the layer, neither more
// nor less: it is the layer's unpacked tree from then on, as if the tar had
// been unpacked. So the next step sees the same whether this one ran or came
// from a cache. The cost follows the number of entries in the upper directory;
// files below are only read where all else is equal.
//
// Sockets are not part of a layer, nor are labels of security modules, the
// attributes of the trusted namespace and those of the overlay itself. Hard
// links are kept among regular files. Overlays break the links of a file of a
// lower tree when it is written: then each name is a file of its own here too.
package diff

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Options say what to leave out and what to compare the root with.
type Options struct {
	// Epoch, when set, is the latest mtime, in Unix seconds.
	Epoch *int64
	// Root is what the layers below say of the root directory, which no tree
	// tells reliably; nil is 0755, owner 0:0. Its mtime is not compared.
	Root *index.Entry
	// Owner, when set, tells whose a path is below, if it is there: for trees that
	// all belong to one user. What keeps its path and type keeps its owner.
	Owner func(path string, t index.Type) (uid, gid int, ok bool)
	// Touched are paths whose ctime does not count: for Plain.
	Touched []string
}

func (o Options) root() index.Entry {
	if o.Root != nil {
		return *o.Root
	}
	return index.Entry{Path: ".", Type: index.TypeDir, Mode: 0o755}
}

// Prepare gives an empty upper directory the attributes of the root below, so
// that the step sees them and Overlay compares with them.
func Prepare(upper string, root index.Entry) error {
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
	if err := setTime(unix.AT_FDCWD, upper, root.MTime); err != nil {
		return fmt.Errorf("prepare %s: %w", upper, err)
	}
	return nil
}

// Overlay returns what differs between the overlay's upper directory and the
// lower trees, topmost first, in the order of index.Compare, ready for
// tarball.Write, and makes the upper directory the tree of just that. The
// overlay must not be mounted any more. All are in overlay's form with the
// option userxattr.
func Overlay(ctx context.Context, upper string, lowers []string, o Options) ([]tarball.Change, error) {
	s, err := overlay(ctx, upper, lowers, o)
	if err != nil {
		return nil, err
	}
	return s.changes(upper), nil
}

func overlay(ctx context.Context, upper string, lowers []string, o Options) (*scan, error) {
	fd, err := unix.Open(upper, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("read the changes in %s: %w", upper, err)
	}
	defer unix.Close(fd)
	s := &scan{ctx: ctx, upper: place{fd, ""}, o: o}
	if err := s.run(lowers); err != nil {
		return nil, fmt.Errorf("read the changes in %s: %w", upper, err)
	}
	s.own()
	s.decide()
	if err := s.settle(); err != nil {
		return nil, fmt.Errorf("settle the changes in %s: %w", upper, err)
	}
	return s, nil
}

// changes lists the nodes that are part of the layer.
func (s *scan) changes(upper string) []tarball.Change {
	kept := slices.DeleteFunc(s.nodes, func(n *node) bool { return !n.emit })
	slices.SortFunc(kept, func(a, b *node) int {
		return index.ComparePaths(a.Path, a.Type, b.Path, b.Type)
	})
	first := map[inode]string{}
	all := make([]tarball.Change, len(kept))
	for i, n := range kept {
		c := &all[i]
		c.Entry = n.Entry
		if n.links > 1 {
			if target, ok := first[n.inode]; ok {
				c.Type, c.Link, c.Size = index.TypeHardlink, target, 0
				continue
			}
			first[n.inode] = n.Path
		}
		if c.Type == index.TypeFile && c.Size > 0 {
			c.Open = opener(upper, n.Path)
		}
	}
	return all
}

func opener(upper, path string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		return openFile(upper, path)
	}
}

// openFile goes by the descriptor of upper: both paths together may be longer
// than the kernel takes.
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
