// Package inroot opens and resolves paths in the tree of an image as if the tree were
// the root directory.
//
// The tree is foreign: its symbolic links must not lead outside. All paths are opened
// with openat2(2), which the kernel resolves below the descriptor of the tree's root.
package inroot

import (
	"fmt"
	pathpkg "path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is the maximum number of symbolic links followed in one path.
const maxLinks = 255

// Open opens a path in the tree. Neither links nor ".." lead out of the tree.
func Open(root int, path string, flags uint64) (int, error) {
	fd, err := unix.Openat2(root, relative(path), &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != unix.EAGAIN {
		return fd, err
	}
	// The kernel fails on ".." while anything is mounted or renamed anywhere, as other
	// steps do all the time.
	clean, _, err := Resolve(root, path)
	if err != nil {
		return -1, err
	}
	return OpenClean(root, clean, flags)
}

// OpenClean opens a path that has neither ".." nor a link in it.
func OpenClean(root int, clean string, flags uint64) (int, error) {
	return unix.Openat2(root, relative(clean), &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
}

// OpenSource opens the file or directory source of the host with O_PATH or, if subpath
// is not "", that path in the directory source. The source itself must not be a link,
// because a command may have written its parent directory.
func OpenSource(source, subpath string) (int, error) {
	fd, err := unix.Open(source, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		err = unix.ELOOP
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	if subpath == "" {
		return fd, nil
	}
	defer unix.Close(fd)
	part, err := Open(fd, subpath, unix.O_PATH)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", subpath, err)
	}
	return part, nil
}

// Exists reports whether a path exists in the tree, following links.
func Exists(root int, path string) bool {
	fd, err := Open(root, path, unix.O_PATH)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// relative makes a path relative to the root.
func relative(path string) string {
	if path = strings.TrimLeft(path, "/"); path == "" {
		return "."
	}
	return path
}

// MakeDirs makes the missing directories of a path without links, and opens the last one
// with O_PATH.
func MakeDirs(root int, clean string) (int, error) {
	at, err := Open(root, ".", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	for name := range strings.SplitSeq(clean, "/") {
		if name == "" {
			continue
		}
		if err := unix.Mkdirat(at, name, 0o755); err != nil && err != unix.EEXIST {
			unix.Close(at)
			return -1, fmt.Errorf("make /%s: %w", strings.TrimRight(clean, "/"), err)
		}
		child, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		unix.Close(at)
		if err != nil {
			return -1, err
		}
		at = child
	}
	return at, nil
}

// Resolve follows all symbolic links of a path in the tree. It returns the resulting
// path, relative and clean, and whether it exists. If it does not exist, the existing
// part is resolved. No other process may change the tree meanwhile.
func Resolve(root int, path string) (clean string, found bool, err error) {
	if !strings.Contains(path, "..") {
		// Usually there is no link to follow.
		clean = strings.Trim(pathpkg.Clean("/"+path), "/")
		if fd, err := OpenClean(root, clean, unix.O_PATH); err == nil {
			unix.Close(fd)
			return clean, true, nil
		}
	}
	return follow(root, path)
}

func follow(root int, path string) (clean string, found bool, err error) {
	var done []string
	links, missing := 0, false
	rest := strings.Split(path, "/")
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			done = done[:max(0, len(done)-1)]
			// The parent of a missing directory may exist.
			missing = missing && !exists(root, done)
			continue
		}
		if missing {
			done = append(done, name)
			continue
		}
		link, kind, err := look(root, append(done, name))
		switch {
		case err == unix.ENOENT:
			missing = true
			done = append(done, name)
		case err != nil:
			return "", false, fmt.Errorf("look up /%s: %w", strings.Join(append(done, name), "/"), err)
		case kind != unix.S_IFLNK:
			done = append(done, name)
		default:
			if links++; links > maxLinks {
				return "", false, fmt.Errorf("look up %s: %w", path, unix.ELOOP)
			}
			if strings.HasPrefix(link, "/") {
				done = nil
			}
			rest = append(strings.Split(link, "/"), rest...)
		}
	}
	return strings.Join(done, "/"), !missing, nil
}

func exists(root int, path []string) bool {
	_, _, err := look(root, path)
	return err == nil
}

// look returns the type of the entry at a path whose parents are not links, and its
// target if it is a link.
func look(root int, path []string) (link string, kind uint32, err error) {
	fd, err := unix.Openat2(root, relative(strings.Join(path, "/")), &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return "", 0, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", 0, err
	}
	if kind = st.Mode & unix.S_IFMT; kind != unix.S_IFLNK {
		return "", kind, nil
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", target)
	if err != nil {
		return "", 0, err
	}
	return string(target[:n]), kind, nil
}
