package examples_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/cmd/cairn/podtest"
	"github.com/cairn-build/cairn/examples/internal/bases"
)

var podExamples = flag.String("pods", "debian-nginx", "build these `examples` in pods too, in pods of each setting if it is all")

// podSetting is a pod in which examples are built.
type podSetting struct {
	name     string
	pod      podtest.Pod
	mode     string // the isolation mode that Cairn finds
	noVolume bool   // the store is on the root file system
}

func podSettings() []podSetting {
	r := podtest.Restricted
	return []podSetting{
		{"restricted", podtest.Pod{Profile: r}, "gvisor", false},
		{"restricted, random uid, read-only, crun", podtest.Pod{Profile: r, UID: 1_000_660_000, ReadOnly: true, Runtime: "crun"}, "gvisor", false},
		{"restricted, 200 processes, 512 MiB", podtest.Pod{Profile: r, PIDs: 200, Memory: 512 << 20}, "gvisor", false},
		{"restricted, no volume", podtest.Pod{Profile: r}, "gvisor", true},
		{"baseline", podtest.Pod{Profile: podtest.Baseline}, "gvisor", false},
		{"baseline, crun", podtest.Pod{Profile: podtest.Baseline, Runtime: "crun"}, "gvisor", false},
		{"unconfined", podtest.Pod{Profile: podtest.Unconfined}, "rootless", false},
		{"userns", podtest.Pod{Profile: podtest.Userns}, "namespaces", false},
	}
}

// inPods builds an example in pods, after root of the machine has built it, and reads and
// runs the results as that of root.
func (i *image) inPods(t *testing.T) {
	settings := podSettings()
	switch {
	case *podExamples == "all":
	case slices.Contains(strings.Split(*podExamples, ","), i.name):
		settings = settings[:1]
	default:
		return
	}
	for n, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			runtime := s.pod.Runtime
			if runtime == "" {
				runtime = "runc"
			}
			if reason := podtest.Missing(runtime); reason != "" {
				t.Skip(reason)
			}
			in := *i
			in.ref = fmt.Sprintf("%s/examples/%s:pod%d", i.registry, i.name, n)
			in.buildInPod(t, s)
			if i.again && in.digest != i.digest {
				t.Errorf("the digest is %s, and that of root's build %s", in.digest, i.digest)
			}
			in.skopeoInspect(t)
			in.validate(t)
			in.umociAndRunc(t)
		})
	}
}

// buildInPod builds an example in a pod with a new store and pushes it.
func (i *image) buildInPod(t *testing.T, s podSetting) {
	t.Helper()
	out := t.TempDir()
	if err := os.Chmod(out, 0o777); err != nil {
		t.Fatal(err)
	}
	root := "/out/store"
	if s.noVolume {
		root = "/tmp/store"
	}
	p := s.pod
	p.Programs = map[string]string{"cairn": i.cairn, "cairn-gvisor": i.gvisor(t)}
	p.Volumes = []podtest.Volume{{Host: i.context, Path: "/src", ReadOnly: true}, {Host: out, Path: "/out"}}
	p.Env = []string{"CAIRN_REGISTRY_MIRROR=" + i.registry, "CAIRN_ROOT=" + root, "SOURCE_DATE_EPOCH=1700000000"}
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasSuffix(strings.ToLower(name), "_proxy") {
			p.Env = append(p.Env, kv)
		}
	}
	script := []string{"sh", "-ec", `cairn info; exec cairn build --progress plain --metadata-file /out/metadata.json --push "$@" /src`, "-", "-t", i.ref}
	var log bytes.Buffer
	status, err := p.Run(t.Context(), &log, &log, append(append(script, bases.ProxyArgs()...), i.args...)...)
	if err != nil || status != 0 {
		t.Fatalf("status %d, %v\n%s", status, err, &log)
	}
	if !regexp.MustCompile(`(?m)^Isolation: +` + s.mode + `$`).Match(log.Bytes()) {
		t.Errorf("the isolation mode is not %s:\n%s", s.mode, &log)
	}
	var m metadata
	text, err := os.ReadFile(filepath.Join(out, "metadata.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	i.digest, i.config = m.Digest, m.Config
}

// gvisor builds the program cairn-gvisor once.
func (l *lab) gvisor(t *testing.T) string {
	t.Helper()
	path := filepath.Join(l.dir, "cairn-gvisor")
	l.making.Lock()
	defer l.making.Unlock()
	if !l.made[path] {
		must(t, command("go", "build", "-C", "../cmd/cairn-gvisor", "-o", path, "."))
		l.made[path] = true
	}
	return path
}
