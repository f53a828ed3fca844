package main

import (
	"os"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder"
)

const keepVariable = "CAIRN_KEEP_STORAGE"

// leastKept is what a store may always hold.
const leastKept = 10 << 30

// keepStorage is how much the store may hold before a build prunes it; 0 is any
// amount.
func keepStorage(root string) (int64, error) {
	text := os.Getenv(keepVariable)
	if text == "0" {
		return 0, nil
	}
	if text != "" {
		n, err := size(text)
		if err != nil {
			return 0, usagef("$%s %q: %w", keepVariable, text, err)
		}
		return n, nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return 0, nil // the build worked: no reason to fail now
	}
	return max(int64(st.Blocks)*st.Bsize/10, leastKept), nil
}

// collect prunes the store after a build, once a day, if it has grown too large.
func (a *app) collect(b *builder.Builder, keep int64) {
	if keep == 0 {
		return
	}
	r, err := b.Store.Collect(keep, time.Now())
	if err != nil {
		b.Progress.Warn("pruning the store: %v", err)
	} else if r.Freed > 0 {
		b.Progress.Warn("the store held more than %s: what was used longest ago is removed, %s ($%s changes this)",
			units.HumanSize(float64(keep)), units.HumanSize(float64(r.Freed)), keepVariable)
	}
}
