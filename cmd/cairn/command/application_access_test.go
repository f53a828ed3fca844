package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/bake"
)

// TestResolvePath checks that ".." after a symbolic link is the parent of its target.
func TestResolvePath(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "out/deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "wd"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(root, "wd"))
	for link, to := range map[string]string{"in": "../out/deep", "dangling": "none"} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		".": "wd", "": "wd", "new/file": "wd/new/file", "new/../../x": "x", "in": "out/deep", "in/../x": "out/x", root + "/wd//in/./y": "out/deep/y",
	} {
		if got, err := resolvePath(path); err != nil || got != filepath.Join(root, want) {
			t.Errorf("%s: %s, %v, want %s", path, got, err, want)
		}
	}
	if got, err := resolvePath("dangling/x"); err == nil {
		t.Errorf("a link to a missing file: %s", got)
	}
}

// TestRemoteAgent checks that a definition from a URL needs a grant for the user's agent.
func TestRemoteAgent(t *testing.T) {
	for allow, want := range map[string]bool{"": false, "ssh": true} {
		var g grants
		if allow != "" {
			if ok, err := g.add(allow); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		m := &appTarget{buildCommand: &buildCommand{}, definition: &bake.Target{SSH: []*bake.SSH{{ID: "default"}}}}
		m.options.Context = "https://git.example/a.git"
		a, err := g.access(m.options.Context)
		if err != nil {
			t.Fatal(err)
		}
		problems := a.check(m)
		if (len(problems) == 0) != want || !want && !strings.Contains(problems.Error(), "--allow ssh") {
			t.Errorf("--allow %s: %v", allow, problems)
		}
		a, err = g.access("")
		if problems := a.check(m); len(problems) > 0 || err != nil {
			t.Errorf("a definition of this machine: %v, %v", problems, err)
		}
	}
	for _, bad := range []string{"fs", "fs.read=", "ssh=x", "buildx.local.delete=1"} {
		if _, err := (&grants{}).add(bad); err == nil {
			t.Errorf("--allow %s was accepted", bad)
		}
	}
}
