package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
)

var (
	errChanged = errors.New("changed while it was read")
	errClosed  = errors.New("file already closed")
)

// stamp has the attributes by which a change of a file is recognised.
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

// file returns the File of a name in the directory dir with the given fstatat result. It
// fails with ErrSpecial for sockets and devices.
func (d *Dir) file(dir int, name, path string, st *unix.Stat_t) (File, error) {
	f := File{content: content{dir: d, path: path, stamp: stampOf(st)}}
	f.Entry = listing.Entry{Path: path, Mode: st.Mode & 0o7777, MTime: st.Mtim.Sec}
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		f.Ident = Ident{Dev: f.stamp.dev, Ino: f.stamp.ino}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		f.Type, f.Size = listing.TypeFile, st.Size
	case unix.S_IFDIR:
		f.Type = listing.TypeDir
	case unix.S_IFIFO:
		f.Type = listing.TypeFifo
	case unix.S_IFLNK:
		f.Type = listing.TypeSymlink
		link, err := readlink(dir, name, st.Size)
		f.Link = link
		return f, err
	default:
		return f, ErrSpecial
	}
	return f, nil
}

// ModTime returns the mtime to the nanosecond.
func (f *File) ModTime() time.Time {
	if at := time.Unix(0, f.stamp.mtime); at.Unix() == f.MTime {
		return at
	}
	return time.Unix(f.MTime, 0) // not that of the file on disk
}

// ErrSpecial is the error for files that a context does not have.
var ErrSpecial = fmt.Errorf("sockets and devices are not part of a build context: %w", fs.ErrNotExist)

// Open opens a regular file. The caller closes it. If the file has changed since it was
// listed, Open or Read returns an error that names the path; Read checks that at the end
// of the file too.
func (f File) Open() (io.ReadCloser, error) { return f.Opener()() }

// Opener returns a function that does the same as Open and does not keep f in memory.
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
	if f.dir == nil || f.stamp == (stamp{}) || f.Type != listing.TypeFile {
		return pathError("open", f.Path, errors.New("not a regular file of a context"))
	}
	return nil
}

func (f *content) open() (int, error) {
	// If it has become a FIFO, opening it must not block.
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

// check returns an error if the open file is not as it was listed.
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

// read reads at most left bytes from fd into p.
func (f *content) read(fd int, p []byte, left int64) (int, error) {
	if int64(len(p)) > left {
		p = p[:left]
	}
	n, err := retry(func() (int, error) { return unix.Read(fd, p) })
	if err != nil {
		return 0, pathError("read", f.path, err)
	}
	if n == 0 {
		return 0, pathError("read", f.path, errChanged) // truncated
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
