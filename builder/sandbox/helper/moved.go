package helper

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Aside is where a keeper lays what it takes out of a tree, beside it.
const Aside = "aside"

// moved is a note that a keeper keeps while a folder is in its tree: should the keeper
// be killed, others take the folder back. The keeper holds the note locked.
type moved struct {
	Source string // where it belongs
	Target string // where the keeper put it; the command may have moved it on
	Dev    uint64
	Ino    uint64
}

const movedPrefix = "moved-"

// note writes one, before the folder is moved.
func (k *keeper) note(m moved) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	name := k.aside + "/" + movedPrefix + strconv.Itoa(len(k.undo))
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	k.undo = append(k.undo, f.Close)
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// TakeBack puts back what was moved into the tree of a keeper that was killed, or is
// about to be: it waits for that. No process may run in the tree. container is the
// folder of the tree.
func TakeBack(container string) error {
	notes, err := filepath.Glob(container + "/" + Aside + "/" + movedPrefix + "*[0-9]")
	for _, name := range notes {
		err = errors.Join(err, takeBack(name, container))
	}
	return err
}

func takeBack(name, container string) error {
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
		return nil // torn: nothing was moved yet
	}
	if !m.is(m.Target) && !m.is(m.Source) {
		m.Target = m.find(container + "/tree")
	}
	if !m.is(m.Target) || m.is(m.Source) {
		return nil
	}
	return unix.Renameat2(unix.AT_FDCWD, m.Target, unix.AT_FDCWD, m.Source, unix.RENAME_NOREPLACE)
}

// is tells whether the folder is at a path.
func (m *moved) is(path string) bool {
	var st unix.Stat_t
	return path != "" && unix.Lstat(path, &st) == nil && st.Dev == m.Dev && st.Ino == m.Ino
}

// find looks for the folder in a tree.
func (m *moved) find(tree string) (found string) {
	_ = filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
		switch {
		case m.is(path):
			found = path
			return fs.SkipAll
		case err != nil:
			return fs.SkipDir // a path that is too long, above all
		}
		return nil
	})
	return found
}
