package launch

import (
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// wait returns the exit status of a child.
func wait(t testing.TB, c Child) int {
	t.Helper()
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(c.PID, &status, 0, nil)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			t.Fatal(err)
		}
	}
	unix.Close(c.PIDFD)
	return status.ExitStatus()
}

func TestStart(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := new(Program)
	p.Do("descriptors", unix.SYS_DUP3, w.Fd(), 1, 0)
	p.Try(unix.SYS_CHDIR, p.String("/does/not/exist"))
	p.Do("directory", unix.SYS_CHDIR, p.String("/tmp"))
	p.Exec("/does/not/exist", []string{"sh", "-c", "echo $0 $A; pwd; exit 7"}, []string{"A=b"})
	p.ExecSame("/bin/sh")
	child, err := p.Start(0)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	out, err := io.ReadAll(r)
	if err != nil || string(out) != "sh b\n/tmp\n" {
		t.Errorf("output %q, error %v", out, err)
	}
	if code := wait(t, child); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	runtime.KeepAlive(w)
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	plain := dir + "/plain"
	if err := os.WriteFile(plain, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := dir + "/broken"
	if err := os.WriteFile(broken, []byte("\x7fELF no more"), 0o755); err != nil {
		t.Fatal(err)
	}
	missing := dir + "/missing"
	tests := []struct {
		name    string
		execs   []string
		attempt string
		errno   syscall.Errno
	}{
		{"missing", []string{missing}, missing, unix.ENOENT},
		{"no right to execute", []string{missing, plain, missing}, plain, unix.EACCES},
		{"path through a file", []string{plain + "/x"}, plain + "/x", unix.ENOTDIR},
		{"no program ends the search", []string{broken, "/bin/true"}, broken, unix.ENOEXEC},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := new(Program)
			for i, path := range test.execs {
				if i == 0 {
					p.Exec(path, []string{path}, nil)
				} else {
					p.ExecSame(path)
				}
			}
			_, err := p.Start(0)
			failure, ok := errors.AsType[*Failure](err)
			if !ok || failure.Attempt != test.attempt || failure.Errno != test.errno || !failure.Exec {
				t.Errorf("got %v, want %s: %v", err, test.attempt, test.errno)
			}
		})
	}
}

func TestFailingCall(t *testing.T) {
	p := new(Program)
	p.Do("enter the folder", unix.SYS_CHDIR, p.String("/does/not/exist"))
	p.Exec("/bin/true", []string{"true"}, nil)
	_, err := p.Start(0)
	if err == nil || err.Error() != "enter the folder: no such file or directory" || !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
}

func TestStartAsync(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := new(Program)
	var b byte
	p.Do("wait", unix.SYS_READ, r.Fd(), Pointer(p, &b), 1)
	p.Exec("/bin/true", []string{"true"}, nil)
	child, done, err := p.StartAsync(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if code := wait(t, child); code != 0 || done() != nil {
		t.Errorf("exit code %d, error %v", code, done())
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		p := new(Program)
		p.Exec("/bin/busybox", []string{"true"}, nil)
		child, err := p.Start(0)
		if err != nil {
			b.Fatal(err)
		}
		wait(b, child)
	}
}

// TestStackMoves checks that a child can be signalled even if the stack of the goroutine
// that starts it moves at that moment: the garbage collector halves stacks that are mostly
// unused.
func TestStackMoves(t *testing.T) {
	syscall.ForkLock.Lock()
	ended := make(chan struct{})
	started := make(chan struct{})
	go func() {
		defer close(ended)
		growStack(2000)
		p := new(Program)
		p.Exec("/bin/sleep", []string{"sleep", "1000"}, nil)
		close(started)
		child, err := p.Start(0)
		if err != nil {
			t.Error(err)
			return
		}
		if err := unix.PidfdSendSignal(child.PIDFD, unix.SIGKILL, nil, 0); err != nil {
			t.Errorf("signal the child by descriptor %d: %v", child.PIDFD, err)
			_ = unix.Kill(child.PID, unix.SIGKILL)
		}
		wait(t, child)
	}()
	<-started
	for range 20 {
		runtime.GC()
		runtime.Gosched()
	}
	syscall.ForkLock.Unlock()
	<-ended
}

//go:noinline
func growStack(depth int) byte {
	var frame [64]byte
	if depth > 0 {
		return growStack(depth-1) + frame[depth%len(frame)]
	}
	return 0
}
