package stress_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"testing"

	"golang.org/x/sys/unix"
)

// broken matches the kernel's errors for a failing disk or a corrupt file system. A
// process that cannot read a page of its binary is killed by a signal.
var broken = regexp.MustCompile(`(?i)input/output error|read-only file system|structure needs cleaning|bad message|stale file handle|was ended by SIG(BUS|SEGV)`)

// diskBytes is the size of the failing disks.
const diskBytes = 64 << 20

// TestReadErrors removes sectors of the disk below a store. Commands that need them must
// fail with an error, commands that do not must produce the right result, and after the
// file system is repaired, with empty sectors, the store must be repairable too.
func TestReadErrors(t *testing.T) {
	needDisks(t, "mkfs.ext4", "e2fsck")
	l := newLab(t)
	s := l.site(t, mode{name: "namespaces"})
	disk := image(t, diskBytes>>20, "mkfs.ext4", "-q", "-m", "0")
	loop(t, disk, s.store)
	done(t, s.build("-t", "app"))
	want := s.digest(t)
	done(t, s.command("save", "--format", "oci", "-o", s.out+"/whole.tar", "app"))
	archive, err := os.ReadFile(s.out + "/whole.tar")
	check(t, err)
	check(t, unix.Unmount(s.store, 0))
	failed, repaired := 0, 0
	for i := *from; i < *from+*unreadables; i++ {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			b := &breakage{site: s, i: i, want: want, archive: archive}
			b.load(t, disk)
			failed += b.use(t, extent(t, disk, lot(t, i).Float64()))
			if b.repair(t) {
				repaired++
			}
		})
	}
	t.Logf("%d disks with unreadable sectors; %d commands failed; %d stores were to be repaired", *unreadables, failed, repaired)
}

// breakage is a copy of the disk of a store with lost sectors.
type breakage struct {
	*site
	i       int
	want    string // expected image digest
	archive []byte // output of "cairn save"
	disk    *os.File
}

// load copies the disk to a memory file, the only kind that can be sealed against growth.
func (b *breakage) load(t *testing.T, disk string) {
	t.Helper()
	fd, err := unix.MemfdCreate("disk", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	check(t, err)
	b.disk = os.NewFile(uintptr(fd), "disk")
	t.Cleanup(func() { b.disk.Close() })
	in, err := os.Open(disk)
	check(t, err)
	_, err = io.Copy(b.disk, in)
	check(t, errors.Join(err, in.Close()))
}

func (b *breakage) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), b.disk.Fd()) }

// use runs commands while the disk fails beyond a random offset, and returns the number
// of failures.
func (b *breakage) use(t *testing.T, at int64) (failed int) {
	loop(t, b.path(), b.store)
	// The loop device keeps its size, so reading or writing beyond the end is an error.
	check(t, b.disk.Truncate(at))
	_, err := unix.FcntlInt(b.disk.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_GROW)
	check(t, err)
	saved := b.out + "/saved.tar"
	for _, c := range []*exec.Cmd{
		b.command("save", "--format", "oci", "-o", saved, "app"),
		b.build("-t", "app", "--build-arg", fmt.Sprint("ROUND=", *seed, ".", b.i)),
		b.command("check", "--quiet"),
	} {
		check(t, errors.Join(remove(saved), remove(b.out+"/metadata.json")))
		text, err := c.CombinedOutput()
		if err != nil {
			failed++
			if !broken.Match(text) {
				t.Errorf("-seed %d -from %d: %s: %v, which does not say that the disk can't be read:\n%s", *seed, b.i, c, err, text)
			}
			if _, err := os.Lstat(saved); err == nil {
				t.Errorf("-seed %d -from %d: %s failed and left a partial file", *seed, b.i, c)
			}
			continue
		}
		switch c.Args[1] {
		case "save":
			if got, err := os.ReadFile(saved); err != nil || !bytes.Equal(got, b.archive) {
				t.Errorf("-seed %d -from %d: the archive is another one: %v", *seed, b.i, err)
			}
		case "build":
			if got := b.digest(t); got != b.want {
				t.Errorf("-seed %d -from %d: the build made %s, not %s", *seed, b.i, got, b.want)
			}
		}
	}
	check(t, errors.Join(remove(saved), unix.Unmount(b.store, unix.MNT_DETACH)))
	return failed
}

