package export

import (
	"context"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

// Destinations has the paths that the outputs of a build write, to find those with
// different content before anything is written. Only outputs that share a directory are
// looked at.
type Destinations struct {
	shared map[string]bool // paths of outputs
	files  map[string]destination
}

// destination is a path that an output writes.
type destination struct {
	target string
	kind   listing.Type
	link   string       // of a symbolic link
	digest layer.Digest // of a file; "": of an archive
}

// Destinations returns the destinations of all targets, without their files.
func (g Group) Destinations() *Destinations {
	var paths []string
	local := map[string]bool{}
	for _, e := range g {
		for _, o := range e.Outputs {
			if p := o.Path(); p != "" && p != "-" {
				p = strings.TrimSuffix(p, "/") + "/"
				paths = append(paths, p)
				local[p] = local[p] || o.Type == "local"
			}
		}
	}
	slices.Sort(paths)
	d := &Destinations{shared: map[string]bool{}, files: map[string]destination{}}
	for len(paths) > 0 { // those in one directory are neighbours
		n := 1
		for n < len(paths) && strings.HasPrefix(paths[n], paths[0]) {
			n++
		}
		if n > 1 && slices.ContainsFunc(paths[:n], func(p string) bool { return local[p] }) {
			for _, p := range paths[:n] {
				d.shared[p] = true
			}
		}
		paths = paths[n:]
	}
	return d
}

// Add adds the files of a target, after [Exporter.Assemble]. It fails, and adds none, if
// another output writes one of them with different content or as another type of file.
// Directories are merged.
func (d *Destinations) Add(ctx context.Context, target string, e *Exporter) error {
	added := map[string]destination{}
	for _, o := range e.Outputs {
		if p := o.Path(); p == "" || p == "-" || !d.shared[strings.TrimSuffix(p, "/")+"/"] {
			continue
		}
		add := func(name string, w destination) error {
			w.target = target
			return d.check(added, o, name, w)
		}
		if err := addOutput(ctx, e.images, o, add); err != nil {
			return fmt.Errorf("exporting to %s: %w", o.Type, err)
		}
	}
	maps.Copy(d.files, added)
	return nil
}

// addOutput calls add for each path that an output writes, relative to its destination.
func addOutput(ctx context.Context, images []*Image, o Output, add func(string, destination) error) error {
	switch {
	case o.Type == "local":
	case o.Unpacked:
		return add(".", destination{kind: listing.TypeDir})
	default:
		return add(".", destination{kind: listing.TypeFile})
	}
	if err := add(".", destination{kind: listing.TypeDir}); err != nil {
		return err
	}
	dirs := directories(images, o.Split)
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		if err := addDirectory(ctx, dirs[dir], o, dir, add); err != nil {
			return err
		}
	}
	return nil
}

// addDirectory adds the files of an image, which are written to dir.
func addDirectory(ctx context.Context, img *Image, o Output, dir string, add func(string, destination) error) error {
	changes, err := changesOf(ctx, img.Files, o.Source)
	if err != nil {
		return err
	}
	if err := add(path.Join(".", dir), destination{kind: listing.TypeDir}); err != nil {
		return err
	}
	digests := map[string]layer.Digest{} // of files that hard links may name
	for c, err := range changes {
		if err != nil {
			return err
		}
		w := destination{kind: c.Type}
		switch c.Type {
		case listing.TypeFile:
			w.digest = c.Digest
			digests[c.Path] = c.Digest
		case listing.TypeHardlink:
			w.kind, w.digest = listing.TypeFile, digests[c.Link]
		case listing.TypeSymlink:
			w.link = c.Link
		case listing.TypeChar, listing.TypeBlock:
			continue // not written
		}
		if err := add(path.Join(dir, c.Path), w); err != nil {
			return err
		}
	}
	return nil
}

// check adds a path of an output to added, and the directories that it is in.
func (d *Destinations) check(added map[string]destination, o Output, name string, w destination) error {
	full := filepath.Join(o.Path(), name)
	for {
		other, ok := d.files[full]
		if !ok {
			other, ok = added[full]
		}
		switch {
		case ok && !w.same(other):
			rel, err := filepath.Rel(o.Path(), full)
			if err != nil {
				return err
			}
			return w.conflict(other, filepath.Join(o.Dest, rel))
		case ok && w.kind == listing.TypeDir:
			return nil // those above were added with it
		case !ok:
			added[full] = w
		}
		if full == filepath.Dir(full) {
			return nil
		}
		full = filepath.Dir(full)
		w = destination{target: w.target, kind: listing.TypeDir}
	}
}

// same reports whether two outputs may write one path. Two archives are never the same.
func (w destination) same(other destination) bool {
	return w.kind == other.kind && w.link == other.link && w.digest == other.digest && (w.kind != listing.TypeFile || w.digest != "")
}

// conflict returns the error for outputs that write different files to one path. The
// caller adds the target of w.
func (w destination) conflict(other destination, name string) error {
	const remedy = "choose another dest for one of them, or leave the file out of one"
	same, otherTarget := w.kind == other.kind, w.target != other.target
	switch {
	case otherTarget && same:
		return fmt.Errorf("%s has other content in target %s: %s", name, other.target, remedy)
	case otherTarget:
		return fmt.Errorf("%s is %s, and %s in target %s: %s", name, kindName(w.kind), kindName(other.kind), other.target, remedy)
	case same:
		return fmt.Errorf("two outputs write %s with different content: %s", name, remedy)
	}
	return fmt.Errorf("two outputs write %s, as %s and as %s: %s", name, kindName(other.kind), kindName(w.kind), remedy)
}

func kindName(t listing.Type) string {
	switch t {
	case listing.TypeDir:
		return "a directory"
	case listing.TypeSymlink:
		return "a symbolic link"
	case listing.TypeFifo:
		return "a named pipe"
	}
	return "a file"
}
