package builder

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/tarball"
)

// writeTree writes a result's whole tree as one tar.
func writeTree(ctx context.Context, w *worker.Worker, r *worker.Result, out io.Writer) error {
	changes, err := w.Flatten(ctx, r)
	if err != nil {
		return err
	}
	_, err = tarball.Write(out, changes)
	return err
}

// parts lists the images by the folder that each has in an output of files; ""
// is the output itself.
func (j *job) parts(out Output) map[string]*image {
	if len(j.images) == 1 && !out.Split {
		return map[string]*image{"": j.images[0]}
	}
	parts := map[string]*image{}
	for _, img := range j.images {
		parts[strings.NewReplacer("/", "_", ":", "_").Replace(img.platform().String())] = img
	}
	return parts
}

// writeDirs writes each image's tree into its folder.
func (j *job) writeDirs(ctx context.Context, out Output) error {
	parts := j.parts(out)
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if err := writeDir(ctx, j.worker, parts[name].root, filepath.Join(out.Dest, name)); err != nil {
			return err
		}
	}
	return nil
}

// writeTrees writes each image's tree into its folder of one tar.
func (j *job) writeTrees(ctx context.Context, out Output, w io.Writer) error {
	parts := j.parts(out)
	if img := parts[""]; img != nil {
		return writeTree(ctx, j.worker, img.root, w)
	}
	_, err := tarball.Write(w, func(yield func(tarball.Change, error) bool) {
		for _, name := range slices.Sorted(maps.Keys(parts)) {
			changes, err := j.worker.Flatten(ctx, parts[name].root)
			if err != nil {
				yield(tarball.Change{}, err)
				return
			}
			if !inFolder(name, changes, yield) {
				return
			}
		}
	})
	return err
}

// inFolder moves changes into a folder, which stands in the place of the root.
func inFolder(name string, changes iter.Seq2[tarball.Change, error], yield func(tarball.Change, error) bool) bool {
	folder := tarball.Change{Entry: index.Entry{Path: name, Type: index.TypeDir, Mode: 0o755}}
	if !yield(folder, nil) {
		return false
	}
	for c, err := range changes {
		if c.Path == "." {
			continue
		}
		c.Path = name + "/" + c.Path
		if c.Type == index.TypeHardlink {
			c.Link = name + "/" + c.Link
		}
		if !yield(c, err) {
			return false
		}
	}
	return true
}

// writeDir writes a result's whole tree into a directory, over what is there:
// files are replaced, others stay. Owners and special files are made by root
// only; nothing is ever written through a symlink that leads out.
func writeDir(ctx context.Context, w *worker.Worker, r *worker.Result, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(writeTree(ctx, w, r, pw)) }()
	defer pr.Close()
	in := tar.NewReader(pr)
	late := map[string]*tar.Header{} // directories get mode and time when all is in them
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := writeEntry(root, h, in); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if h.Typeflag == tar.TypeDir {
			late[filepath.Clean(h.Name)] = h
		}
	}
	for name, h := range late {
		if name == "." {
			continue
		}
		if err := attributes(root, name, h); err != nil {
			return err
		}
	}
	return nil
}

func writeEntry(root *os.Root, h *tar.Header, r io.Reader) error {
	name := filepath.Clean(h.Name)
	old, err := root.Lstat(name)
	if err == nil && (!old.IsDir() || h.Typeflag != tar.TypeDir) {
		if err := root.RemoveAll(name); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	case tar.TypeReg:
		if err := writeFile(root, name, r); err != nil {
			return err
		}
	case tar.TypeSymlink:
		return errors.Join(root.Symlink(h.Linkname, name), owned(root, name, h))
	case tar.TypeLink:
		return root.Link(filepath.Clean(h.Linkname), name)
	default:
		return nil // devices and fifos have no place in a user's folder
	}
	return attributes(root, name, h)
}

func writeFile(root *os.Root, name string, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

func attributes(root *os.Root, name string, h *tar.Header) error {
	if err := owned(root, name, h); err != nil {
		return err
	}
	if err := root.Chmod(name, h.FileInfo().Mode()); err != nil {
		return err
	}
	return root.Chtimes(name, time.Time{}, h.ModTime)
}

func owned(root *os.Root, name string, h *tar.Header) error {
	if uid, _ := sandbox.HostIDs(); uid != 0 {
		return nil // an ordinary user's files are their own, not those of their subordinate ids
	}
	return root.Lchown(name, h.Uid, h.Gid)
}
