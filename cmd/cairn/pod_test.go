package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v3"

	"github.com/cairn-build/cairn/cmd/cairn/podtest"
)

// cmdPod is: pod STATUS PROFILE PROGRAM [ARG...]. It runs a program of a busybox image
// in a container with the rights of a profile, as Kubernetes would start it; PROFILE.yaml
// has only the capabilities that our example of that name asks for, and PROFILE-NAME
// lacks the capability CAP_NAME. $WORK is
// /src there, read-only, and a folder of the script, pod-PROFILE, which may be written
// to, is /out. The program that $CAIRN_GVISOR names is beside cairn. The root file system is an overlay, as in a pod; the network the host's.
func cmdPod(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "pod STATUS PROFILE PROGRAM [ARG...]")
	profile, least := strings.CutSuffix(args[1], ".yaml")
	profile, lacking, _ := strings.Cut(profile, "-")
	caps := podtest.DefaultCaps(podtest.Profile(profile))
	if least {
		var err error
		caps, err = exampleCaps("../../examples/kubernetes/" + args[1])
		ts.Check(err)
	}
	out := filepath.Join(ts.Getenv("WORK"), "pod-"+args[1])
	ts.Check(os.MkdirAll(out, 0o777))
	ts.Check(os.Chmod(out, 0o777))
	self, err := os.Executable() // which is cairn, when called so
	ts.Check(err)
	p := podtest.Pod{
		Profile:  podtest.Profile(profile),
		Caps:     slices.DeleteFunc(caps, func(name string) bool { return name == "CAP_"+lacking }),
		Programs: map[string]string{"cairn": self},
		Volumes:  []podtest.Volume{{Host: ts.Getenv("WORK"), Path: "/src", ReadOnly: true}, {Host: out, Path: "/out"}},
		Env:      podEnv(ts),
	}
	if program := ts.Getenv("CAIRN_GVISOR"); program != "" {
		p.Programs["cairn-gvisor"] = program
	}
	got, err := p.Run(context.Background(), ts.Stdout(), ts.Stderr(), args[2:]...)
	ts.Check(err)
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("in a %s pod, %s ended with status %d, not %s", profile, args[2], got, args[0])
	}
}

