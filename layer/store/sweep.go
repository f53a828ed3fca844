package store

import (
	"os"
	"path/filepath"
	"strings"
)

// sweeper removes files of dead processes and earlier boots.
type sweeper struct {
	*disk
	trash *trash
}

// sweep moves files of dead processes and earlier boots to the trash. If that fails,
// a later sweep tries again.
func (s *sweeper) sweep() {
	alone := true
	for _, name := range s.otherLeases() {
		free := tryFree(s.path(tmpDir, name))
		if free == nil {
			alone = false
			continue
		}
		s.sweepLease(name)
		free.Close()
	}
	if alone {
		s.sweepBoots()
	}
	s.trash.start()
}

// sweepBoots removes the trees of other boots. It is called only if no other process
// is alive, since one could run on another machine or on one without a boot ID.
func (s *sweeper) sweepBoots() {
	boots, _ := readNames(s.path(treesDir))
	for _, name := range boots {
		if name != filepath.Base(s.boot) {
			s.trash.take(s.path(treesDir, name))
		}
	}
}

// sweepLease removes the trees without a key of a dead process and then its lease.
func (s *sweeper) sweepLease(name string) {
	containers, _ := os.ReadDir(s.boot)
	for _, e := range containers {
		dir := s.boot + "/" + e.Name()
		if strings.HasPrefix(e.Name(), name+".") && keyless(dir) {
			s.trash.take(dir)
		}
	}
	s.trash.take(s.path(tmpDir, name))
}

func (s *sweeper) otherLeases() []string {
	var names []string
	entries, _ := os.ReadDir(s.path(tmpDir))
	for _, e := range entries {
		if e.IsDir() && e.Name() != s.lease.name {
			names = append(names, e.Name())
		}
	}
	return names
}

// oldestLease returns the time of the oldest live lease, and whether this process's
// lease is the only one.
func (s *sweeper) oldestLease() (oldest int64, alone bool) {
	oldest, alone = s.lease.start, true
	for _, name := range s.otherLeases() {
		free := tryFree(s.path(tmpDir, name))
		if free != nil {
			free.Close()
			continue
		}
		alone = false
		if start, ok := leaseStart(name); ok {
			oldest = min(oldest, start)
		}
	}
	return oldest, alone
}