// repair restores the lost sectors as zeros and repairs the file system and the store. It
// reports whether there was anything to repair.
func (b *breakage) repair(t *testing.T) (changed bool) {
	repaired := t.TempDir() + "/disk"
	out, err := os.Create(repaired)
	check(t, err)
	_, err = io.Copy(out, io.NewSectionReader(b.disk, 0, diskBytes))
	check(t, errors.Join(err, out.Truncate(diskBytes), out.Close()))
	if out, err := exec.Command("e2fsck", "-fy", repaired).CombinedOutput(); err != nil {
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() > 2 {
			t.Skipf("e2fsck: %v: %s", err, out)
		}
	}
	loop(t, repaired, b.store)
	if text, err := b.command("check", "--quiet").CombinedOutput(); err != nil {
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Fatalf("-seed %d -from %d: cairn check: %v\n%s", *seed, b.i, err, text)
		}
		changed = true
	}
	done(t, b.command("check", "--repair", "--quiet"))
	b.remade(t, b.i, b.want)
	b.sound(t)
	check(t, unix.Unmount(b.store, unix.MNT_DETACH))
	return changed
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// extent returns an offset within the written part of a sparse file, in its last three
// quarters: the first quarter holds the file system's own structures.
func extent(t *testing.T, file string, part float64) int64 {
	t.Helper()
	f, err := os.Open(file)
	check(t, err)
	defer f.Close()
	type piece struct{ from, to int64 }
	var pieces []piece
	var all int64
	for at := int64(0); ; {
		from, err := f.Seek(at, unix.SEEK_DATA)
		if err != nil {
			break // no more data
		}
		if at, err = f.Seek(from, unix.SEEK_HOLE); err != nil {
			check(t, err)
		}
		pieces = append(pieces, piece{from, at})
		all += at - from
	}
	left := int64((0.25 + 0.75*part) * float64(all))
	for _, p := range pieces {
		if left < p.to-p.from {
			return (p.from + left) &^ 4095
		}
		left -= p.to - p.from
	}
	t.Fatalf("%s has %d bytes in %d pieces", file, all, len(pieces))
	return 0
}

// TestUnreadableContext puts a file of the context on unreadable sectors.
func TestUnreadableContext(t *testing.T) {
	needDisks(t, "mkfs.ext4")
	l := newLab(t)
	s := l.site(t, mode{name: "namespaces"})
	disk := image(t, 16, "mkfs.ext4", "-q", "-m", "0")
	dir := t.TempDir()
	loop(t, disk, dir)
	done(t, exec.Command("cp", "-r", l.context+"/.", dir))
	check(t, unix.Unmount(dir, 0))
	for _, place := range []float64{0.5, 0.8, 0.99} {
		at := extent(t, disk, place)
		f, err := os.Open(disk)
		check(t, err)
		tail, err := io.ReadAll(io.NewSectionReader(f, at, 16<<20))
		check(t, errors.Join(err, f.Close()))
		loop(t, disk, dir)
		check(t, os.Truncate(disk, at))
		text, err := s.command("build", "--secret", "id=word,env=word", dir).CombinedOutput()
		if err == nil || !regexp.MustCompile(`error: .*(src/\d\d|Dockerfile|`+dir+`).*: input/output error`).Match(text) {
			t.Errorf("at byte %d: %v, and the error does not name the file that can't be read:\n%s", at, err, text)
		}
		check(t, unix.Unmount(dir, 0))
		f, err = os.OpenFile(disk, os.O_WRONLY, 0)
		check(t, err)
		_, err = f.WriteAt(tail, at)
		check(t, errors.Join(err, f.Close()))
		s.sound(t)
	}
}
