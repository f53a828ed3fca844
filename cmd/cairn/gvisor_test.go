package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/cairn-build/cairn/cmd/cairn/podtest"
)

var allInGVisor = flag.Bool("gvisor", false, "run all scripts about RUN in isolation mode gvisor, rather than half of them")

// aboutRun has the scripts about commands of steps: their results, mounts, users,
// network, limits, signals and time limits, and shells in steps that failed. Of these
// mount_secret is not there: in mode gvisor a step can set the time of a file on a
// read-only mount.
var aboutRun = []string{
	"bad_run", "interrupt", "keep_failed", "mount_bind", "run", "step_timeout", "user",
	"killed", "mount_cache", "mount_ssh", "network", "run_signals", "shell_on_error", "times",
}

// hostileRun has those of the scripts hostile_* whose attacks are those of steps.
var hostileRun = []string{"hostile_run", "hostile_image", "hostile_race_gvisor"}

// playInGVisor runs scripts as root, in isolation mode gvisor.
func playInGVisor(t *testing.T, hub string) {
	if _, err := os.Stat(gvisorProgram()); err != nil {
		t.Skipf("%v: make build makes it", err)
	}
	who := player{gvisor: true}
	list := append(aboutRun[:len(aboutRun)/2:len(aboutRun)/2], hostileRun...)
	if *allInGVisor {
		var err error
		if who.files, err = filepath.Glob("testdata/script/hostile_*.txtar"); err != nil {
			t.Fatal(err)
		}
		list = aboutRun
	}
	for _, name := range list {
		who.files = append(who.files, "testdata/script/"+name+".txtar")
	}
	play(t, hub, who)
}

// TestHostileRunInPods runs the attacks of the script hostile_run in pods, in isolation
// mode gvisor.
func TestHostileRunInPods(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(gvisorProgram()); err != nil {
		t.Skipf("%v: make build makes it", err)
	}
	if reason := podtest.Missing("runc"); reason != "" {
		t.Skip(reason)
	}
	hub := newHub(t)
	self, err := os.Executable() // which is cairn, when called so
	if err != nil {
		t.Fatal(err)
	}
	script, err := txtar.ParseFile("testdata/script/hostile_run.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, profile := range []podtest.Profile{podtest.Baseline, podtest.Restricted} {
		t.Run(string(profile), func(t *testing.T) {
			t.Parallel()
			src, out := t.TempDir(), t.TempDir()
			want := ""
			for _, f := range script.Files {
				if f.Name == "want" {
					want = string(f.Data)
				}
				if err := errors.Join(os.MkdirAll(filepath.Dir(src+"/"+f.Name), 0o755), os.WriteFile(src+"/"+f.Name, f.Data, 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(out, 0o777); err != nil {
				t.Fatal(err)
			}
			p := podtest.Pod{
				Profile: profile, Programs: map[string]string{"cairn": self, "cairn-gvisor": gvisorProgram()},
				Volumes: []podtest.Volume{{Host: src, Path: "/src", ReadOnly: true}, {Host: out, Path: "/pod"}},
				Env:     []string{"CAIRN_REGISTRY_MIRROR=" + hub, "CAIRN_ROOT=/pod/store", "CAIRN_ISOLATION=gvisor", "HOST_ONLY=of-the-host"},
			}
			const attack = `set -eu
				mkdir /pod/outside; echo secret >/pod/outside/file; : >/pod/outside/empty
				sha256sum "$(command -v cairn)" "$(command -v cairn-gvisor)" >/tmp/before
				args='--build-arg OUTSIDE=/pod/outside --build-arg STORE=/pod/store --build-arg BUILDER=/src'
				cairn build -q -t out $args /src >/dev/null
				cairn run out
				cairn build -q $args -f /src/mounts /src >/dev/null
				for f in swap insecure network child propagation propagation.2 descriptor; do
					! cairn build --progress=quiet $args --build-arg BUILDKIT_SANDBOX_SECURITY=insecure -f /src/$f /src 2>/dev/null || echo $f is built
				done
				sha256sum "$(command -v cairn)" "$(command -v cairn-gvisor)" | cmp - /tmp/before
				ls -A /pod/outside; cat /pod/outside/file`
			var stdout, stderr bytes.Buffer
			status, err := p.Run(t.Context(), &stdout, &stderr, "sh", "-c", attack)
			if want += "empty\nfile\nsecret\n"; err != nil || status != 0 || stdout.String() != want {
				t.Errorf("status %d, %v\n%s\nwant\n%s\n%s", status, err, &stdout, want, &stderr)
			}
		})
	}
}
