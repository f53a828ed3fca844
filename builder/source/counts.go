package source

import (
	"strings"
	"sync"
)

// scans counts the files that calls of Scan have found.
type scans struct {
	mu     sync.Mutex
	byPath map[string]Count
}

// Count is a number of files, without directories, and their size in bytes.
type Count struct {
	Files int
	Bytes int64
}

func (s *scans) note(path string, c Count) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byPath == nil {
		s.byPath = map[string]Count{}
	}
	if c.Files >= s.byPath[path].Files { // others had options that exclude more
		s.byPath[path] = c
	}
}

// Count returns the number of files that all calls of Scan have found. Files below a path
// that another call scanned too are counted once.
func (d *Dir) Count() (total Count) {
	d.scans.mu.Lock()
	defer d.scans.mu.Unlock()
	for path, c := range d.scans.byPath {
		if !d.scans.within(path) {
			total.Files += c.Files
			total.Bytes += c.Bytes
		}
	}
	return total
}

// within reports whether a directory above a path was scanned.
func (s *scans) within(path string) bool {
	for path != "." {
		i := strings.LastIndexByte(path, '/')
		if path = path[:max(i, 0)]; i < 0 {
			path = "."
		}
		if _, ok := s.byPath[path]; ok {
			return true
		}
	}
	return false
}
