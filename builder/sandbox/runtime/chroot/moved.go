package chroot

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// AsideDir is the name of the folder beside a tree in which a supervisor keeps entries
// that it has taken out of the tree.
const AsideDir = "aside"

// moved is a note about a directory that a supervisor has moved into its tree, so that
// another process can move it back if the supervisor is killed. The supervisor holds a
// lock on the note. Its JSON form is stored in the folder AsideDir.
type moved struct {
	Source string // original path
	Target string // path in the tree; the command may have moved the directory again
	Dev    uint64
	Ino    uint64
}

const movedPrefix = "moved-"

// note writes a note. It must be called before the directory is moved.
func (s *supervisor) note(m moved) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	name := s.aside + "/" + movedPrefix + strconv.Itoa(s.Changes())
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	s.OnUndo(f.Close)
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// Restore moves directories back that a supervisor has moved into its tree, in the
// folder container. The supervisor must have been killed; Restore waits for it to end.
// No process may be running in the tree.
func Restore(container string) error {
	notes, err := filepath.Glob(container + "/" + AsideDir + "/" + movedPrefix + "*[0-9]")
	for _, name := range notes {
		err = errors.Join(err, restore(name, container))
	}
	return err
}

func restore(name, container string) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	var m moved
	if err := json.NewDecoder(f).Decode(&m); err != nil {
		return nil // incomplete: nothing had been moved yet
	}
	if !m.isAt(m.Target) && !m.isAt(m.Source) {
		m.Target = m.find(container + "/tree")
	}
	if !m.isAt(m.Target) || m.isAt(m.Source) {
		return nil
	}
	return unix.Renameat2(unix.AT_FDCWD, m.Target, unix.AT_FDCWD, m.Source, unix.RENAME_NOREPLACE)
}

// isAt reports whether the directory is at a path.
func (m *moved) isAt(path string) bool {
	var st unix.Stat_t
	return path != "" && unix.Lstat(path, &st) == nil && st.Dev == m.Dev && st.Ino == m.Ino
}

// find returns the path of the directory in a tree, "" if it is not there.
func (m *moved) find(tree string) (found string) {
	_ = filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
		switch {
		case m.isAt(path):
			found = path
			return fs.SkipAll
		case err != nil:
			return fs.SkipDir // the path may be too long, for example
		}
		return nil
	})
	return found
}
