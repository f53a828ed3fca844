package examples_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// manifest holds the fields of a Pod or Job that these tests check.
type manifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Spec       struct {
		podSpec  `yaml:",inline"`
		Template struct{ Spec podSpec }
	}
}

type podSpec struct {
	HostUsers  *bool `yaml:"hostUsers"`
	Containers []struct {
		Image           string
		Args            []string
		SecurityContext map[string]any `yaml:"securityContext"`
		VolumeMounts    []struct {
			Name, MountPath string
		} `yaml:"volumeMounts"`
	}
	Volumes []struct{ Name string }
}

func documents(t *testing.T, file string, v func() any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		switch err := d.Decode(v()); {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			t.Fatalf("%s: %v", file, err)
		}
	}
}

// only returns a security context that drops all capabilities except names.
func only(names ...any) map[string]any {
	return map[string]any{"drop": []any{"ALL"}, "add": names}
}

// profiles maps each manifest to the exact privileges that it may request.
var profiles = map[string]map[string]any{
	"userns": {"capabilities": only("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN", "SYS_CHROOT")},
	"unconfined": {
		"seccompProfile": map[string]any{"type": "Unconfined"},
		"capabilities":   only("SETFCAP", "SETGID", "SETUID"),
	},
	"baseline": {
		"seccompProfile": map[string]any{"type": "RuntimeDefault"},
		"capabilities":   only("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
	},
	"restricted": {
		"runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "allowPrivilegeEscalation": false,
		"capabilities": map[string]any{"drop": []any{"ALL"}}, "seccompProfile": map[string]any{"type": "RuntimeDefault"},
	},
}

// TestKubernetes checks that the manifests are valid YAML, request exactly the
// privileges that their isolation mode needs, and call cairn with valid arguments.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	flags := flagsOf(t, "build")
	files, err := filepath.Glob("kubernetes/*.yaml")
	if err != nil || len(files) != len(profiles) {
		t.Fatalf("manifests: %v, %v; want one of each of %d profiles", files, err, len(profiles))
	}
	for _, file := range files {
		profile := strings.TrimSuffix(filepath.Base(file), ".yaml")
		var kinds []string
		var all []*manifest
		documents(t, file, func() any {
			all = append(all, &manifest{})
			return all[len(all)-1]
		})
		for _, m := range all[:len(all)-1] { // the last document ended with io.EOF
			kinds = append(kinds, m.APIVersion+" "+m.Kind)
			pod := m.Spec.podSpec
			if m.Kind == "Job" {
				pod = m.Spec.Template.Spec
			}
			if m.Metadata.Name != "cairn-"+profile || len(pod.Containers) != 1 {
				t.Fatalf("%s: %+v", file, m)
			}
			c := pod.Containers[0]
			if d := cmp.Diff(profiles[profile], c.SecurityContext); d != "" {
				t.Errorf("%s, %s: the securityContext (-want +got):\n%s", file, m.Kind, d)
			}
			if own := pod.HostUsers != nil && !*pod.HostUsers; own != (profile == "userns") {
				t.Errorf("%s, %s: hostUsers %v", file, m.Kind, pod.HostUsers)
			}
			flags.check(t, file, strings.Join(c.Args, " "))
			for i, v := range c.VolumeMounts {
				if v.Name != pod.Volumes[i].Name {
					t.Errorf("%s, %s: %s is mounted, the volume is %s", file, m.Kind, v.Name, pod.Volumes[i].Name)
				}
			}
		}
		if d := cmp.Diff([]string{"v1 Pod", "batch/v1 Job"}, kinds); d != "" {
			t.Errorf("%s (-want +got):\n%s", file, d)
		}
	}
}

// TestCI checks that the CI configurations are valid YAML and call cairn with valid
// arguments.
func TestCI(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("ci/*")
	files = slices.DeleteFunc(files, func(f string) bool { return filepath.Base(f) == "README.md" })
	if err != nil || len(files) != 5 {
		t.Fatalf("configurations: %v, %v", files, err)
	}
	call := regexp.MustCompile(`cairn (bake|build|login|logout|info)\b[^|\n]*(\\\n[^\n]*)*`)
	for _, file := range files {
		if filepath.Ext(file) == ".yaml" {
			documents(t, file, func() any { return &map[string]any{} })
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range call.FindAllStringSubmatch(string(text), -1) {
			flagsOf(t, line[1]).check(t, file, line[0])
		}
		keepsCache := strings.Contains(string(text), "--cache-repo") || strings.Contains(string(text), "*.cache-to=")
		if !keepsCache || !strings.Contains(string(text), "--push") {
			t.Errorf("%s does not push, or keeps no cache", file)
		}
	}
}

// flags is the set of flags of a cairn command.
type flags map[string]bool

var flagPattern = regexp.MustCompile(`--[a-z][a-z-]*`)

func flagsOf(t *testing.T, name string) flags {
	t.Helper()
	cmd := command("go", "run", "../cmd/cairn", name, "--help")
	all := flags{}
	for _, f := range flagPattern.FindAllString(must(t, cmd), -1) {
		all[f] = true
	}
	return all
}

func (f flags) check(t *testing.T, file, line string) {
	t.Helper()
	for _, name := range flagPattern.FindAllString(line, -1) {
		if !f[name] {
			t.Errorf("%s: there is no flag %s: %s", file, name, line)
		}
	}
}
