package stress_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// needDisks skips a test where file systems cannot be mounted.
func needDisks(t *testing.T, tools ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting file systems needs root")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v (packages e2fsprogs, btrfs-progs)", err)
		}
	}
}

// memory mounts a tmpfs of the given size (see mount(8)) until the test ends.
func memory(t *testing.T, dir, size string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755,size="+size); err != nil {
		t.Skipf("no tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // it may be unmounted already
}

// image creates a file of the given size with a file system.
func image(t *testing.T, megabytes int64, mkfs ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(file)
	check(t, err)
	check(t, f.Truncate(megabytes<<20))
	check(t, f.Close())
	done(t, exec.Command(mkfs[0], append(mkfs[1:], file)...))
	return file
}

// loop mounts the file system in a file until the test ends. The kernel releases the
// loop device with the mount.
func loop(t *testing.T, file, dir string) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "loop", file, dir).CombinedOutput(); err != nil {
		t.Skipf("no loop device: %s", out)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// used returns the number of used bytes of a file system.
func used(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	check(t, unix.Statfs(dir, &st))
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// free returns the number of available bytes of a file system.
func free(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	check(t, unix.Statfs(dir, &st))
	return int64(st.Bavail) * st.Bsize
}
