package diff

import (
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/tree"
)

// merged is a directory of the merged lower trees: its visible parts, topmost first.
type merged struct {
	lowers []place
	names  map[string]int // number of the first lower tree with each name; nil if not listed
	order  []string       // the names in the order of reading
	opened []int          // descriptors to close
}

// lowerFile is the file of the lower trees at a path.
type lowerFile struct {
	place
	st unix.Stat_t
}

// find returns the file with a name in the merged lower directory.
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
	return tree.IsWhiteout(st)
}

// descend is like find, and also returns the directory with that name, which the
// caller closes. It has no parts if there is no directory.
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
		// A file that is not a directory hides everything below it.
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

// add adds a directory. It opens the directory only if its path becomes too long,
// because opening is the largest cost.
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

// list reads the names in all parts.
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

// missing returns the listed names that are not in names.
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
