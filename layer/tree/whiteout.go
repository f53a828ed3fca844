package tree

import "golang.org/x/sys/unix"

// IsWhiteout reports whether an entry of a tree in overlay form is a whiteout: a
// character device 0:0, or the socket that MakeWhiteout makes in its place. Layers
// do not contain sockets.
func IsWhiteout(st *unix.Stat_t) bool {
	kind := st.Mode & unix.S_IFMT
	return kind == unix.S_IFCHR && st.Rdev == 0 || kind == unix.S_IFSOCK
}

// MakeWhiteout makes a whiteout under an unused name. Where the kernel refuses the
// device, as on a file system that is an overlay itself, it makes a socket; such a
// tree cannot be a lower directory of an overlay mount anyway.
func MakeWhiteout(dir int, name string) error {
	err := unix.Mknodat(dir, name, unix.S_IFCHR, 0)
	if err == unix.EPERM {
		err = unix.Mknodat(dir, name, unix.S_IFSOCK|0o600, 0)
	}
	return err
}
