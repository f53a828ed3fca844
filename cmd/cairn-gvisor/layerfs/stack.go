// Package layerfs is a read-only file system that shows a stack of image layers. It has
// the attributes that the layers' listings say, and reads only the contents of files from
// the unpacked trees, whose files may have any owner and mode.
package layerfs

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
)

// Time is a modification time.
type Time struct{ Sec, Nsec int64 }

// Layer is the content of one layer.
type Layer struct {
	tree    int // descriptor of the directory with the contents, or -1
	listing *listing.Listing
	times   map[string]Time // exact times, also of paths in the layers below
	links   map[string]uint32
	// Unreadable has the paths of directories of the host that may not be read.
	Unreadable map[string]bool
}

// NewLayer returns the layer with an encoded listing and with its files at tree, "" for a
// layer that has none.
func NewLayer(tree, encoded string, times map[string]Time) (*Layer, error) {
	x, err := listing.Decode([]byte(encoded))
	if err != nil {
		return nil, err
	}
	l := &Layer{tree: -1, listing: x, times: times, links: map[string]uint32{}}
	for _, e := range x.Entries {
		if e.Type == listing.TypeHardlink {
			l.links[e.Link]++
		}
	}
	if tree == "" {
		return l, nil
	}
	l.tree, err = unix.Open(tree, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the tree of a layer: %s: %w", tree, err)
	}
	return l, nil
}

// Close closes the descriptor of the tree.
func (l *Layer) Close() {
	if l.tree >= 0 {
		unix.Close(l.tree)
	}
}

// Stack is a stack of layers. It does not change, and shares memory with the stack below.
type Stack struct {
	view   *listing.View
	layers []*Layer
}

// Empty is the stack of no layers.
func Empty() *Stack { return &Stack{view: listing.Empty()} }

// With returns the stack with one more layer on top.
func (s *Stack) With(l *Layer) *Stack {
	return &Stack{s.view.WithLayer(l.listing), append(s.layers[:len(s.layers):len(s.layers)], l)}
}

// Close closes all layers. The stack and those that share layers with it must no longer be
// used.
func (s *Stack) Close() {
	for _, l := range s.layers {
		l.Close()
	}
}

// View returns the merged listing.
func (s *Stack) View() *listing.View { return s.view }

// WithEntries returns the stack with a layer of entries without content on top. They must
// be in the order of listing.Compare.
func (s *Stack) WithEntries(list []listing.Entry) *Stack {
	return s.With(&Layer{tree: -1, listing: &listing.Listing{Entries: list}})
}

// Time returns the modification time of a path. An exact time counts if its layer is not
// below the one with the path.
func (s *Stack) Time(n *listing.Node) Time {
	for i := len(s.layers) - 1; i >= max(n.Layer, 0); i-- {
		if t, ok := s.layers[i].times[n.Path]; ok {
			return t
		}
	}
	return Time{Sec: n.MTime}
}

// links returns the number of names of a file.
func (s *Stack) links(n *listing.Node) uint32 {
	if n.Layer < 0 {
		return 1
	}
	return 1 + s.layers[n.Layer].links[n.TreePath]
}

// unreadable reports whether a directory may not be read.
func (s *Stack) unreadable(n *listing.Node) bool {
	return n.Layer >= 0 && s.layers[n.Layer].Unreadable[n.TreePath]
}

// open opens the content of a regular file.
func (s *Stack) open(n *listing.Node) (int, error) {
	if n.Layer < 0 || s.layers[n.Layer].tree < 0 {
		return -1, unix.ENOENT
	}
	return OpenBelow(s.layers[n.Layer].tree, n.TreePath)
}

// OpenBelow opens a regular file below a directory for reading. It follows no symbolic
// links.
func OpenBelow(dir int, path string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{
		Flags: flags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err == unix.ENOSYS || err == unix.EPERM {
		return openByElements(dir, path, flags)
	}
	return fd, err
}

// openByElements is OpenBelow for kernels and containers without openat2.
func openByElements(dir int, path string, flags int) (int, error) {
	at := dir
	for {
		name, rest, more := strings.Cut(path, "/")
		mode := flags
		if more {
			mode = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		}
		fd, err := unix.Openat(at, name, mode, 0)
		if at != dir {
			unix.Close(at)
		}
		if err != nil || !more {
			return fd, err
		}
		at, path = fd, rest
	}
}
