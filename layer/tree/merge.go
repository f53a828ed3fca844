package tree

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Merge makes one tree in the empty directory dir from the trees of the lowest
// layers, lowest first. It holds the files that an overlay mount of them would
// show, as hard links into the trees, so it must not be written to. Whiteouts and
// opaque marks are applied and not kept: the result cannot have layers below it.
func Merge(dir string, trees []string) error { return merger{}.merge(dir, trees) }

// MergePart is Merge for trees that have other layers below them: whiteouts and
// opaque marks that hide something in those layers are kept.
func MergePart(dir string, trees []string) error { return merger{part: true}.merge(dir, trees) }

// merger holds the options of a merge.
type merger struct {
	part bool // there are layers below the result
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

// dir merges the directories from, topmost first, into dir, which gets the
// attributes of the topmost. hides is set if the lowest of them hides all that lies
// below it.
func (m merger) dir(dir string, from []string, hides bool) error {
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
		if hides = hides || opaque; opaque {
			break
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := m.name(dir+"/"+name, sources[name], hides); err != nil {
			return err
		}
	}
	if m.part && hides {
		if err := unix.Lsetxattr(dir, OpaqueXAttr, []byte(OpaqueValue), 0); err != nil {
			return &fs.PathError{Op: "setxattr", Path: dir, Err: err}
		}
	}
	return copyAttributes(dir, from[0])
}

// A source is the entry of one tree for a name.
type source struct {
	name, path string
	dir        bool
	whiteout   bool
}

// name merges the sources of a name, topmost first. Whiteouts are not needed in a
// directory that hides all below it.
func (m merger) name(path string, sources []source, hides bool) error {
	top := sources[0]
	if top.whiteout && (!m.part || hides) {
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
	n, err := unix.Lgetxattr(dir, OpaqueXAttr, value)
	return entries, err == nil && bytes.Equal(value[:n], []byte(OpaqueValue)), nil
}

// linkOrCopy makes a hard link to a file, or copies it if it has as many links as
// the file system allows.
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

// copyAttributes is CopyAttributes for directories given by path.
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
