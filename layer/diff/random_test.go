package diff

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOverlayRandom runs random operations on a few names, so that they interfere,
// and verifies each step.
func TestOverlayRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.loose = true
			m := &monkey{t: t, r: rand.New(rand.NewPCG(seed, 7))}
			l.base(func(root string) { m.act(root, 60) })
			for range 5 {
				l.step(func(root string) { m.act(root, 25) })
			}
		})
	}
}

type monkey struct {
	t testing.TB
	r *rand.Rand

	// unlinked leaves out operations with other results on an overlay: it breaks
	// hard links when a file is changed, and refuses to rename directories.
	unlinked bool
}

func (m *monkey) path(root string) string {
	path := root
	for range 1 + m.r.IntN(3) {
		path = filepath.Join(path, string("abcd"[m.r.IntN(4)]))
	}
	return path
}

// act does n operations. Impossible ones have no effect.
func (m *monkey) act(root string, n int) {
	for range n {
		a, b := m.path(root), m.path(root)
		content := []byte(string("xyz"[m.r.IntN(3)]))
		switch m.r.IntN(17) {
		case 0, 1, 2:
			_ = os.MkdirAll(filepath.Dir(a), 0o755)
			_ = os.WriteFile(a, content, 0o644)
		case 3, 4:
			_ = os.MkdirAll(a, 0o755)
		case 5:
			_ = os.RemoveAll(a)
		case 6:
			_ = os.RemoveAll(a)
			_ = os.Mkdir(a, 0o755)
		case 7:
			_ = os.RemoveAll(a)
			_ = os.WriteFile(a, content, 0o644)
		case 8:
			if st, err := os.Lstat(a); err == nil && !(m.unlinked && st.IsDir()) {
				_ = os.Rename(a, b)
			}
		case 9, 10:
			if !m.unlinked {
				_ = os.Link(a, b)
			}
		case 11:
			_ = os.Symlink(filepath.Base(b), a)
		case 12:
			_ = os.Chmod(a, []os.FileMode{0o600, 0o644, 0o755}[m.r.IntN(3)])
		case 13:
			_ = os.Lchown(a, m.r.IntN(2), m.r.IntN(2))
		case 14:
			_ = unix.Mknod(a, unix.S_IFCHR, int(unix.Mkdev(1, uint32(3+m.r.IntN(2)))))
		case 15:
			_ = unix.Setxattr(a, "user.x", content, 0)
		case 16:
			m.freeze(a)
		}
		m.freeze(a)
	}
	m.freeze(root)
}

// freeze sets times from a small range, so that files can become equal again.
func (m *monkey) freeze(path string) {
	_ = setTime(unix.AT_FDCWD, path, unix.Timespec{Sec: 1_000_000_000 + int64(m.r.IntN(2)), Nsec: int64(m.r.IntN(2))})
	_ = setTime(unix.AT_FDCWD, filepath.Dir(path), unix.Timespec{Sec: 1_000_000_000})
}
