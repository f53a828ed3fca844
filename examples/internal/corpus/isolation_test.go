package corpus_test

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/cmd/cairn/podtest"
)

var (
	gvisorEach = flag.Int("gvisor", 6, "build each `nth` case with a RUN in isolation mode gvisor too, 1 for all and 0 for none")
	gvisorPod  = flag.String("pod", "", "build them in pods of this `profile`, baseline or restricted, rather than as root")
)

// mode is an isolation mode, with a pod if the build is not done by root of the machine.
type mode struct {
	name string
	pod  podtest.Profile
}

// notInPods has the cases that a build in a pod cannot pass in any mode.
var notInPods = map[string]string{
	"add-git-keep-dir":      "the pods have no git",
	"mount-ssh":             "the key belongs to root of the machine",
	"output-local":          "the files belong to the user of the pod",
	"output-local-src":      "the files belong to the user of the pod",
	"output-local-src-link": "the files belong to the user of the pod",
}

// namespaces is the mode in which all cases are built.
var namespaces = mode{name: "namespaces"}

// steps matches a Dockerfile with a RUN.
var steps = regexp.MustCompile(`(?m)^(ONBUILD )?RUN\b`)

// hasRun reports whether a case has a step that needs an isolation mode.
func (c *testcase) hasRun() bool {
	for _, f := range c.Files {
		if f.Name != "want" && f.Name != "cairn" && steps.Match(f.Data) {
			return true
		}
	}
	return false
}

// buildGVisor builds the program of isolation mode gvisor beside cairn.
func (l *lab) buildGVisor(t *testing.T) {
	t.Helper()
	if *gvisorPod != "" {
		if reason := podtest.Missing("runc"); reason != "" {
			t.Fatalf("-pod %s: %s", *gvisorPod, reason)
		}
	}
	c := exec.Command("go", "build", "-C", "../../../cmd/cairn-gvisor", "-o", l.dir+"/cairn-gvisor", ".")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("building cairn-gvisor: %v\n%s", err, out)
	}
}

// compareGVisor builds a case in mode gvisor. The result must be that in mode namespaces,
// byte for byte, or differ by the known lines.
func (l *lab) compareGVisor(t *testing.T, path string, want result, known string) {
	c := readCase(t, path)
	if reason := notInPods[c.name]; *gvisorPod != "" && reason != "" {
		t.Skip(reason)
	}
	got := l.cairnMakes(t, c, mode{"gvisor", podtest.Profile(*gvisorPod)})
	if !strings.HasPrefix(want.text, fails) && strings.HasPrefix(got.text, fails) {
		want.text = "builds\n"
	}
	found := difference(want.text, got.text)
	switch {
	case found != known && known != "":
		t.Errorf("another difference between namespaces (-) and gvisor (+) than in isolation.txtar:\n%s\nlisted:\n%s", found, known)
	case found != known:
		t.Errorf("the result in mode namespaces (-) is not that in mode gvisor (+):\n%s", found)
	case known == "" && !c.noEpoch && want.digest != got.digest:
		t.Errorf("the results look the same, but have the digests %s in mode namespaces, and %s in mode gvisor", want.digest, got.digest)
	}
}

// run runs cairn for a case in a directory.
func (l *lab) run(t *testing.T, c *testcase, m mode, dir string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	args = append([]string{l.cairn, "--isolation", m.name, "--root", filepath.Join(l.dir, "store-"+m.name+string(m.pod))}, args...)
	var out, log bytes.Buffer
	if m.pod != "" {
		return l.runInPod(t, c, m, dir, args)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = filepath.Join(dir, "ctx"), c.environment()
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

// runInPod is run in a pod that has the directory as a volume.
func (l *lab) runInPod(t *testing.T, c *testcase, m mode, dir string, args []string) (stdout, stderr string, status int) {
	t.Helper()
	for _, d := range []string{l.dir, dir} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	p := podtest.Pod{
		Profile: m.pod,
		Volumes: []podtest.Volume{{Host: l.dir, Path: l.dir}, {Host: dir, Path: dir}},
		Env:     c.settings(),
	}
	var out, log bytes.Buffer
	status, err := p.Run(t.Context(), &out, &log, append([]string{"sh", "-c", `cd "$0" && exec "$@"`, dir + "/ctx"}, args...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.TrimSpace(log.String()))
	}
	return out.String(), log.String(), status
}
