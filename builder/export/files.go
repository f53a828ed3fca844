package export

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
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// WriteTar writes the files of an image as a tar.
func WriteTar(ctx context.Context, s *snapshot.Stack, out io.Writer) error {
	changes, err := s.Flatten(ctx)
	if err != nil {
		return err
	}
	_, err = tarball.Write(out, changes)
	return err
}

// changesOf returns the files of a directory of an image, without the directory; "" is
// its root.
func changesOf(ctx context.Context, s *snapshot.Stack, dir string) (iter.Seq2[tarball.Change, error], error) {
	changes, err := s.FlattenDir(ctx, "/"+dir)
	if err != nil && dir != "" {
		err = fmt.Errorf("src=%s: %w", dir, err)
	}
	return func(yield func(tarball.Change, error) bool) {
		for c, err := range changes {
			if (err != nil || c.Path != ".") && !yield(c, err) {
				return
			}
		}
	}, err
}

func writeTar(ctx context.Context, s *snapshot.Stack, dir string, out io.Writer) error {
	changes, err := changesOf(ctx, s, dir)
	if err != nil {
		return err
	}
	_, err = tarball.Write(out, changes)
	return err
}

// directories returns the images by the directory that each has in an output of files.
// "" is the output itself.
func directories(images []*Image, split bool) map[string]*Image {
	if len(images) == 1 && !split {
		return map[string]*Image{"": images[0]}
	}
	dirs := map[string]*Image{}
	for _, img := range images {
		dirs[strings.NewReplacer("/", "_", `\`, "_", ":", "_").Replace(img.Platform.Full())] = img
	}
	return dirs
}

// warnFunc shows a warning.
type warnFunc func(format string, args ...any)

// writeDirs writes the files of each image to its directory. With out.Delete it removes
// all others from the destination.
func writeDirs(ctx context.Context, images []*Image, out Output, warn warnFunc) error {
	for _, img := range images { // before anything is written
		if _, err := changesOf(ctx, img.Files, out.Source); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(out.Dest, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(out.Dest)
	if err != nil {
		return err
	}
	defer root.Close()
	dirs := directories(images, out.Split)
	if img := dirs[""]; img != nil {
		return writeDir(ctx, img.Files, root, out, warn)
	}
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		if err := writePlatform(ctx, dirs[name].Files, root, name, out, warn); err != nil {
			return err
		}
	}
	if !out.Delete {
		return nil
	}
	return removeOthers(root, ".", func(name string) bool {
		top, _, _ := strings.Cut(name, "/")
		return dirs[top] != nil
	})
}

// writePlatform writes the files of an image to a directory in root.
func writePlatform(ctx context.Context, s *snapshot.Stack, root *os.Root, name string, out Output, warn warnFunc) error {
	if err := writeEntry(root, &tar.Header{Name: name, Typeflag: tar.TypeDir}, nil); err != nil {
		return err
	}
	dir, err := root.OpenRoot(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	return writeDir(ctx, s, dir, out, warn)
}

// writeTars writes the files of each image to its directory in one tar.
func writeTars(ctx context.Context, images []*Image, out Output, w io.Writer) error {
	dirs := directories(images, out.Split)
	if img := dirs[""]; img != nil {
		return writeTar(ctx, img.Files, out.Source, w)
	}
	_, err := tarball.Write(w, func(yield func(tarball.Change, error) bool) {
		for _, name := range slices.Sorted(maps.Keys(dirs)) {
			changes, err := changesOf(ctx, dirs[name].Files, out.Source)
			if err != nil {
				yield(tarball.Change{}, err)
				return
			}
			if !moveInto(name, changes, yield) {
				return
			}
		}
	})
	return err
}

// moveInto yields a directory and the changes moved into it.
func moveInto(name string, changes iter.Seq2[tarball.Change, error], yield func(tarball.Change, error) bool) bool {
	dir := tarball.Change{Entry: listing.Entry{Path: name, Type: listing.TypeDir, Mode: 0o755}}
	if !yield(dir, nil) {
		return false
	}
	for c, err := range changes {
		if c.Path == "." {
			continue
		}
		c.Path = name + "/" + c.Path
		if c.Type == listing.TypeHardlink {
			c.Link = name + "/" + c.Link
		}
		if !yield(c, err) {
			return false
		}
	}
	return true
}

// writeDir writes the files of an image to a directory. Existing files of the same path
// are replaced, others stay. As with BuildKit, all files belong to the user of this
// process. Devices are left out, with a warning, and symbolic links that lead out of the
// directory are not followed. With out.Delete set, it removes all other files.
func writeDir(ctx context.Context, s *snapshot.Stack, root *os.Root, out Output, warn warnFunc) error {
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(writeTar(ctx, s, out.Source, pw)) }()
	defer pr.Close()
	in := tar.NewReader(pr)
	dirs := map[string]*tar.Header{} // they get mode and time after their entries
	written := map[string]bool{}     // if other files are removed
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
			warn("/%s is a device, which is not written to a directory: use type=tar for it", h.Name)
			continue
		}
		if err := writeEntry(root, h, in); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if h.Typeflag == tar.TypeDir {
			dirs[filepath.Clean(h.Name)] = h
		}
		if out.Delete {
			written[filepath.Clean(h.Name)] = true
		}
	}
	if out.Delete {
		if err := removeOthers(root, ".", func(name string) bool { return written[name] }); err != nil {
			return err
		}
	}
	for name, h := range dirs {
		if err := setAttributes(root, name, h); err != nil {
			return err
		}
	}
	return nil
}

// removeOthers removes the files below a directory for which keep returns false. Symbolic links are
// removed, not followed.
func removeOthers(root *os.Root, dir string, keep func(name string) bool) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		switch {
		case !keep(name):
			err = root.RemoveAll(name)
		case e.IsDir():
			err = removeOthers(root, name, keep)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeEntry writes one entry of a tar.
func writeEntry(root *os.Root, h *tar.Header, r io.Reader) error {
	name := filepath.Clean(h.Name)
	old, err := root.Lstat(name)
	if err == nil && (!old.IsDir() || h.Typeflag != tar.TypeDir) {
		err := root.RemoveAll(name)
		if errors.Is(err, unix.EBUSY) && old.Mode().IsRegular() && h.Typeflag == tar.TypeReg {
			return writeFile(root, name, os.O_TRUNC, r) // a mount point keeps its attributes
		}
		if err != nil {
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
		if err := writeFile(root, name, os.O_CREATE|os.O_EXCL, r); err != nil {
			return err
		}
	case tar.TypeSymlink:
		return errors.Join(root.Symlink(h.Linkname, name), setOwner(root, name))
	case tar.TypeLink:
		return root.Link(filepath.Clean(h.Linkname), name)
	case tar.TypeFifo:
		if err := makeFIFO(root, name); err != nil {
			return err
		}
	default:
		return fmt.Errorf("type %q of a file", h.Typeflag)
	}
	return setAttributes(root, name, h)
}

func writeFile(root *os.Root, name string, flags int, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|flags, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

func makeFIFO(root *os.Root, name string) error {
	dir, err := root.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return os.NewSyscallError("mknodat", unix.Mknodat(int(dir.Fd()), filepath.Base(name), unix.S_IFIFO|0o600, 0))
}

// setAttributes sets the attributes of a file that is not a symbolic link.
func setAttributes(root *os.Root, name string, h *tar.Header) error {
	if err := setXAttrs(root, name, h); err != nil {
		return err
	}
	if err := setOwner(root, name); err != nil {
		return err
	}
	if err := root.Chmod(name, h.FileInfo().Mode()); err != nil {
		return err
	}
	return root.Chtimes(name, time.Time{}, h.ModTime)
}

// setOwner gives a file to the user of this process. It has another owner if it existed, and
// another group in a directory with the set-group-ID bit.
func setOwner(root *os.Root, name string) error {
	fi, err := root.Lstat(name)
	if err != nil {
		return err
	}
	uid, gid := os.Geteuid(), os.Getegid()
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) == uid && int(st.Gid) == gid {
		return nil
	}
	return root.Lchown(name, uid, gid)
}

// setXAttrs sets the extended attributes of users. A file system may not have them.
func setXAttrs(root *os.Root, name string, h *tar.Header) error {
	var f *os.File
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || !strings.HasPrefix(attr, "user.") || h.Typeflag == tar.TypeFifo {
			continue
		}
		if f == nil {
			var err error
			if f, err = root.Open(name); err != nil {
				return err
			}
			defer f.Close()
		}
		if err := unix.Fsetxattr(int(f.Fd()), attr, []byte(value), 0); err != nil && err != unix.ENOTSUP {
			return fmt.Errorf("extended attribute %s: %w", attr, err)
		}
	}
	return nil
}
