package debug

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/worker"
)

func TestPrograms(t *testing.T) {
	for _, test := range []struct {
		args, want string // words
		tools      bool
	}{
		{"/bin/sh -c make", "/bin/bash|/bin/sh", false},
		{"/bin/bash -eo pipefail -c make", "/bin/bash|/bin/bash|/bin/sh", false},
		{"/usr/bin/fish -c make", "/usr/bin/fish|/bin/bash|/bin/sh", false},
		{"/bb/busybox sh -c make", "/bb/busybox sh|/bin/bash|/bin/sh", false},
		{"perl -c x", "/bin/bash|/bin/sh", false},
		{"make", "/bin/bash|/bin/sh|/p/tools/bin/sh|/p/tools/busybox/sh|/p/tools/bin/busybox sh", true},
	} {
		var got []string
		for _, args := range programs(strings.Fields(test.args), "/p", test.tools) {
			got = append(got, strings.Join(args, " "))
		}
		if text := strings.Join(got, "|"); text != test.want {
			t.Errorf("%s: %s, want %s", test.args, text, test.want)
		}
	}
}

func TestEquip(t *testing.T) {
	t.Setenv("TERM", "vt100")
	step := sandbox.Spec{Args: []string{"/bin/sh", "-c", "it's"}, Env: []string{"A=1", "PATH=/bin"}, Dir: "/src", User: "1000"}
	spec := step
	spec.Args = []string{"/bin/bash"}
	equip(&spec, "/run/cairn", step, false)
	if diff := cmp.Diff([]string{"A=1", "PATH=/bin:/run/cairn/bin", "TERM=vt100", "PS1=$PWD $ "}, spec.Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if m := spec.Mounts[0]; m.Target != "/run/cairn/bin/cairn-step" || m.Mode != 0o755 || !strings.HasPrefix(m.Data, "#!/bin/bash\n") {
		t.Errorf("helper %+v", m)
	}
	step.Env = []string{"TERM=dumb", "PS1=>", "PATH=/bin"}
	spec = step
	spec.Args = []string{"/usr/bin/fish"}
	equip(&spec, "/run/cairn", step, true)
	if spec.Env[0] != "TERM=dumb" || spec.Env[1] != "PS1=>" || len(spec.Env) != 3 || !strings.HasPrefix(spec.Mounts[0].Data, "#!/bin/sh\n") {
		t.Errorf("%+v", spec)
	}
}

// The helper runs any command as it was, with its PATH and in its directory.
func TestAgain(t *testing.T) {
	dir := t.TempDir()
	place := filepath.Join(dir, "a 'b")
	if err := os.Mkdir(place, 0o755); err != nil {
		t.Fatal(err)
	}
	const odd = "it's\n$HOME `x` \\"
	more := ":/run/c*irn/bin"
	script := filepath.Join(dir, "step")
	text := again("/bin/sh", place, []string{"sh", "-c", `pwd; echo "$PATH"; cat; printf %s "$1"`, "x", odd}, more, true)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/bin/sh", script)
	c.Env = []string{"PATH=/usr/bin:/bin" + more}
	c.Stdin = strings.NewReader("not for the command")
	out, err := c.CombinedOutput()
	if want := place + "\n/usr/bin:/bin\n" + odd; err != nil || string(out) != want {
		t.Errorf("%v, %q, want %q", err, out, want)
	}
}

func TestHeadline(t *testing.T) {
	s := New(Options{})
	place := worker.Place{File: "docker\x1bfile", Line: 12, Stage: "build", Text: "[linux/arm64 build  7/19] RUN make"}
	failed := func(err error) *worker.Halt {
		return &worker.Halt{Place: place, Err: err, Took: 41*time.Second + 300*time.Millisecond}
	}
	for want, h := range map[string]*worker.Halt{
		"docker file:12 (stage build, step 7/19, linux/arm64) ended with status 2 after 41s":               failed(&worker.ExitError{Code: 2}),
		"docker file:12 (stage build, step 7/19, linux/arm64) was ended by SIGKILL after 41s: out of  mem": failed(&worker.ExitError{Code: 137, Signal: "SIGKILL", Why: "out of \x1bmem"}),
		"docker file:12 (stage build, step 7/19, linux/arm64) was killed after 1m0s (--step-timeout)":      failed(&worker.TimeoutError{Limit: time.Minute}),
		"docker file:12 (stage build, step 7/19, linux/arm64) could not be run":                            failed(errors.New("x")),
		"f:1 (step 1/2) is about to run: this is the tree before it":                                       {Place: worker.Place{File: "f", Line: 1, Text: "[1/2] RUN x"}},
	} {
		if got := s.headline(h); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	text := surroundings(&worker.Halt{Run: op.Run{Args: []string{"x"}, User: "1000:7", Dir: "/src", Network: "none", Groups: []string{"g"}, Mounts: []op.Mount{
		{Type: "cache", Target: "/c"}, {Type: "secret", ID: "s", Env: "S"}, {Type: "ssh", ID: "default"}, {Type: "bind", Target: "/b"}, {Type: "tmpfs", Target: "/t"},
	}}})
	if want := "user 1000:7   directory /src   network none   groups g   mounts: cache /c, secret s ($S), ssh default, bind /b, tmpfs /t (new and empty)"; text != want {
		t.Errorf("%q, want %q", text, want)
	}
}

// One shell is open at a time. No step starts meanwhile, and none opens another shell after
// the build has failed.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if !s.enter(ctx) {
			t.Fatal("the terminal is not free")
		}
		started, entered := false, make(chan bool, 1)
		go func() { started = s.MayStart(ctx) == nil }()
		go func() { entered <- s.enter(ctx) }()
		synctest.Wait()
		if started || len(entered) > 0 {
			t.Error("a step started, or another shell was opened")
		}
		s.leave(true)
		if <-entered {
			t.Error("a shell was opened after the build had failed")
		}
		synctest.Wait()
		if !started {
			t.Error("the step still waits")
		}
		cancel()
		if s.enter(ctx) {
			t.Error("a shell was opened after the end of the build")
		}
	})
}
