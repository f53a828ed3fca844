package diff

import (
	"bytes"
	"errors"
	"io"
	"maps"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/index"
)

// equal says whether n is what the lower trees have at its path. Contents are
// read last, and only then.
func (w *walker) equal(n *node, st *unix.Stat_t, below lowerFile) (bool, error) {
	if !sameStat(n, st, &below.st) {
		return false, nil
	}
	switch n.Type {
	case index.TypeSymlink:
		link, err := below.readlink(int(below.st.Size))
		return link == n.Link, err
	case index.TypeFile, index.TypeDir:
		attrs, _, err := below.xattrs()
		if err != nil || !sameXAttrs(attrs, n.XAttrs) {
			return false, err
		}
	}
	if n.Type != index.TypeFile || n.Size == 0 {
		return true, nil
	}
	return sameContent(w.upper.child(n.Path), below.place)
}

// sameStat compares all but the size of directories, which means nothing. A
// file that was copied up has its old time, which may be later than the epoch.
func sameStat(n *node, st, below *unix.Stat_t) bool {
	if st.Mode != below.Mode || st.Uid != below.Uid || st.Gid != below.Gid || st.Rdev != below.Rdev {
		return false
	}
	if st.Mtim.Sec != below.Mtim.Sec && n.MTime != below.Mtim.Sec {
		return false
	}
	return n.Type == index.TypeDir || st.Size == below.Size
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
