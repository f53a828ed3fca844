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

// TestPowerCut copies the disk at a random moment of a build, as a power cut would leave
// it: the journal is replayed, unpacked trees of the previous boot are unusable, and
// builds must be able to continue with the store.
func TestPowerCut(t *testing.T) {
	needDisks(t, "mkfs.ext4")
	l := newLab(t)
	var damaged int
	for i := *from; i < *from+*cuts; i++ {
		m := turn(i, "namespaces", "gvisor", "namespaces")
		t.Run(fmt.Sprint(i, " ", m.name), func(t *testing.T) { l.cut(t, m, i, &damaged) })
	}
	t.Logf("%d cuts; after %d of them something was to be repaired", *cuts, damaged)
}

func (l *lab) cut(t *testing.T, m mode, i int, damaged *int) {
	s := l.site(t, m)
	disk := image(t, 128, "mkfs.ext4", "-q", "-m", "0")
	loop(t, disk, s.store)
	start := time.Now()
	done(t, s.build("-t", "app"))
	cold, want := time.Since(start), s.digest(t)
	draw := lot(t, i)
	args := []string{"-t", "app", "--no-cache", "--build-arg", fmt.Sprint("ROUND=", *seed, ".", i)}
	if draw.IntN(2) == 0 { // otherwise the cut is in the first build
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
	done(t, s.command("save", "--format", "oci", "-o", archive, "app")) // save verifies the image
	check(t, os.Remove(archive))
}

// freeze stops a build, calls do, and kills the build.
func (s *site) freeze(t *testing.T, pid int, do func()) {
	t.Helper()
	stopped := map[int]bool{}
	for found := true; found; { // until there are no new processes
		found = false
		for _, p := range append(descendants(pid), pid) {
			if !stopped[p] {
				stopped[p], found = true, true
				_ = syscall.Kill(p, syscall.SIGSTOP) // it may have ended already
			}
		}
	}
	do()
	for p := range stopped {
		_ = syscall.Kill(p, syscall.SIGKILL)
	}
}

// copyDisk copies a disk at one moment. It repeats the copy if the kernel, which unlike
// the build is not stopped, wrote to the disk meanwhile.
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

// writes returns the kernel's write counters for the loop device of a file.
func writes(t *testing.T, file string) string {
	t.Helper()
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	check(t, err)
	for _, name := range backing {
		if text, err := os.ReadFile(name); err == nil && string(bytes.TrimSpace(text)) == file {
			stat, err := os.ReadFile(filepath.Join(filepath.Dir(name), "../stat"))
			check(t, err)
			return fmt.Sprint(bytes.Fields(stat)[4:7]) // writes completed, writes merged, sectors written
		}
	}
	t.Fatalf("no loop device has %s", file)
	return ""
}

// reboot makes the store look like one of an earlier boot.
func (s *site) reboot(t *testing.T) {
	t.Helper()
	boots, err := filepath.Glob(s.store + "/trees/*")
	check(t, err)
	for _, boot := range boots {
		check(t, os.Rename(boot, filepath.Dir(boot)+"/00000000-0000-0000-0000-000000000000"))
	}
}
