package tarball

import "golang.org/x/sys/unix"

// IsWhiteout tells whether an entry of a tree in overlay form hides what lies below
// it: a character device 0:0, or the socket that stands for one. No layer holds sockets.
func IsWhiteout(st *unix.Stat_t) bool {
	kind := st.Mode & unix.S_IFMT
	return kind == unix.S_IFCHR && st.Rdev == 0 || kind == unix.S_IFSOCK
}

// MakeWhiteout makes one under a free name. On a file system that is an overlay itself
// it is a socket, as the kernel refuses the device there; no overlay can be mounted of
// such a tree anyway.
func MakeWhiteout(dir int, name string) error {
	err := unix.Mknodat(dir, name, unix.S_IFCHR, 0)
	if err == unix.EPERM {
		err = unix.Mknodat(dir, name, unix.S_IFSOCK|0o600, 0)
	}
	return err
}
