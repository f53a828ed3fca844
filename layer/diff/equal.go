package diff

import (
	"bytes"
	"errors"
	"io"
	"maps"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
)

// equal reports whether n is the same as the file in the lower trees at its path. It
// reads contents last, if all else is equal.
func (w *walker) equal(n *node, st *unix.Stat_t, below lowerFile) (bool, error) {
	if !sameStat(n, st, &below.st) || !w.sameTime(n, below.st.Mtim.Sec) {
		return false, nil
	}
	switch n.Type {
	case listing.TypeSymlink:
		link, err := below.readlink(int(below.st.Size))
		return link == n.Link, err
	case listing.TypeFile, listing.TypeDir:
		attrs, _, err := below.xattrs()
		if err != nil || !sameXAttrs(attrs, n.XAttrs) {
			return false, err
		}
	}
	if n.Type != listing.TypeFile || n.Size == 0 {
		return true, nil
	}
	return sameContent(w.upper.child(n.Path), below.place)
}

// sameTime reports whether the layers have the same time for n and the file below, whose
// mtime on disk is sec. A file that was copied up has its old time, which may be later
// than the epoch.
func (w *walker) sameTime(n *node, sec int64) bool {
	if n.mtime.Sec == sec {
		return true
	}
	if w.o.Time != nil {
		if at, ok := w.o.Time(n.Path); ok {
			sec = at
		}
	}
	return n.MTime == sec
}

// sameStat compares everything but times, and the size of directories, which has no
// meaning.
func sameStat(n *node, st, below *unix.Stat_t) bool {
	if st.Mode != below.Mode || st.Uid != below.Uid || st.Gid != below.Gid || st.Rdev != below.Rdev {
		return false
	}
	return n.Type == listing.TypeDir || st.Size == below.Size
}

func sameXAttrs(a, b map[string]string) bool { return maps.Equal(a, b) }

const compareBuffer = 128 << 10

func sameContent(a, b place) (bool, error) {
	fa, err := a.open()
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := b.open()
	if err != nil {
		return false, err
	}
	defer fb.Close()
	return sameBytes(fa, fb)
}

func sameBytes(a, b io.Reader) (bool, error) {
	bufs := make([]byte, 2*compareBuffer)
	bufA, bufB := bufs[:compareBuffer], bufs[compareBuffer:]
	for {
		na, errA := io.ReadFull(a, bufA)
		nb, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:na], bufB[:nb]) {
			return false, nil
		}
		for _, err := range []error{errA, errB} {
			if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
				return false, err
			}
		}
		if errA != nil || errB != nil {
			return true, nil
		}
	}
}
