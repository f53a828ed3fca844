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

// Sweep removes the groups that killed processes have left, wherever they are, as far
// as this process may.
func Sweep() { thisKernel(Caller{}).sweepAll(time.Now().Add(-young)) }

// young is how old a group is that may be another container's, which has not entered
// it yet. Containers do not see each other's locks.
const young = time.Minute

func (k *kernel) sweepAll(before time.Time) {
	all, _ := k.hierarchies()
	for _, h := range all {
		if !h.unified && !slices.ContainsFunc(known, func(c string) bool { return slices.Contains(h.controllers, c) }) {
			continue
		}
		_ = filepath.WalkDir(h.mount, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return nil // gone, or nobody's to see
			}
			born, ours := madeAt(e.Name())
			if !ours {
				return nil
			}
			if born.Before(before) {
				k.take(path)
			}
			return fs.SkipDir
		})
	}
}

// sweep does that in one cgroup.
func (k *kernel) sweep(dir string) {
	for _, name := range folders(dir) {
		if _, ours := madeAt(name); ours {
			k.take(dir + "/" + name)
		}
	}
}

// take removes a cgroup if nobody lives who holds it, and no process is in it.
func (k *kernel) take(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		_ = k.remove(dir) // another user's is not this one's to remove
	}
}

// newName is a name that nobody else has, and that tells when it was made.
func newName(prefix string) string {
	return fmt.Sprintf("%s%08x%08x", prefix, uint32(time.Now().Unix()), rand.Uint32())
}

// madeAt tells whether newName has given a name, and when.
func madeAt(name string) (when time.Time, ours bool) {
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
