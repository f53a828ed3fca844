package diff

import (
	"golang.org/x/sys/unix"
)

// merged is a directory as the lower trees have it together: those parts of
// it that are visible, topmost first.
type merged struct {
	lowers []place
	names  map[string]int // the first lower that has a name; nil if not listed
	order  []string       // the names as they came
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
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
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
	for _, l := range lowers {
		at := l.child(name)
		fd, err := unix.Openat(at.fd, at.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return sub.notDir(top, at, err)
		}
		sub.lowers = append(sub.lowers, place{fd, ""})
		if len(sub.lowers) == 1 {
			top = lowerFile{place: at}
			if err := unix.Fstat(fd, &top.st); err != nil {
				sub.close()
				return top, false, &merged{}, err
			}
		}
		if isOpaque(place{fd, "."}) {
			break
		}
	}
	return top, len(sub.lowers) > 0, sub, nil
}

// notDir ends the descent at something that can not be opened as a directory:
// it shows itself when nothing is above it, and hides what is below in any case.
func (m *merged) notDir(top lowerFile, at place, err error) (lowerFile, bool, *merged, error) {
	if err != unix.ENOTDIR && err != unix.ELOOP {
		m.close()
		return top, false, &merged{}, err
	}
	if len(m.lowers) > 0 {
		return top, true, m, nil
	}
	top = lowerFile{place: at}
	if err := unix.Fstatat(at.fd, at.path, &top.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return top, false, m, err
	}
	return top, !isWhiteout(&top.st), m, nil
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

func (m *merged) close() {
	for _, l := range m.lowers {
		if l.fd >= 0 {
			unix.Close(l.fd)
		}
	}
}
