package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

// mountTmpfs mounts a small file system until the end of the test.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("mounting is not allowed here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// wantRemedy checks that an error names the directory and the remedy.
func wantRemedy(t *testing.T, err error, root string, cause error, words ...string) {
	t.Helper()
	if !errors.Is(err, cause) {
		t.Fatalf("error %v, want %v", err, cause)
	}
	for _, word := range append(words, root, "--root") {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
}

func TestDiskFull(t *testing.T) {
	root := mountTmpfs(t, "size=256k") + "/store"
	s := open(t, root)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	full := "no space left"

	err := s.PutBlob(layer.FromBytes(content), int64(len(content)), bytes.NewReader(content))
	wantRemedy(t, err, root, unix.ENOSPC, full)
	_, err = s.PutBytes(content)
	wantRemedy(t, err, root, unix.ENOSPC, full)
	wantRemedy(t, s.PutRecord("k", content), root, unix.ENOSPC, full)
	wantRemedy(t, s.PutHint("k", content), root, unix.ENOSPC, full)
	x := &listing.Listing{Entries: []listing.Entry{{Path: "etc/passwd", Type: listing.TypeFile, Content: content}}}
	wantRemedy(t, s.PutListing(layer.FromBytes(nil), x), root, unix.ENOSPC, full)
	img, _ := testImage(t, "x")
	img.Config = content
	wantRemedy(t, s.Tag("x", img), root, unix.ENOSPC, full)

	for _, dir := range []string{blobsDir, recordsDir, hintsDir, indexesDir, tagsDir, s.path(tmpDir, s.lease.name)[len(s.root)+1:]} {
		if names, _ := readNames(s.path(dir)); len(names) > 0 {
			t.Errorf("left in %s: %v", dir, names)
		}
	}
	if err := s.PutRecord("k", []byte("small")); err != nil {
		t.Errorf("a small record after that: %v", err)
	}
	check(t, s.Close())
	if l := left(t, root); len(l) > 0 {
		t.Errorf("left: %v", l)
	}
}

func TestNoInodes(t *testing.T) {
	root := mountTmpfs(t, "nr_inodes=24") + "/store"
	s := open(t, root)
	var err error
	for range 24 {
		if _, err = s.NewTree(); err != nil {
			break
		}
	}
	wantRemedy(t, err, root, unix.ENOSPC, "no inodes left", "df -i")
	if err := s.Full(); err == nil || !strings.Contains(err.Error(), "df -i") {
		t.Errorf("Full: %v", err)
	}
	check(t, s.Close())
	if l := left(t, root); len(l) > 0 {
		t.Errorf("left: %v", l)
	}
	_, err = Open(root + "/../" + strings.Repeat("x/", 20))
	if err == nil || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Open on a full disk: %v", err)
	}
}

