package tarball

import (
	"strings"

	"golang.org/x/sys/unix"
)

// dirs opens directories below a root without following symlinks. It keeps those on
// the path of the last one open, since the next entry of a tar is usually near.
type dirs struct {
	root  int
	path  []string // names of the open directories
	fds   []int
	extra int // the last directory if it is deeper than maxOpenDirs, or -1
}

const (
	maxOpenDirs = 64
	openDir     = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
)

func openDirs(dir string) (*dirs, error) {
	// The caller chooses dir, so a symlink in it is intended.
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &dirs{root: fd, extra: -1}, nil
}

func (d *dirs) close() {
	d.cut(0)
	unix.Close(d.root)
}

// open returns a descriptor of the directory at path, which is valid until the next
// call.
func (d *dirs) open(path string) (int, error) {
	d.closeExtra()
	rest, depth := path, 0
	if path == "." {
		rest = ""
	}
	for rest != "" && depth < len(d.path) {
		name, after, _ := strings.Cut(rest, "/")
		if name != d.path[depth] {
			break
		}
		rest, depth = after, depth+1
	}
	d.cut(depth)
	fd := d.root
	if depth > 0 {
		fd = d.fds[depth-1]
	}
	for rest != "" {
		name, after, _ := strings.Cut(rest, "/")
		next, err := unix.Openat(fd, name, openDir, 0)
		if err != nil {
			return -1, err
		}
		d.push(name, next)
		fd, rest = next, after
	}
	return fd, nil
}

func (d *dirs) push(name string, fd int) {
	if len(d.fds) < maxOpenDirs {
		d.path, d.fds = append(d.path, name), append(d.fds, fd)
		return
	}
	d.closeExtra()
	d.extra = fd
}

func (d *dirs) closeExtra() {
	if d.extra >= 0 {
		unix.Close(d.extra)
		d.extra = -1
	}
}

// cut closes all directories deeper than depth.
func (d *dirs) cut(depth int) {
	for len(d.fds) > depth {
		unix.Close(d.fds[len(d.fds)-1])
		d.fds, d.path = d.fds[:len(d.fds)-1], d.path[:len(d.path)-1]
	}
}

// forget closes all directories, before some of them are removed.
func (d *dirs) forget() {
	d.closeExtra()
	d.cut(0)
}
