package runtime

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/mount"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"golang.org/x/sys/unix"
)

func TestAttributes(t *testing.T) {
	for _, test := range []struct {
		mount wire.Mount
		want  int
	}{
		{wire.Mount{Type: "bind"}, mount.NoDev},
		{wire.Mount{Type: "overlay", ReadOnly: true}, mount.NoDev | mount.ReadOnly},
		{wire.Mount{Type: "tmpfs", Mode: 0o777}, mount.NoDev | mount.NoSuid},
		{wire.Mount{Type: "file", Mode: 0o644, ReadOnly: true}, mount.NoDev | mount.NoSuid | mount.NoExec | mount.ReadOnly},
		{wire.Mount{Type: "file", Mode: 0o700}, mount.NoDev | mount.NoSuid},
	} {
		if got := attributes(test.mount); got != test.want {
			t.Errorf("%+v: got %x, want %x", test.mount, got, test.want)
		}
	}
}

func TestTmpfsOptions(t *testing.T) {
	for _, test := range []struct {
		mount wire.Mount
		want  string
	}{
		{wire.Mount{Mode: 0o1777}, "[{mode 1777}]"},
		{wire.Mount{Mode: 0o700, Size: 1 << 20}, "[{mode 700} {size 1048576}]"},
	} {
		if got := fmt.Sprint(tmpfsOptions(test.mount)); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

func TestCheckTarget(t *testing.T) {
	for clean, ok := range map[string]bool{"": false, "proc": false, "proc/self": false, "process": true, "a/proc": true, "dev": true} {
		if err := checkTarget(clean); (err == nil) != ok || !ok && !errors.Is(err, unix.EINVAL) {
			t.Errorf("%q: %v", clean, err)
		}
	}
}

// TestCheckDevice checks which files may serve as the devices of a step.
func TestCheckDevice(t *testing.T) {
	null := step.Device{Name: "null", Major: 1, Minor: 3}
	for name, fails := range map[string]bool{"/dev/null": false, "/dev/zero": true, "/dev": true, "/proc/self/exe": true} {
		fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
		must(t, err)
		if err := checkDevice(fd, null); (err != nil) != fails {
			t.Errorf("%s: error %v", name, err)
		}
		unix.Close(fd)
	}
}
