package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
)

// limited returns a maker of groups in a cgroup for this test, and a function that lists
// the groups.
func limited(t *testing.T, l cgroup.Limits) (*cgroup.Maker, func() []string) {
	t.Helper()
	l.Parent = fmt.Sprintf("cairn-test-%d-%s", os.Getpid(), filepath.Base(filepath.Dir(t.TempDir())))
	m, err := Isolation{Mode: Namespaces}.OpenCgroups(l)
	if lack, ok := errors.AsType[*cgroup.Requirement](err); ok {
		t.Skip(lack)
	}
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	return m, func() (list []string) {
		filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() && strings.Contains(path, "/"+l.Parent+"/") {
				list = append(list, path)
			}
			return nil
		})
		return list
	}
}

// TestLimited checks in each mode that a command is in its own group, that a limit it has
// reached is reported, and that no group is left.
func TestLimited(t *testing.T) {
	m, groups := limited(t, cgroup.Limits{Memory: 48 << 20, PIDs: 6})
	root := image(t, nil)
	for _, test := range []struct {
		name, script string
		reached      string
	}{
		{"enough", "dd if=/dev/zero of=/dev/null bs=1M count=1", ""},
		{"memory", "dd if=/dev/zero of=/dev/null bs=200M count=1; exit 1", "it reached the memory limit of 48MiB (--memory)"},
		{"processes", "for i in 1 2 3 4 5 6 7; do sleep 1000 & done", "it reached the limit of 6 processes (--pids-limit)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, s := range inBothWays(t, root, test.script) {
				s.Cgroups = m
				o, err := try(s)
				if err != nil || o.LimitReached != test.reached || (o.ExitCode == 0) != (test.reached == "") {
					t.Errorf("chroot %v: %+v, %v", s.Chroot, o, err)
				}
				if left := groups(); len(left) > 0 {
					t.Errorf("chroot %v: left: %q", s.Chroot, left)
				}
			}
		})
	}
}

// TestOneProcess checks that a limit of one process suffices for a single command.
func TestOneProcess(t *testing.T) {
	m, _ := limited(t, cgroup.Limits{PIDs: 1, Memory: 16 << 20, CPUs: 0.5})
	root := image(t, nil)
	for range 10 {
		for _, s := range inBothWays(t, root, "echo $$") {
			s.Cgroups = m
			if o, err := try(s); err != nil || o.ExitCode != 0 || o.out == "" {
				t.Errorf("chroot %v: %+v, %v", s.Chroot, o, err)
			}
		}
	}
}

// TestLimitedAndEnded checks that the group is removed if the command is cancelled or
// cannot be started.
func TestLimitedAndEnded(t *testing.T) {
	m, groups := limited(t, cgroup.Limits{PIDs: 10})
	root := image(t, nil)
	for _, s := range inBothWays(t, root, "") {
		ctx, cancel := context.WithCancel(t.Context())
		out := make(notify)
		s.Cgroups, s.Stdout = m, out
		s.Args[2] = "(setsid sleep 1000 &); echo ready; sleep 1000"
		go func() {
			<-out
			if len(groups()) == 0 {
				t.Error("there is no group")
			}
			cancel()
		}()
		if _, err := Run(ctx, s); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		s.Stdout, s.Args = nil, []string{"/missing"}
		if _, err := Run(t.Context(), s); err == nil {
			t.Error("no error")
		}
		if left := groups(); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}
}
