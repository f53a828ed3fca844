package runtime

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
)

// request sends bytes to a server as a request, and returns the reply. It checks that the
// descriptors of the request are closed.
func request(t *testing.T, message []byte, startErr error) wire.Reply {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	ours := os.NewFile(uintptr(pair[0]), "ours")
	defer ours.Close()
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	files := []int{pair[1]}
	for range 3 {
		fd, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		files = append(files, fd)
	}
	_, err = ours.Write(message)
	must(t, err)
	must(t, unix.Shutdown(pair[0], unix.SHUT_WR))
	newServer().serve(files, startErr)
	w.Close()
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a standard stream is still open: %v", err)
	}
	var reply wire.Reply
	must(t, wire.Receive(ours, &reply))
	if _, err := ours.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection is still open: %v", err)
	}
	return reply
}

// TestServeErrors checks the replies to requests that cannot be served.
func TestServeErrors(t *testing.T) {
	t.Parallel()
	var message strings.Builder
	must(t, wire.Send(&message, &wire.Request{Args: []string{"/x"}}))
	whole := []byte(message.String())
	reply := request(t, whole, errors.Join(unix.EPERM))
	if err := reply.Err(); !errors.Is(err, unix.EPERM) || err.Error() != unix.EPERM.Error() || reply.Status != 0 {
		t.Errorf("a server that could not start: %v", err)
	}
	for _, n := range []int{0, 2, 4, len(whole) - 1} {
		r := request(t, whole[:n], nil)
		if err := r.Err(); err == nil || !strings.Contains(err.Error(), "EOF") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	broken := slices.Clone(whole)
	for i := range broken[4:] {
		broken[4+i] = 0xff
	}
	r := request(t, broken, nil)
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "truncated message") {
		t.Errorf("a malformed message: %v", err)
	}
}

func TestExisting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.MkdirAll(dir+"/a/b", 0o755))
	must(t, os.Symlink("gone", dir+"/link"))
	if got := existing(dir+"/", "a", "x", "link", "a/b", "a/x"); !slices.Equal(got, []string{"a", "link", "a/b"}) {
		t.Errorf("got %v", got)
	}
}

// TestIDMaps checks id maps that are empty, malformed, or have gaps.
func TestIDMaps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		id   int64
		want bool
	}{
		{"", 0, false},
		{"\n", 0, false},
		{"0 1000\n", 0, false},
		{"0 0 4294967295\n", 4294967294, true},
		{"0 0 4294967295\n", 4294967295, false},
		{"5 1 1\n10 2 2", 5, true},
		{"5 1 1\n10 2 2", 6, false},
		{"5 1 1\n10 2 2", 11, true},
		{"5 1 1\n10 2 2", 12, false},
		{"5 1 1\n10 2 2", -1, false},
		{"5 1 0\n", 5, false},
	} {
		if got := isMapped(c.text, c.id); got != c.want {
			t.Errorf("%q, %d: %v", c.text, c.id, got)
		}
	}
}

// TestVerifyUpper checks upper directories that lack a change.
func TestVerifyUpper(t *testing.T) {
	t.Parallel()
	upper := t.TempDir()
	fails := func(want string) {
		t.Helper()
		if err := verifyUpper(upper); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	fails(`a changed file reads ""`)
	must(t, os.WriteFile(upper+"/change", []byte("x"), 0o644))
	fails(`a changed file reads "x"`)
	must(t, os.WriteFile(upper+"/change", []byte("xy"), 0o644))
	fails("a removed file leaves mode 0")
	must(t, os.WriteFile(upper+"/remove", nil, 0o644))
	fails("a removed file leaves mode 100644")
	must(t, os.Remove(upper+"/remove"))
	must(t, unix.Mknod(upper+"/remove", unix.S_IFCHR, 0)) // the kernel lets everyone make it
	must(t, os.Mkdir(upper+"/dir", 0o755))
	fails(`a replaced directory is marked ""`)
	if err := unix.Setxattr(upper+"/dir", "user.overlay.opaque", []byte("y"), 0); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("the file system has no user attributes")
	} else if err != nil {
		t.Fatal(err)
	}
	must(t, verifyUpper(upper))
}

// TestChangeFiles checks the changes by which an overlay is tried.
func TestChangeFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := changeFiles(root); err == nil || !strings.HasPrefix(err.Error(), "change a file: ") {
		t.Errorf("in an empty directory: %v", err)
	}
	must(t, os.Mkdir(root+"/dir", 0o755))
	for _, name := range []string{"change", "remove", "dir/file"} {
		must(t, os.WriteFile(root+"/"+name, []byte("x"), 0o644))
	}
	must(t, changeFiles(root))
	text, err := os.ReadFile(root + "/change")
	list, listErr := os.ReadDir(root + "/dir")
	if _, statErr := os.Stat(root + "/remove"); err != nil || string(text) != "xy" || listErr != nil || len(list) > 0 || statErr == nil {
		t.Errorf("%q, %v; %v, %v; %v", text, err, list, listErr, statErr)
	}
	if err := changeFiles(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a second time: %v", err)
	}
}
