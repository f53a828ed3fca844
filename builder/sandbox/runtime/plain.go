package runtime

import (
	"fmt"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/mount"
	"golang.org/x/sys/unix"
)

// mountPlain mounts a plain tree. It makes missing mount points in the tree, which are
// removed after the step.
func (t *tree) mountPlain() (err error) {
	if t.root, err = mount.Clone(unix.AT_FDCWD, t.req.Root, 0); err != nil {
		return fmt.Errorf("mount the tree: %w", err)
	}
	if err := mount.SetAttributes(t.root, mount.NoDev, 0); err != nil {
		return err
	}
	missing, err := t.missing(t.root)
	if err != nil {
		return err
	}
	// The mount has gone when the mount points are removed, so the tree is opened apart
	// from it.
	if t.plain.Root, err = unix.Open(t.req.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	for _, m := range missing {
		if err := t.plain.AddMountPoint(m); err != nil {
			return fmt.Errorf("make mount point /%s: %w", m.Path, err)
		}
	}
	return t.attachRoot()
}
