package tarball

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Merge makes in dir, an empty directory, one tree from the trees of the
// bottom of a chain, oldest first, as an overlay of them would look. Files are
// hard links into the trees, so the result must only be read. Whiteouts and
// opaque marks are applied and dropped: nothing may lie below the result.
func Merge(dir string, trees []string) error {
	newestFirst := slices.Clone(trees)
	slices.Reverse(newestFirst)
	if len(newestFirst) == 0 {
		return nil
	}
	if err := mergeDir(dir, newestFirst); err != nil {
		return fmt.Errorf("merge trees: %w", err)
	}
	return nil
}

// mergeDir fills dir with what an overlay of the directories from, topmost
// first, shows, and then gives it the attributes of the topmost.
func mergeDir(dir string, from []string) error {
	var names []string
	sources := map[string][]source{}
	for _, d := range from {
		entries, opaque, err := readTreeDir(d)
		if err != nil {
			return err
		}
		for _, s := range entries {
			if sources[s.name] == nil {
				names = append(names, s.name)
			}
			sources[s.name] = append(sources[s.name], s)
		}
		if opaque {
			break
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := mergeName(dir+"/"+name, sources[name]); err != nil {
			return err
		}
	}
	return copyAttributes(dir, from[0])
}

// A source is what one tree has under a name.
type source struct {
	name, path string
	dir        bool
	whiteout   bool
}

// mergeName makes what the sources of a name, topmost first, amount to.
func mergeName(path string, sources []source) error {
	top := sources[0]
	if top.whiteout {
		return nil
	}
	if !top.dir {
		return linkOrCopy(top.path, path)
	}
	var from []string
	for _, s := range sources {
		if !s.dir {
			break
		}
		from = append(from, s.path)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return mergeDir(path, from)
}

func readTreeDir(dir string) (entries []source, opaque bool, err error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, false, err
	}
	for _, de := range list {
		s := source{name: de.Name(), path: dir + "/" + de.Name(), dir: de.IsDir()}
		if de.Type()&(fs.ModeCharDevice|fs.ModeSocket) != 0 {
			var st unix.Stat_t
			if err := unix.Lstat(s.path, &st); err != nil {
				return nil, false, &fs.PathError{Op: "lstat", Path: s.path, Err: err}
			}
			s.whiteout = IsWhiteout(&st)
		}
		entries = append(entries, s)
	}
	value := make([]byte, 8)
	n, err := unix.Lgetxattr(dir, opaqueXAttr, value)
	return entries, err == nil && bytes.Equal(value[:n], []byte("y")), nil
}

// linkOrCopy links a file; one that has as many links as its file system takes
// is copied.
func linkOrCopy(from, to string) error {
	err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, to, 0)
	if err == unix.EMLINK {
		return copyFile(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "link", Old: from, New: to, Err: err}
	}
	return nil
}

func copyFile(from, to string) error {
	src, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	return CopyFile(unix.AT_FDCWD, to, src)
}

// copyAttributes gives a directory another's owner, attributes, mode and times.
func copyAttributes(to, from string) error {
	dst, err := openRoot(to)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	src, err := openRoot(from)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	if err := CopyAttributes(dst, src); err != nil {
		return &fs.PathError{Op: "copy the attributes of", Path: from, Err: err}
	}
	return nil
}
