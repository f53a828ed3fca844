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
func Merge(dir string, trees []string) error { return merger{}.merge(dir, trees) }

// MergePart is Merge for trees of the middle of a chain: what hides something
// of the trees below the result does so still.
func MergePart(dir string, trees []string) error { return merger{part: true}.merge(dir, trees) }

// merger says how trees become one.
type merger struct {
	part bool // others lie below
}

func (m merger) merge(dir string, trees []string) error {
	newestFirst := slices.Clone(trees)
	slices.Reverse(newestFirst)
	if len(newestFirst) == 0 {
		return nil
	}
	if err := m.dir(dir, newestFirst, false); err != nil {
		return fmt.Errorf("merge trees: %w", err)
	}
	return nil
}

// dir fills a directory with what an overlay of the directories from, topmost
// first, shows, and then gives it the attributes of the topmost. alone says that
// they end at something that is no directory, so that nothing below them is seen.
func (m merger) dir(dir string, from []string, alone bool) error {
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
		if alone = alone || opaque; opaque {
			break
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := m.name(dir+"/"+name, sources[name], alone); err != nil {
			return err
		}
	}
	if m.part && alone {
		if err := unix.Lsetxattr(dir, opaqueXAttr, []byte("y"), 0); err != nil {
			return &fs.PathError{Op: "setxattr", Path: dir, Err: err}
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

// name makes what the sources of a name, topmost first, amount to. In a directory
// that is alone there is nothing to hide.
func (m merger) name(path string, sources []source, alone bool) error {
	top := sources[0]
	if top.whiteout && (!m.part || alone) {
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
	return m.dir(path, from, len(from) < len(sources))
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
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: from, Err: err}
	}
	if IsWhiteout(&st) {
		return MakeWhiteout(unix.AT_FDCWD, to)
	}
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
