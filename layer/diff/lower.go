package diff

import (
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/tarball"
)

// merged is a directory as the lower trees have it together: those parts of
// it that are visible, topmost first.
type merged struct {
	lowers []place
	names  map[string]int // the first lower that has a name; nil if not listed
	order  []string       // the names as they came
	opened []int          // descriptors to close
}

// lowerFile is what the lower trees have at a path.
type lowerFile struct {
	place
	st unix.Stat_t
}

// find looks for what the lower trees together show under name.
func (m *merged) find(name string) (lowerFile, bool, error) {
	lowers := m.lowers
	if m.names != nil {
		i, ok := m.names[name]
		if !ok {
			return lowerFile{}, false, nil
		}
		lowers = lowers[i : i+1]
	}
	for _, l := range lowers {
		f := lowerFile{place: l.child(name)}
		err := unix.Fstatat(f.fd, f.path, &f.st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			continue
		}
		return f, err == nil && !isWhiteout(&f.st), err
	}
	return lowerFile{}, false, nil
}

func isWhiteout(st *unix.Stat_t) bool {
	return tarball.IsWhiteout(st)
}

// descend returns what find does, and the directory under name, to be closed.
// It has no parts when there is no directory.
func (m *merged) descend(name string) (top lowerFile, found bool, sub *merged, err error) {
	sub = &merged{}
	lowers := m.lowers
	if m.names != nil {
		i, ok := m.names[name]
		if !ok {
			return top, false, sub, nil
		}
		lowers = lowers[i:]
	}
	for i, l := range lowers {
		f := lowerFile{place: l.child(name)}
		err := unix.Fstatat(f.fd, f.path, &f.st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return top, false, sub, err
		}
		if !found && !isWhiteout(&f.st) {
			top, found = f, true
		}
		// What is no directory hides what is below it.
		if f.st.Mode&unix.S_IFMT != unix.S_IFDIR {
			break
		}
		if err := sub.add(f.place); err != nil {
			return top, false, sub, err
		}
		if i < len(lowers)-1 && isOpaque(f.place) {
			break
		}
	}
	return top, found, sub, nil
}

// add adds a directory. It is not opened, for that costs most, unless its path
// grows too long.
func (m *merged) add(dir place) error {
	if len(dir.path) < longest-maxName {
		m.lowers = append(m.lowers, place{dir.fd, dir.path + "/"})
		return nil
	}
	fd, err := unix.Openat(dir.fd, dir.path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	m.lowers = append(m.lowers, place{fd, ""})
	m.opened = append(m.opened, fd)
	return nil
}

func (m *merged) close() {
	for _, fd := range m.opened {
		unix.Close(fd)
	}
}

// list reads the names of all parts.
func (m *merged) list(buf *[]byte) error {
	m.names = map[string]int{}
	for i, l := range m.lowers {
		names, err := l.names(buf)
		if err != nil {
			return err
		}
		for _, name := range names {
			if _, ok := m.names[name]; !ok {
				m.names[name] = i
				m.order = append(m.order, name)
			}
		}
	}
	return nil
}

// missing returns the listed names that are not among those given.
func (m *merged) missing(names []string) []string {
	have := make(map[string]bool, len(names))
	for _, name := range names {
		have[name] = true
	}
	var all []string
	for _, name := range m.order {
		if !have[name] {
			all = append(all, name)
		}
	}
	return all
}