// TestExplainFull checks which errors name the store.
func TestExplainFull(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	full := fmt.Errorf("write x: %w", unix.ENOSPC)
	got := s.ExplainFull(full)
	if !errors.Is(got, unix.ENOSPC) || !strings.HasPrefix(got.Error(), "write x: no space left on the disk") || strings.Count(got.Error(), unix.ENOSPC.Error()) > 1 {
		t.Errorf("got %v", got)
	}
	if other := fmt.Errorf("write x: %w", unix.EIO); s.ExplainFull(other) != other {
		t.Errorf("another error: %v", s.ExplainFull(other))
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	dir := mountTmpfs(t, "size=1m")
	root := dir + "/store"
	s := open(t, root)
	check(t, s.Close())
	check(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	for _, root := range []string{root, dir + "/new"} {
		_, err := Open(root)
		wantRemedy(t, err, root, unix.EROFS, "read-only")
	}
}

// TestMain also runs the other process of the tests below.
func TestMain(m *testing.M) {
	if root := os.Getenv("CAIRN_STORE_TEST_ROOT"); root != "" {
		os.Exit(otherProcess(os.Getenv("CAIRN_STORE_TEST_DO"), root))
	}
	os.Exit(m.Run())
}

func other(t *testing.T, do, root string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "CAIRN_STORE_TEST_DO="+do, "CAIRN_STORE_TEST_ROOT="+root)
	return cmd
}

// openDir returns a temporary directory that other users may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cairn-store-")
	check(t, err)
	check(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestNoPermission(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	dir := openDir(t)
	check(t, os.Mkdir(dir+"/empty", 0o755))
	check(t, open(t, dir+"/roots").Close())
	exe, err := os.ReadFile("/proc/self/exe")
	check(t, err)
	check(t, os.WriteFile(dir+"/exe", exe, 0o755))
	for _, root := range []string{dir + "/roots", dir + "/missing", dir + "/empty"} {
		cmd := other(t, "open", root)
		cmd.Path, cmd.Dir = dir+"/exe", "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("%s: opened as nobody", root)
		}
		for _, word := range []string{"no permission", root, "--root"} {
			if !strings.Contains(string(out), word) {
				t.Errorf("%s: %q does not say %q", root, out, word)
			}
		}
	}
}

func TestForeignFolder(t *testing.T) {
	home := t.TempDir()
	check(t, os.WriteFile(home+"/thesis.tex", nil, 0o644))
	_, err := Open(home)
	if err == nil || !strings.Contains(err.Error(), "thesis.tex") || !strings.Contains(err.Error(), "--root") {
		t.Errorf("error %v", err)
	}
	if names, _ := readNames(home); len(names) != 1 {
		t.Errorf("something was made there: %v", names)
	}
	_, err = Open(home + "/thesis.tex")
	wantRemedy(t, err, home, unix.ENOTDIR)
}

func TestForeignStamp(t *testing.T) {
	for _, tt := range []struct{ stamp, want string }{
		{"cairn store 9\n", "another version"},
		{"", "is damaged"},
		{"cairn st", "is damaged"},
		{layoutVersion + "uid 0 100000 65536\ngid 0 100000 65536\n", "another user or user namespace"},
	} {
		root := t.TempDir()
		check(t, open(t, root).Close())
		check(t, os.WriteFile(filepath.Join(root, stampFile), []byte(tt.stamp), 0o600))
		_, err := Open(root)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "--root") {
			t.Errorf("stamp %q: error %v, want %q", tt.stamp, err, tt.want)
		}
	}
}

func TestOpenInterrupted(t *testing.T) {
	root := t.TempDir()
	check(t, os.MkdirAll(root+"/blobs/sha256", 0o700))
	check(t, os.Mkdir(root+"/lost+found", 0o700))
	s := open(t, root)
	check(t, s.PutRecord("k", nil))
}

func TestKilled(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	check(t, s.PutRecord("before", []byte("x")))
	cmd := other(t, "hold", root)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	ready := make([]byte, 6)
	_, err = io.ReadFull(out, ready)
	check(t, err)
	if l := left(t, root); len(l) < 3 {
		t.Errorf("the other process holds only %v", l)
	}
	check(t, open(t, root).Close())
	if _, ok := s.Tree("stored"); !ok {
		t.Error("the tree that the living process stored is not there")
	}
	check(t, cmd.Process.Kill())
	_ = cmd.Wait()

	unlock, err := s.Lock(t.Context(), "key", func() { t.Error("the dead process still holds its lock") })
	check(t, err)
	unlock()
	again := open(t, root)
	again.trash.work.Wait()
	check(t, again.Close())
	check(t, s.Close())
	if l := left(t, root); len(l) > 0 {
		t.Errorf("left: %v", l)
	}
	last := open(t, root)
	if _, ok := last.Tree("stored"); !ok {
		t.Error("the stored tree went with its maker")
	}
	if b, err := last.Record("theirs"); err != nil || string(b) != "r" {
		t.Errorf("record %q, %v", b, err)
	}
}

// otherProcess opens the store. If told to hold, it starts one entry of each kind
// and waits to be killed.
func otherProcess(do, root string) int {
	s, err := Open(root)
	if err != nil {
		os.Stderr.WriteString(err.Error())
		return 1
	}
	switch do {
	case "hold":
		err = hold(s)
	case "churn":
		err = churn(s, 200)
	}
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		os.Stderr.WriteString(err.Error())
		return 1
	}
	return 0
}
