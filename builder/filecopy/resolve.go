package filecopy

import (
	"fmt"
	"path"
	"strings"

	"github.com/cairn-build/cairn/layer/listing"
)

// resolve follows the symlinks of a path inside the tree. The part of the path that
// does not exist is kept as written.
func (d *destination) resolve(p string) (string, error) {
	w := walker{d: d, root: ".", at: "."}
	if err := listing.Follow(&w, p, true); err != nil {
		return "", fmt.Errorf("/%s: %w", clean(p), err)
	}
	return w.at, nil
}

// resolveBelow returns the path of rel, a name in an archive, below the directory root.
// It follows symlinks except in the last element, with root as the root directory. A
// dangling symlink is an error.
func (d *destination) resolveBelow(root, rel string) (string, error) {
	w := walker{d: d, root: root, at: root, strict: true}
	if err := listing.Follow(&w, path.Dir(rel), true); err != nil {
		return "", fmt.Errorf("/%s: %w", w.at, err)
	}
	return path.Join(w.at, path.Base(rel)), nil
}

// walker is a position in a destination.
type walker struct {
	d      *destination
	root   string // where absolute paths begin and ".." stops
	at     string
	strict bool   // dangling symlinks are errors
	links  []link // whose targets are being followed; only if strict is set
}

// link is a symlink at a path.
type link struct {
	path, target string
	left         int // elements of the target that have not been followed
}

// Root implements [listing.Walker].
func (w *walker) Root() { w.at = w.root }

// Step implements [listing.Walker].
func (w *walker) Step(name string, follow bool) (target string, symlink bool, err error) {
	if len(w.links) > 0 {
		w.links[len(w.links)-1].left--
	}
	switch name {
	case "", ".":
	case "..":
		if w.at != w.root {
			w.at = path.Dir(w.at)
		}
	default:
		next := path.Join(w.at, name)
		if e, ok := w.d.lookup(next); follow && ok && e.Type == listing.TypeSymlink {
			if w.strict {
				w.links = append(w.links, link{next, e.Link, strings.Count(e.Link, "/") + 1})
			}
			return e.Link, true, nil
		}
		w.at = next
	}
	return "", false, w.endLinks()
}

// endLinks checks that the targets of links exist which have been followed to the end.
func (w *walker) endLinks() error {
	for n := len(w.links); n > 0 && w.links[n-1].left == 0; n = len(w.links) {
		l := w.links[n-1]
		w.links = w.links[:n-1]
		if _, ok := w.d.lookup(w.at); !ok && w.at != w.root {
			w.at = l.path
			return fmt.Errorf("its link to %s leads nowhere", l.target)
		}
	}
	return nil
}
