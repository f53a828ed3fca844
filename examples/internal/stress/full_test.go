package stress_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// remedy matches the error for a full disk.
var remedy = regexp.MustCompile(`error: (.*\n)*.*(no space left on the disk of the store \S+: free space there \(cairn prune\)|disk of the store \S+ is full: free space there \(cairn prune\))`)

// TestFull builds on disks that fill up at a random point: a tmpfs, and a disk with a
// journal. Once there is room again the same build must succeed.
func TestFull(t *testing.T) {
	needDisks(t, "mkfs.ext4")
	l := newLab(t)
	s := l.site(t, mode{name: "namespaces"})
	memory(t, s.store, "256m")
	done(t, s.build("-t", "app"))
	want, most := s.digest(t), used(t, s.store)
	failed := 0
	for i := *from; i < *from+*fulls; i++ {
		kind := []string{"tmpfs", "ext4"}[i%2]
		m := turn(i/2, "namespaces", "chroot", "gvisor")
		t.Run(fmt.Sprint(i, " ", kind, " ", m.name), func(t *testing.T) {
			s := l.site(t, m)
			point := lot(t, i).Int64N(most*9/10) + most/20
			enlarge := s.fullDisk(t, kind, point)
			if s.getsFull(t, i, point, want) {
				failed++
			}
			enlarge()
			done(t, s.build("-t", "app"))
			if got := s.digest(t); got != want {
				t.Errorf("with room again, the build made %s, not %s", got, want)
			}
			s.sound(t)
		})
	}
	t.Logf("%d of %d disks, of up to %d bytes, got full", failed, *fulls, most)
}

// fullDisk puts the store on a disk with the given free space. The returned function
// enlarges it.
func (s *site) fullDisk(t *testing.T, kind string, size int64) (enlarge func()) {
	t.Helper()
	if kind == "tmpfs" {
		memory(t, s.store, fmt.Sprint(size))
		return func() { check(t, unix.Mount("", s.store, "", unix.MS_REMOUNT, "size=256m")) }
	}
	loop(t, image(t, 128, "mkfs.ext4", "-q", "-m", "0"), s.store)
	check(t, os.Mkdir(s.store+"/lost+found/ballast", 0o700))
	ballast := s.store + "/lost+found/ballast/file"
	f, err := os.Create(ballast)
	check(t, err)
	defer f.Close()
	check(t, unix.Fallocate(int(f.Fd()), 0, 0, max(0, free(t, s.store)-size)))
	return func() { check(t, os.Remove(ballast)) }
}

// getsFull builds and reports whether the build failed for lack of space.
func (s *site) getsFull(t *testing.T, i int, point int64, want string) bool {
	t.Helper()
	var out bytes.Buffer
	c := s.build("-t", "app")
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err == nil {
		if got := s.digest(t); got != want {
			t.Errorf("a build on a disk that is nearly full made %s, not %s", got, want)
		}
		return false
	}
	if !remedy.Match(out.Bytes()) {
		t.Errorf("-seed %d -from %d: a disk of %d bytes got full, and the error names no remedy:\n%s", *seed, i, point, &out)
	}
	// The remedy that the error names must work on the full disk.
	done(t, s.command("prune", "--all", "--force"))
	return true
}

// TestFullOutput writes an archive to a disk without room for it, and reads an archive
// when the directory for temporary files is full.
func TestFullOutput(t *testing.T) {
	needDisks(t)
	l := newLab(t)
	s := l.site(t, mode{name: "namespaces"})
	done(t, s.build("-t", "app", "-o", "type=oci,dest="+s.out+"/whole.tar"))
	memory(t, s.temp, "4k")
	small := s.home
	memory(t, small, "512k")
	for _, c := range []*exec.Cmd{
		s.build("-o", "type=oci,dest="+small+"/out.tar"),
		s.build("-o", "type=docker,dest="+small+"/out.tar"),
		s.build("-o", "type=local,dest="+small+"/out"),
		s.build("-o", "type=tar,dest="+small+"/out.tar"),
		s.command("save", "-o", small+"/out.tar", "app"),
	} {
		text, err := c.CombinedOutput()
		if err == nil || !bytes.Contains(text, []byte(small+"/out")) || !bytes.Contains(text, []byte("no space left")) {
			t.Errorf("%s: %v, with an error that does not say which disk is full:\n%s", c, err, text)
		}
		check(t, os.RemoveAll(small+"/out")) // the user may remove files of the output directory
		if left, err := os.ReadDir(small); err != nil || len(left) > 0 {
			t.Errorf("%s: it left %v, %v", c, left, err)
		}
	}
	whole, err := os.Open(s.out + "/whole.tar")
	check(t, err)
	defer whole.Close()
	c := s.command("load")
	c.Stdin = whole
	if out := done(t, c); !strings.Contains(out, "app:latest@sha256:") {
		t.Errorf("cairn load: %s", out)
	}
	s.sound(t)
}

// TestReadOnly builds with a read-only store.
func TestReadOnly(t *testing.T) {
	needDisks(t)
	l := newLab(t)
	s := l.site(t, mode{name: "namespaces"})
	memory(t, s.store, "256m")
	done(t, s.build("-t", "app"))
	want := s.digest(t)
	check(t, unix.Mount("", s.store, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	for _, c := range []*exec.Cmd{s.build("-t", "app"), s.command("images"), s.command("prune", "--force")} {
		text, err := c.CombinedOutput()
		if err == nil || !strings.Contains(string(text), "the store "+s.store+" is on a read-only file system: choose a writable directory with --root") {
			t.Errorf("%s: %v: %s", c, err, text)
		}
	}
	check(t, unix.Mount("", s.store, "", unix.MS_REMOUNT, ""))
	done(t, s.build("-t", "app"))
	if got := s.digest(t); got != want {
		t.Errorf("the build made %s, not %s", got, want)
	}
	s.sound(t)
}
