package input

import (
	"path/filepath"
	"sync"

	"github.com/cairn-build/cairn/builder/source"
)

// Dirs holds the directories that the targets of a session have open. Equal directories
// with equal ignore files are one, so that each is read once. A nil Dirs shares nothing.
type Dirs struct {
	mu   sync.Mutex
	open map[string]*source.Dir // by directory and content of the ignore file, or by the folder of a location
	uses map[*source.Dir]int
}

// openDir opens a directory without the files that an ignore file excludes, unless it is
// open.
func (s *Sources) openDir(dir string, ignore []byte) (*source.Dir, error) {
	if s.Dirs == nil {
		return source.OpenDir(dir, ignore, s.Store)
	}
	return s.Dirs.get(dir, ignore, s.Store)
}

// open opens the files of a location without an ignore file. Fetched files of several
// targets are opened once.
func (s *Sources) open(l location) (*source.Dir, error) {
	if _, ok := l.(userDir); ok || s.Dirs == nil {
		return l.open()
	}
	return s.Dirs.share(l.folder(), l.open)
}

func (d *Dirs) get(dir string, ignore []byte, hints source.Hints) (*source.Dir, error) {
	key, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if found, err := filepath.EvalSymlinks(key); err == nil {
		key = found
	}
	return d.share(key+"\x00"+string(ignore), func() (*source.Dir, error) { return source.OpenDir(dir, ignore, hints) })
}

// share returns the open directory of a key, or opens it.
func (d *Dirs) share(key string, open func() (*source.Dir, error)) (*source.Dir, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if opened, ok := d.open[key]; ok {
		d.uses[opened]++
		return opened, nil
	}
	opened, err := open()
	if err != nil {
		return nil, err
	}
	if d.open == nil {
		d.open, d.uses = map[string]*source.Dir{}, map[*source.Dir]int{}
	}
	d.open[key], d.uses[opened] = opened, 1
	return opened, nil
}

// released reports whether nothing uses a directory any more, so that it can be closed.
func (d *Dirs) released(dir *source.Dir) bool {
	if d == nil {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.uses[dir] == 0 { // it was opened without d
		return true
	}
	if d.uses[dir]--; d.uses[dir] > 0 {
		return false
	}
	delete(d.uses, dir)
	for key, opened := range d.open {
		if opened == dir {
			delete(d.open, key)
		}
	}
	return true
}
