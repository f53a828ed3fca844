package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cairn-build/cairn/builder/cache/gha/fake"
	runner "github.com/cairn-build/cairn/builder/run"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/terminal"
	"github.com/cairn-build/cairn/cmd/cairn/podtest"
)

func TestMain(m *testing.M) {
	runner.Init()
	sandbox.Hook()
	terminal.Hook()
	testscript.Main(m, map[string]func(){
		"cairn":       main,
		"executor":    main,
		"warmer":      main,
		"remove-tree": removeTree,
		"agent-keys":  agentKeys,
		"fake-engine": fakeEngine,
		"swap":        swap,
	})
}

var update = flag.Bool("update", false, "rewrite the golden files of scripts")

// TestScripts runs the scripts in testdata/script. If the test runs as root, they run
// a second time as an ordinary user, with the same results. Scripts that do not touch
// the sandbox, owners of files or permissions skip the second run with the condition
// "second".
func TestScripts(t *testing.T) {
	hub := newHub(t)
	who := player{uid: os.Getuid(), gid: os.Getgid()}
	if who.uid != 0 {
		t.Run("user", func(t *testing.T) { play(t, hub, who) })
		return
	}
	t.Run("root", func(t *testing.T) { play(t, hub, who) })
	t.Run("user", func(t *testing.T) { play(t, hub, ordinary(t)) })
	t.Run("gvisor", func(t *testing.T) { playInGVisor(t, hub) })
}

// player is the user that runs cairn in a script.
type player struct {
	uid, gid int
	switched bool // the test itself is root

	gvisor bool     // steps run in isolation mode gvisor
	files  []string // the scripts; nil for all
}

// ordinary returns an ordinary user with subordinate IDs, and creates it if necessary.
func ordinary(t *testing.T) player {
	const name = "cairn-test"
	for _, tool := range []string{"newuidmap", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no rootless scripts: %v (packages uidmap, util-linux)", err)
		}
	}
	if _, err := user.Lookup(name); err != nil {
		if out, err := exec.Command("useradd", "--create-home", name).CombinedOutput(); err != nil {
			t.Skipf("no rootless scripts: useradd: %v: %s", err, out)
		}
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	p := player{switched: true}
	if p.uid, err = strconv.Atoi(u.Uid); err != nil {
		t.Fatal(err)
	}
	if p.gid, err = strconv.Atoi(u.Gid); err != nil {
		t.Fatal(err)
	}
	return p
}

func play(t *testing.T, hub string, who player) {
	dir := "testdata/script"
	if who.files != nil {
		dir = ""
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		Files:               who.files,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Cmds:                commands,
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return who.uid == 0, nil
			case "cgroups":
				return mayLimit(who), nil
			case "pods":
				return podtest.Missing("runc") == "", nil
			case "gvisor":
				_, err := os.Stat(gvisorProgram())
				return err == nil, nil
			case "in-gvisor":
				return who.gvisor, nil
			case "testroot": // the script itself runs as root
				return os.Getuid() == 0, nil
			case "second": // root has run the script before
				return who.switched || who.gvisor, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Setup: func(e *testscript.Env) error {
			if deadline, ok := t.Deadline(); ok {
				e.Values[deadlineKey{}] = deadline
			}
			return setup(e, hub, who)
		},
	})
}

// gvisorProgram returns the path of the program cairn-gvisor that make build makes.
func gvisorProgram() string {
	path, err := filepath.Abs("../../bin/cairn-gvisor")
	if err != nil {
		return ""
	}
	return path
}

// setup creates the home, the store and the registry ($REGISTRY) of a script. The
// mirror of docker.io ($HUB) has only library/busybox.
func setup(e *testscript.Env, hub string, who player) error {
	home := filepath.Join(e.WorkDir, ".home")
	store := filepath.Join(e.WorkDir, ".store")
	for _, dir := range []string{home, store} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	e.Setenv("HOME", home)
	e.Setenv("CAIRN_ROOT", store)
	e.Setenv("CAIRN_REGISTRY_MIRROR", hub)
	e.Setenv("BUILDKIT_PROGRESS", "plain")
	e.Setenv("HUB", hub)
	e.Setenv("GVISOR", gvisorProgram())
	if who.gvisor {
		e.Setenv("CAIRN_ISOLATION", "gvisor")
		e.Setenv("CAIRN_GVISOR", gvisorProgram())
	}
	r := &testRegistry{dir: filepath.Join(e.WorkDir, ".registry")}
	if err := r.start(); err != nil {
		return err
	}
	e.Defer(r.stop)
	e.Setenv("REGISTRY", r.addr)
	b := &backgrounds{}
	e.Defer(b.kill)
	e.Values[serverKey{}], e.Values[backgroundKey{}], e.Values[webKey{}], e.Values[actionsKey{}] = r, b, new(*web), new(*fake.Service)
	if who.uid != 0 {
		e.Defer(func() { removeStores(e) })
	}
	if who.switched {
		return who.enter(e)
	}
	return nil
}

// enter makes scripts run cairn as the ordinary user, the owner of all their files.
func (p player) enter(e *testscript.Env) error {
	cairn, err := exec.LookPath("cairn")
	if err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(filepath.Dir(cairn)), filepath.Dir(e.WorkDir)} {
		if err := os.Chmod(dir, 0o755); err != nil { // the temporary directories of testscript
			return err
		}
	}
	bin := filepath.Join(e.WorkDir, ".bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\nexec %s --reuid=%d --regid=%d --init-groups -- %s \"$@\"\n", setpriv, p.uid, p.gid, cairn)
	if err := os.WriteFile(filepath.Join(bin, "cairn"), []byte(script), 0o755); err != nil {
		return err
	}
	e.Setenv("BIN", bin)
	e.Setenv("PATH", bin+":"+e.Getenv("PATH"))
	return filepath.WalkDir(e.WorkDir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, p.uid, p.gid)
	})
}

// removeStores removes files of subordinate IDs, which is possible only in their user
// namespace.
func removeStores(e *testscript.Env) {
	c := exec.Command("remove-tree", e.WorkDir)
	if os.Getuid() == 0 {
		c = exec.Command("rm", "-rf", e.WorkDir)
	}
	if out, err := c.CombinedOutput(); err != nil {
		e.T().Fatal("removing the stores: ", err, string(out))
	}
}

func removeTree() {
	_, err := sandbox.Enter("")
	if err == nil {
		err = os.RemoveAll(os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// exitCode returns the exit status of a command that ran.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode(), nil
	case errors.As(err, &exit):
		return -1, fmt.Errorf("ended by a signal: %w", err)
	}
	return -1, err
}
