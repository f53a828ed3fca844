package command

import (
	"os"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/option"
)

const keepVariable = "CAIRN_KEEP_STORAGE"

// minKept is the number of bytes that a store may always hold.
const minKept = 10 << 30

// keepStorage returns the number of bytes that the store may hold before a build
// prunes it; 0 is unlimited.
func keepStorage(root string) (int64, error) {
	text := os.Getenv(keepVariable)
	if text == "0" {
		return 0, nil
	}
	if text != "" {
		n, err := option.ParseSize(text)
		if err != nil {
			return 0, usagef("$%s %q: %w", keepVariable, text, err)
		}
		return n, nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return 0, nil // no reason to fail the build
	}
	return max(int64(st.Blocks)*st.Bsize/10, minKept), nil
}

// pruneAfterBuild prunes the store if it holds more than keep bytes, at most once
// a day.
func pruneAfterBuild(env *environment, keep int64) {
	if err := env.Store.ExpireFailed(time.Now(), false); err != nil {
		env.Progress.Warn("%v", err)
	}
	if keep == 0 {
		return
	}
	r, err := env.Store.Collect(keep, time.Now())
	if err != nil {
		env.Progress.Warn("pruning the store: %v", err)
	} else if r.Freed > 0 {
		env.Progress.Warn("the store exceeded %s: removed %s that was least recently used ($%s sets the limit)",
			units.HumanSize(float64(keep)), units.HumanSize(float64(r.Freed)), keepVariable)
	}
}
