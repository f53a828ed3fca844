package helper

import (
	"fmt"
	pathpkg "path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks bounds the symbolic links followed in one path.
const maxLinks = 255

// open opens path inside the tree as if it were the root directory: no link and no
// .. leads out of it.
func open(root int, path string, flags uint64) (int, error) {
	fd, err := unix.Openat2(root, inside(path), &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != unix.EAGAIN {
		return fd, err
	}
	// The kernel gives up on .. when anything is mounted or renamed meanwhile, as other
	// steps do all the time.
	clean, _, err := resolve(root, path)
	if err != nil {
		return -1, err
	}
	return openClean(root, clean, flags)
}

// openClean opens a path that has neither .. nor a link in it.
func openClean(root int, clean string, flags uint64) (int, error) {
	return unix.Openat2(root, inside(clean), &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
}

// inside makes a path relative to the root.
func inside(path string) string {
	if path = strings.TrimLeft(path, "/"); path == "" {
		return "."
	}
	return path
}

// resolve follows all symbolic links of path inside the tree and returns what it
// comes to, relative and clean, and whether that is there. Of a missing path the part
// that exists is followed. Nobody else may be changing the tree.
func resolve(root int, path string) (clean string, found bool, err error) {
	if !strings.Contains(path, "..") {
		// Mostly there is no link to follow.
		clean = strings.Trim(pathpkg.Clean("/"+path), "/")
		if fd, err := openClean(root, clean, unix.O_PATH); err == nil {
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
			// What lies above a missing directory may be there.
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

// look returns the type of the entry at a path whose parents are no links, and the
// target if it is a link itself.
func look(root int, path []string) (link string, kind uint32, err error) {
	fd, err := unix.Openat2(root, inside(strings.Join(path, "/")), &unix.OpenHow{
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
