package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/index"
)

var (
	errChanged = errors.New("changed while it was read")
	errClosed  = errors.New("file already closed")
)

// stamp is what must stay the same for a file to count as unchanged.
type stamp struct {
	size         int64
	mtime, ctime int64 // nanoseconds
	ino, dev     uint64
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{
		size:  st.Size,
		mtime: st.Mtim.Nano(),
		ctime: st.Ctim.Nano(),
		ino:   st.Ino,
		dev:   st.Dev,
	}
}

// file makes the File of name in the directory dir from its fstatat result.
// It fails with ErrSpecial for sockets and devices.
func (d *Dir) file(dir int, name, path string, st *unix.Stat_t) (File, error) {
	f := File{content: content{dir: d, path: path, stamp: stampOf(st)}}
	f.Entry = index.Entry{Path: path, Mode: st.Mode & 0o7777, MTime: st.Mtim.Sec}
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		f.Ident = Ident{Dev: f.stamp.dev, Ino: f.stamp.ino}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		f.Type, f.Size = index.TypeFile, st.Size
	case unix.S_IFDIR:
		f.Type = index.TypeDir
	case unix.S_IFIFO:
		f.Type = index.TypeFifo
	case unix.S_IFLNK:
		f.Type = index.TypeSymlink
		link, err := readlink(dir, name, st.Size)
		f.Link = link
		return f, err
	default:
		return f, ErrSpecial
	}
	return f, nil
}

// ErrSpecial marks what a context leaves out.
var ErrSpecial = fmt.Errorf("a socket or device, which is no part of a build context: %w", fs.ErrNotExist)

// Open returns a regular file's bytes. Opening or reading fails, with an error
// that names the path, unless the file is just what it was when it was listed,
// at the start and still at the end.
func (f File) Open() (io.ReadCloser, error) { return f.Opener()() }

// Opener returns what Open does, to be done later, without keeping all of f.
func (f File) Opener() func() (io.ReadCloser, error) {
	if err := f.regular(); err != nil {
		return func() (io.ReadCloser, error) { return nil, err }
	}
	c := f.content
	return func() (io.ReadCloser, error) {
		fd, err := c.open()
		if err != nil {
			return nil, err
		}
		return &reader{fd: fd, file: &c, left: c.stamp.size}, nil
	}
}

func (f *File) regular() error {
	if f.dir == nil || f.stamp == (stamp{}) || f.Type != index.TypeFile {
		return pathError("open", f.Path, errors.New("not a regular file of a context"))
	}
	return nil
}

func (f *content) open() (int, error) {
	// Should it have become a FIFO, opening it must not block.
	fd, err := f.dir.openat(f.path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return -1, pathError("open", f.path, err)
	}
	if err := f.check(fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// check fails unless fd still is what was listed.
func (f *content) check(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return pathError("stat", f.path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || stampOf(&st) != f.stamp {
		return pathError("read", f.path, errChanged)
	}
	return nil
}

// read reads from fd into p, no more than left bytes.
func (f *content) read(fd int, p []byte, left int64) (int, error) {
	if int64(len(p)) > left {
		p = p[:left]
	}
	n, err := retry(func() (int, error) { return unix.Read(fd, p) })
	if err != nil {
		return 0, pathError("read", f.path, err)
	}
	if n == 0 {
		return 0, pathError("read", f.path, errChanged) // it has become shorter
	}
	return n, nil
}

type reader struct {
	fd   int
	file *content
	left int64
	err  error // io.EOF once all was read and checked
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	var n int
	if r.left > 0 {
		n, r.err = r.file.read(r.fd, p, r.left)
		r.left -= int64(n)
	}
	if r.left == 0 && r.err == nil {
		if r.err = r.file.check(r.fd); r.err == nil {
			r.err = io.EOF
		}
	}
	if n > 0 && r.err == io.EOF {
		return n, nil
	}
	return n, r.err
}

func (r *reader) Close() error {
	if r.fd < 0 {
		return pathError("close", r.file.path, errClosed)
	}
	err := unix.Close(r.fd)
	r.fd, r.err = -1, pathError("read", r.file.path, errClosed)
	return pathError("close", r.file.path, err)
}
