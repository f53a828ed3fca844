package cgroup

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sweep removes the groups that killed processes have left anywhere, as far as this
// process may.
func Sweep() { thisKernel(Caller{}).sweepAll(time.Now().Add(-minAge)) }

// minAge is the age below which a group is kept, because it may belong to another
// container and have no process yet. Containers do not see each other's locks.
const minAge = time.Minute

// sweepAll removes leftover groups of all hierarchies that were made before a time.
func (k *kernel) sweepAll(before time.Time) {
	all, _ := k.hierarchies()
	for _, h := range all {
		if !h.unified && !slices.ContainsFunc(known, func(c string) bool { return slices.Contains(h.controllers, c) }) {
			continue
		}
		_ = filepath.WalkDir(h.mount, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return nil // gone, or not readable
			}
			born, ours := madeAt(e.Name())
			if !ours {
				return nil
			}
			if born.Before(before) {
				k.removeUnlocked(path)
			}
			return fs.SkipDir
		})
	}
}

// sweep removes the groups that killed processes have left in one cgroup.
func (k *kernel) sweep(dir string) {
	for _, name := range folders(dir) {
		if _, ours := madeAt(name); ours {
			k.removeUnlocked(dir + "/" + name)
		}
	}
}

// removeUnlocked removes a cgroup if no process is in it or holds its lock.
func (k *kernel) removeUnlocked(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		_ = k.remove(dir) // fails for another user's
	}
}

// newName returns a unique name that begins with prefix and contains the current time.
func newName(prefix string) string {
	return fmt.Sprintf("%s%08x%08x", prefix, uint32(time.Now().Unix()), rand.Uint32())
}

// madeAt returns the time in a name, and reports whether newName made it.
func madeAt(name string) (t time.Time, ours bool) {
	number, ok := strings.CutPrefix(name, groupPrefix)
	if !ok {
		number, ok = strings.CutPrefix(name, leafPrefix)
	}
	n, err := strconv.ParseUint(number, 16, 64)
	if !ok || len(number) != 16 || err != nil {
		return time.Time{}, false
	}
	return time.Unix(int64(n>>32), 0), true
}
