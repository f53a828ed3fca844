package stress_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPowerCut takes what has been written to the disk at a moment drawn by lot, in the
// middle of a build. A machine that lost its power then would begin with that: its
// journal is replayed, trees of another boot are gone, and the store has to be one
// that builds go on with.
func TestPowerCut(t *testing.T) {
	needDisks(t, "mkfs.ext4")
	l := newLab(t)
	var damaged int
	for i := *from; i < *from+*cuts; i++ {
		t.Run(fmt.Sprint(i), func(t *testing.T) { l.cut(t, i, &damaged) })
	}
	t.Logf("%d cuts; after %d of them something was to be repaired", *cuts, damaged)
}

func (l *lab) cut(t *testing.T, i int, damaged *int) {
	s := l.site(t, rung{name: "namespaces"})
	disk := image(t, 128, "mkfs.ext4", "-q", "-m", "0")
	loop(t, disk, s.store)
	start := time.Now()
	done(t, s.build("-t", "app"))
	cold, want := time.Since(start), s.digest(t)
	draw := lot(t, i)
	args := []string{"-t", "app", "--no-cache", "--build-arg", fmt.Sprint("ROUND=", *seed, ".", i)}
	if draw.IntN(2) == 0 { // or the cut is in a first build
		done(t, s.command("rm", "app"))
		done(t, s.command("prune", "--force", "--all"))
	}
	var out bytes.Buffer
	c := s.build(args...)
	c.Stdout, c.Stderr = &out, &out
	c.WaitDelay = 10 * time.Second
	check(t, c.Start())
	time.Sleep(time.Duration(draw.Int64N(int64(cold))))
	copied := filepath.Join(t.TempDir(), "disk")
	s.freeze(t, c.Process.Pid, func() { copyDisk(t, disk, copied) })
	_ = c.Wait() // killed
	check(t, unix.Unmount(s.store, unix.MNT_DETACH))

	loop(t, copied, s.store)
	s.reboot(t)
	s.remade(t, i, want)
	text, err := s.command("check", "--quiet").CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 {
		*damaged++
		t.Logf("to be repaired after the cut:\n%s", text)
		done(t, s.command("check", "--repair", "--quiet"))
	} else {
		check(t, err)
	}
	s.remade(t, i, want)
	s.sound(t)
	check(t, unix.Unmount(s.store, unix.MNT_DETACH))
}

func (s *site) remade(t *testing.T, i int, want string) {
	t.Helper()
	done(t, s.build("-t", "app"))
	if got := s.digest(t); got != want {
		t.Errorf("-seed %d -from %d: after the cut the build made %s, not %s", *seed, i, got, want)
	}
	archive := s.out + "/saved.tar"
	done(t, s.command("save", "--format", "oci", "-o", archive, "app")) // which verifies all of it
	check(t, os.Remove(archive))
}

// freeze stops a build, does something, and kills it.
func (s *site) freeze(t *testing.T, pid int, do func()) {
	t.Helper()
	stopped := map[int]bool{}
	for found := true; found; { // until there is no new one
		found = false
		for _, p := range append(descendants(pid), pid) {
			if !stopped[p] {
				stopped[p], found = true, true
				_ = syscall.Kill(p, syscall.SIGSTOP) // it may have ended
			}
		}
	}
	do()
	for p := range stopped {
		_ = syscall.Kill(p, syscall.SIGKILL)
	}
}

// copyDisk copies a disk at one moment: nothing may be written to it meanwhile, which
// the kernel, unlike the build, does when it likes.
func copyDisk(t *testing.T, disk, to string) {
	t.Helper()
	for {
		before := writes(t, disk)
		in, err := os.Open(disk)
		check(t, err)
		out, err := os.Create(to)
		check(t, err)
		_, err = io.Copy(out, in)
		check(t, errors.Join(err, in.Close(), out.Close()))
		if writes(t, disk) == before {
			return
		}
	}
}

// writes is what the kernel counts of the loop device behind which a file is.
func writes(t *testing.T, file string) string {
	t.Helper()
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	check(t, err)
	for _, name := range backing {
		if text, err := os.ReadFile(name); err == nil && string(bytes.TrimSpace(text)) == file {
			stat, err := os.ReadFile(filepath.Join(filepath.Dir(name), "../stat"))
			check(t, err)
			return fmt.Sprint(bytes.Fields(stat)[4:7]) // writes done, merged, sectors
		}
	}
	t.Fatalf("no loop device has %s", file)
	return ""
}

// reboot makes the store one of a boot before this.
func (s *site) reboot(t *testing.T) {
	t.Helper()
	boots, err := filepath.Glob(s.store + "/trees/*")
	check(t, err)
	for _, boot := range boots {
		check(t, os.Rename(boot, filepath.Dir(boot)+"/00000000-0000-0000-0000-000000000000"))
	}
}
