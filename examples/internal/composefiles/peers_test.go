// Package composefiles compares how Cairn, docker compose and buildx read Compose files.
//
// The projects are generated. The results of docker compose and buildx are in testdata,
// so the tests need neither. go test -update compiles both and writes their results.
package composefiles

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/cairn-build/cairn/examples/internal/peers"
)

var update = flag.Bool("update", false, "write the results of docker compose and buildx")

// projects is the number of generated projects.
const projects = 160

// result is the output of a program. Failed results have none: messages may differ.
type result struct {
	Failed bool `json:"failed,omitempty"`
	Output any  `json:"output,omitempty"`
}

// run runs a program in a project's directory and returns its output, JSON or YAML, in which the
// directory is /project.
func run(t *testing.T, p project, dir, home string, argv ...string) (result, string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "DOCKER_BUILDKIT=1", "CAIRN_ROOT=" + filepath.Join(home, "store")}, p.env...)
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return result{Failed: true}, messages.String()
	}
	if err != nil {
		t.Fatal(err)
	}
	r := result{Output: decode(t, bytes.ReplaceAll(out.Bytes(), []byte(dir), []byte("/project")))}
	return r, messages.String()
}

// decode returns the values of YAML or JSON, with the types of JSON.
func decode(t *testing.T, text []byte) (v any) {
	t.Helper()
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	v = nil
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// write writes the files of a project into a new directory.
func write(t *testing.T, p project) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "Pro.ject")
	for name, text := range p.files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// cairn compiles Cairn and returns its path.
func cairn(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "cairn")
	if out, err := exec.Command("go", "build", "-o", program, "../../../cmd/cairn").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// files returns the flags that name the project's files.
func (p project) flags() (list []string) {
	for _, f := range p.order {
		list = append(list, "-f", f)
	}
	return list
}

