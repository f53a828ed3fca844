package step

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	for _, test := range []struct {
		text   string
		parent int
		name   string
	}{
		{"12 (sh) S 1 12 12 0", 1, "sh"},
		{"12 (a b) c) (d) R 345 1", 345, "a b) c) (d"},
		{"12 () S 7 1", 7, ""},
		{"12 (sh) S", 0, ""},
		{"12 (sh", 0, ""},
		{"", 0, ""},
	} {
		if parent, name := parseStat(test.text); parent != test.parent || name != test.name {
			t.Errorf("%q: got %d, %q", test.text, parent, name)
		}
	}
	if parent, _ := Parent(os.Getpid()); parent != os.Getppid() {
		t.Errorf("parent %d, want %d", parent, os.Getppid())
	}
}

// TestForwardSignals sends signals through a pipe, and checks that the end of the stream
// kills the process.
func TestForwardSignals(t *testing.T) {
	for _, test := range []struct {
		bytes []byte
		want  unix.Signal
	}{{[]byte{byte(unix.SIGTERM)}, unix.SIGTERM}, {nil, unix.SIGKILL}} {
		cmd := exec.Command("sleep", "100000")
		must(t, cmd.Start())
		if !slices.Contains(Children(os.Getpid()), cmd.Process.Pid) {
			t.Error("the process is not among the children")
		}
		pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
		must(t, err)
		p := NewProcess(cmd.Process.Pid, pidfd)
		r, w := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.ForwardSignals(r)
		}()
		w.Write(test.bytes)
		if test.bytes == nil {
			w.Close()
		}
		end, err := p.Wait()
		status := unix.WaitStatus(end.Status)
		if err != nil || !status.Signaled() || status.Signal() != test.want {
			t.Errorf("status %v, %v, want signal %v", status, err, test.want)
		}
		w.Write([]byte{byte(unix.SIGTERM)}) // has no process to reach
		w.Close()
		<-done
		cmd.Process.Release()
	}
}

// TestForwardClosed checks that closing the stream on this side leaves the process alone.
func TestForwardClosed(t *testing.T) {
	p := NewProcess(0, -1)
	p.ForwardSignals(errReader{os.ErrClosed})
	p.ForwardSignals(errReader{errors.New("reset")})
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestCapabilities(t *testing.T) {
	set := uint64(1<<unix.CAP_CHOWN | 1<<unix.CAP_CHECKPOINT_RESTORE)
	_, sets := CapabilitySets(set)
	if got := uint64(sets[1].Effective)<<32 | uint64(sets[0].Effective); got != set || sets[0].Inheritable|sets[1].Inheritable != 0 {
		t.Errorf("got %x, %+v", got, sets)
	}
	if got := DefaultCapabilities(); got != 0xa80425fb {
		t.Errorf("the default is %x", got)
	}
}

func TestOpenCgroups(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/cgroup.procs", nil, 0o644))
	list, err := OpenCgroups([]string{dir + "/cgroup.procs"})
	must(t, err)
	if len(list) != 1 {
		t.Errorf("got %v", list)
	}
	unix.Close(list[0])
	want := "enter the cgroup " + dir + "/none: no such file or directory"
	if _, err := OpenCgroups([]string{dir + "/cgroup.procs", dir + "/none/cgroup.procs"}); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}