func podEnv(ts *testscript.TestScript) (env []string) {
	for _, name := range []string{"CAIRN_REGISTRY_MIRROR", "SOURCE_DATE_EPOCH", "BUILDKIT_PROGRESS", "SECRET"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// exampleCaps returns the capabilities that the pod in a manifest adds.
func exampleCaps(file string) (caps []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var m struct {
		Spec struct {
			Containers []struct {
				SecurityContext struct {
					Capabilities struct{ Drop, Add []string }
				} `yaml:"securityContext"`
			}
		}
	}
	if err := yaml.Unmarshal(text, &m); err != nil {
		return nil, err
	}
	if len(m.Spec.Containers) != 1 || !slices.Equal(m.Spec.Containers[0].SecurityContext.Capabilities.Drop, []string{"ALL"}) {
		return nil, fmt.Errorf("%s does not drop all capabilities", file)
	}
	for _, name := range m.Spec.Containers[0].SecurityContext.Capabilities.Add {
		caps = append(caps, "CAP_"+name)
	}
	return caps, nil
}

// podCase is a pod, the isolation mode that Cairn chooses in it, and the error of a RUN
// there.
type podCase struct {
	name    string
	pod     podtest.Pod
	noStore bool   // no volume has the store: it is on the root file system
	gvisor  bool   // the program cairn-gvisor is there
	mode    string // "" if cairn info fails
	refusal string // part of the error of a RUN; "" if it is run
}

// podCases has the kinds of pods that clusters grant.
func podCases() []podCase {
	const none = "cannot run commands: no isolation mode is available"
	const readOnly = "the store /tmp/store is on a read-only file system: choose a writable directory with --root"
	u, f, b, r := podtest.Userns, podtest.Unconfined, podtest.Baseline, podtest.Restricted
	all := []podCase{
		{"userns", podtest.Pod{Profile: u}, false, false, "namespaces", ""},
		{"userns, no volume", podtest.Pod{Profile: u}, true, false, "namespaces", ""},
		{"unconfined", podtest.Pod{Profile: f}, false, false, "rootless", ""},
		{"unconfined, no volume", podtest.Pod{Profile: f}, true, false, "rootless", ""},
		{"baseline", podtest.Pod{Profile: b}, false, false, "chroot", ""},
		{"baseline, no volume", podtest.Pod{Profile: b}, true, false, "chroot", ""},
		{"restricted", podtest.Pod{Profile: r}, false, false, "none", none},
		{"restricted, no volume", podtest.Pod{Profile: r}, true, false, "none", none},
		{"baseline, read-only, no volume", podtest.Pod{Profile: b, ReadOnly: true}, true, false, "", readOnly},
		{"restricted, read-only, no volume", podtest.Pod{Profile: r, ReadOnly: true}, true, false, "", readOnly},
	}
	for _, p := range []struct {
		profile podtest.Profile
		mode    string
		refusal string
	}{{u, "namespaces", ""}, {f, "rootless", ""}, {b, "chroot", ""}, {r, "none", none}} {
		add := func(name string, change func(*podtest.Pod)) {
			pod := podtest.Pod{Profile: p.profile}
			change(&pod)
			all = append(all, podCase{string(p.profile) + ", " + name, pod, false, false, p.mode, p.refusal})
		}
		add("crun", func(pod *podtest.Pod) { pod.Runtime = "crun" })
		add("read-only", func(pod *podtest.Pod) { pod.ReadOnly = true })
		add("200 processes, 512 MiB", func(pod *podtest.Pod) { pod.PIDs, pod.Memory = 200, 512<<20 })
		if p.profile == r {
			add("random uid", func(pod *podtest.Pod) { pod.UID = 1_000_660_000 })
			add("random uid, read-only, crun", func(pod *podtest.Pod) { pod.UID, pod.ReadOnly, pod.Runtime = 1_000_660_000, true, "crun" })
		}
	}
	for _, c := range slices.Clone(all) {
		if c.mode == "chroot" || c.mode == "none" {
			c.name, c.gvisor, c.mode, c.refusal = c.name+", cairn-gvisor", true, "gvisor", ""
			all = append(all, c)
		}
	}
	few := podtest.Pod{Profile: r, PIDs: 60}
	return append(all, podCase{"restricted, 60 processes, cairn-gvisor", few, false, true, "none", "processes; in a pod: the setting podPidsLimit of the kubelet"})
}

var isolationLine = regexp.MustCompile(`(?m)^Isolation: +(\w+)$`)

// TestPods builds in each kind of pod, with the default filter of runtimes.
func TestPods(t *testing.T) {
	t.Parallel()
	hub := newHub(t)
	self, err := os.Executable() // which is cairn, when called so
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range podCases() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			runtime := tt.pod.Runtime
			if runtime == "" {
				runtime = "runc"
			}
			if reason := podtest.Missing(runtime); reason != "" {
				t.Skip(reason)
			}
			src, out := t.TempDir(), t.TempDir()
			if err := os.Chmod(out, 0o777); err != nil {
				t.Fatal(err)
			}
			dockerfile := "FROM busybox\nRUN test \"$(id -u)\" = 0 && echo changed > /etc/motd && cat /etc/motd\n"
			if err := os.WriteFile(src+"/Dockerfile", []byte(dockerfile), 0o644); err != nil {
				t.Fatal(err)
			}
			p, root := tt.pod, "/out/store"
			if tt.noStore {
				root = "/tmp/store"
			}
			p.Programs = map[string]string{"cairn": self}
			if tt.gvisor {
				p.Programs["cairn-gvisor"] = gvisorProgram()
				if _, err := os.Stat(gvisorProgram()); err != nil {
					t.Skipf("%v: make build makes it", err)
				}
			}
			p.Volumes = []podtest.Volume{{Host: src, Path: "/src", ReadOnly: true}, {Host: out, Path: "/out"}}
			p.Env = []string{"CAIRN_REGISTRY_MIRROR=" + hub, "BUILDKIT_PROGRESS=plain", "CAIRN_ROOT=" + root}
			var text bytes.Buffer
			status, err := p.Run(t.Context(), &text, &text, "sh", "-c", "cairn info && cairn build /src")
			if err != nil {
				t.Fatalf("%v\n%s", err, &text)
			}
			checkPod(t, tt, status, text.String())
		})
	}
}

func checkPod(t *testing.T, tt podCase, status int, text string) {
	t.Helper()
	mode := ""
	if found := isolationLine.FindStringSubmatch(text); found != nil {
		mode = found[1]
	}
	if mode != tt.mode {
		t.Errorf("isolation mode %q, want %q", mode, tt.mode)
	}
	ran := regexp.MustCompile(`(?m)^#\d+ [\d.]+ changed$`).MatchString(text)
	if want := tt.refusal == ""; ran != want || status == 0 != want || !strings.Contains(text, tt.refusal) {
		t.Errorf("a RUN printed its line: %v; status %d; want the error %q", ran, status, tt.refusal)
	}
	if t.Failed() {
		t.Log(text)
	}
}