// compare runs Cairn in all projects and compares it with the results of another
// program in a file of testdata. normal removes intended differences from both.
func compare(t *testing.T, file string, ours func(project) []string, theirs func(context.Context, *testing.T, project, string) result, normal func(any) any) {
	file = filepath.Join("testdata", file)
	want := map[string]result{}
	if !*update {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
	}
	program, home, failed := cairn(t), t.TempDir(), 0
	for seed := range uint64(projects) {
		p := generate(seed)
		dir := write(t, p)
		if *update {
			want[p.name] = theirs(t.Context(), t, p, dir)
		}
		if _, ok := want[p.name]; !ok {
			t.Fatalf("%s: no result of the other program: run go test -update", p.name)
		}
		got, messages := run(t, p, dir, home, append([]string{program}, ours(p)...)...)
		if got.Failed {
			failed++
			t.Logf("%s: %s", p.name, messages)
		}
		if d := cmp.Diff(normal(want[p.name].Output), normal(got.Output)); d != "" || got.Failed != want[p.name].Failed {
			t.Errorf("%s: failed %v, want %v: %s\n%s\n%s", p.name, got.Failed, want[p.name].Failed, messages, d, show(p))
		}
	}
	t.Logf("%d projects, %d of them wrong", projects, failed)
	if failed > projects/4 {
		t.Errorf("%d of %d projects are wrong: the generator shows too little", failed, projects)
	}
	if *update {
		var text bytes.Buffer
		text.WriteString("{")
		for i, name := range slices.Sorted(maps.Keys(want)) { // a line for each project
			line, err := json.Marshal(want[name])
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				text.WriteByte(',')
			}
			fmt.Fprintf(&text, "\n%q:%s", name, line)
		}
		text.WriteString("\n}\n")
		if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func show(p project) string {
	var b strings.Builder
	for _, f := range p.order {
		b.WriteString("--- " + f + "\n" + p.files[f])
	}
	return b.String() + "env " + strings.Join(p.env, " ")
}

// program returns the path of a peer, which is only compiled for -update.
func program(ctx context.Context, t *testing.T, compile func(context.Context) (string, error)) string {
	t.Helper()
	path, err := compile(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// The canonical form of a project is docker compose's.
func TestConfig(t *testing.T) {
	home := t.TempDir()
	compare(t, "config.json",
		func(p project) []string {
			return slices.Concat([]string{"compose"}, p.flags(), []string{"config"})
		},
		func(ctx context.Context, t *testing.T, p project, dir string) result {
			argv := slices.Concat([]string{program(ctx, t, peers.DockerCompose)}, p.flags(), []string{"config"})
			r, _ := run(t, p, dir, home, argv...)
			return r
		},
		uniqueLists)
}

// The targets of docker compose build are those that it prints for buildx.
func TestBuild(t *testing.T) {
	home := t.TempDir()
	compare(t, "build.json",
		func(p project) []string {
			return slices.Concat([]string{"compose"}, p.flags(), []string{"build", "--print"}, p.args)
		},
		func(ctx context.Context, t *testing.T, p project, dir string) result {
			buildx := program(ctx, t, peers.Buildx)
			plugins := filepath.Join(home, ".docker", "cli-plugins")
			if err := os.MkdirAll(plugins, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(buildx, filepath.Join(plugins, "docker-buildx")); err != nil && !errors.Is(err, os.ErrExist) {
				t.Fatal(err)
			}
			r, _ := run(t, p, dir, home, slices.Concat([]string{program(ctx, t, peers.DockerCompose)}, p.flags(), []string{"build", "--print"}, p.args)...)
			if r.Failed {
				return r
			}
			text, err := json.Marshal(r.Output)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "printed.json"), bytes.ReplaceAll(text, []byte("/project"), []byte(dir)), 0o644); err != nil {
				t.Fatal(err)
			}
			r, messages := run(t, p, dir, home, buildx, "bake", "--print", "-f", "printed.json")
			if r.Failed {
				t.Logf("%s: buildx: %s", p.name, messages)
			}
			return r
		},
		normalBuild)
}

// normalBuild removes what only docker compose's targets have: its version, and its
// engine as the destination.
func normalBuild(v any) any {
	v = sortedLists(uniqueLists(v))
	m, _ := v.(map[string]any)
	targets, _ := m["target"].(map[string]any)
	for _, t := range targets {
		t := t.(map[string]any)
		if labels, ok := t["labels"].(map[string]any); ok {
			delete(labels, "com.docker.compose.version")
		}
		delete(t, "output")
		delete(t, "attest") // ComposeVersion leaves out disabled ones
	}
	return v
}

// The targets of buildx bake are the same.
func TestBake(t *testing.T) {
	home := t.TempDir()
	compare(t, "bake.json",
		func(p project) []string { return slices.Concat([]string{"bake", "--print"}, p.flags()) },
		func(ctx context.Context, t *testing.T, p project, dir string) result {
			r, _ := run(t, p, dir, home, slices.Concat([]string{program(ctx, t, peers.Buildx), "bake", "--print"}, p.flags())...)
			return r
		},
		sortedLists)
}

// uniqueLists removes repeated entries from all lists, which only newer versions of
// compose-go do when they merge files. It sorts agents, whose order is random.
func uniqueLists(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = uniqueLists(e)
			if list, ok := v[k].([]any); ok && k == "ssh" {
				slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			}
		}
	case []any:
		unique := []any{}
		for _, e := range v {
			if !slices.ContainsFunc(unique, func(u any) bool { return cmp.Equal(u, e) }) {
				unique = append(unique, uniqueLists(e))
			}
		}
		return unique
	}
	return v
}

// sortedLists sorts the lists whose order buildx does not fix.
func sortedLists(v any) any {
	m, _ := v.(map[string]any)
	for _, kind := range []string{"group", "target"} {
		entries, _ := m[kind].(map[string]any)
		for _, e := range entries {
			for _, key := range []string{"targets", "ulimits"} {
				if list, ok := e.(map[string]any)[key].([]any); ok {
					slices.SortFunc(list, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
				}
			}
		}
	}
	return v
}
