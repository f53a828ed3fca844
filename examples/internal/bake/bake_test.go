// Package bake_test compares cairn bake with docker buildx bake.
//
// The archives in testdata have the files and arguments of each case, and the output of
// buildx. With -update, the test compiles buildx and rewrites the outputs; with
// -generate N it also makes N new cases in generated.txtar.
package bake_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/cairn-build/cairn/cmd/cairn/command"
	"github.com/cairn-build/cairn/examples/internal/peers"
)

var (
	update   = flag.Bool("update", false, "rewrite the output of each case with that of buildx")
	generate = flag.Int("generate", 0, "with -update, the number of new cases")
)

// example is a definition with arguments and the expected result.
type example struct {
	name  string
	dir   string // working directory; "": one with the files
	files []txtar.File
	args  []string
	env   []string
	want  string // JSON of --print, or failure
}

// failure is the result of a definition that is refused.
const failure = "refused"

func TestLikeBuildx(t *testing.T) {
	if *update {
		rewrite(t)
	}
	total := 0
	for _, name := range []string{"written", "generated"} {
		examples := readExamples(t, name)
		total += len(examples)
		for _, e := range examples {
			t.Run(name+"/"+e.name, func(t *testing.T) {
				got, message := runCairn(t, e)
				if diff := cmp.Diff(parse(t, e.want), parse(t, got)); diff != "" {
					t.Errorf("%s: (-buildx +cairn)\n%s\n%s\n%s", strings.Join(e.args, " "), diff, message, show(e.files))
				}
			})
		}
	}
	if total < 300 {
		t.Errorf("%d cases only", total)
	}
}

func show(files []txtar.File) string { return string(txtar.Format(&txtar.Archive{Files: files})) }

// readExamples reads an archive. The files of a case have its name as their directory;
// args, env and want are its other parts.
func readExamples(t *testing.T, name string) (list []*example) {
	archive, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.Files {
		dir, file, _ := strings.Cut(f.Name, "/")
		if len(list) == 0 || list[len(list)-1].name != dir {
			list = append(list, &example{name: dir})
		}
		e := list[len(list)-1]
		switch text := strings.TrimSuffix(string(f.Data), "\n"); file {
		case "args":
			e.args = lines(text)
		case "env":
			e.env = lines(text)
		case "want":
			e.want = text
		default:
			e.files = append(e.files, txtar.File{Name: file, Data: f.Data})
		}
	}
	return list
}

func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}

func writeExamples(t *testing.T, name string, list []*example) {
	archive := &txtar.Archive{}
	for _, e := range list {
		add := func(name, text string) {
			if text != "" {
				archive.Files = append(archive.Files, txtar.File{Name: e.name + "/" + name, Data: []byte(strings.TrimSuffix(text, "\n") + "\n")})
			}
		}
		for _, f := range e.files {
			add(f.Name, string(f.Data))
		}
		add("args", strings.Join(e.args, "\n"))
		add("env", strings.Join(e.env, "\n"))
		add("want", e.want)
	}
	if err := os.WriteFile(filepath.Join("testdata", name+".txtar"), txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

func runCairn(t *testing.T, e *example) (result, message string) {
	dir := e.dir
	if dir == "" {
		dir = unpack(t, e)
	}
	t.Chdir(dir)
	for _, v := range e.env {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	var stdout, stderr bytes.Buffer
	p := &command.Program{Stdout: &stdout, Stderr: &stderr, Interruptible: func(ctx context.Context) (context.Context, func()) { return ctx, func() {} }}
	if _, err := p.Execute(append([]string{"bake", "--print"}, e.args...)); err != nil {
		return failure, err.Error()
	}
	return stdout.String(), stderr.String()
}

func unpack(t *testing.T, e *example) string {
	dir := t.TempDir()
	for _, f := range e.files {
		path := filepath.Join(dir, f.Name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, f.Data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// parse parses a result, with the members of groups sorted, since the order of those of
// a matrix changes from run to run in buildx.
func parse(t *testing.T, text string) any {
	if text == failure {
		return text
	}
	var v struct {
		Group map[string]struct {
			Description string
			Targets     []string
		}
		Target map[string]any
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, g := range v.Group {
		slices.Sort(g.Targets)
	}
	return v
}

// rewrite runs buildx on all cases and makes new ones.
func rewrite(t *testing.T) {
	buildx, err := peers.Buildx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	written := readExamples(t, "written")
	for _, e := range written {
		if e.want = runBuildx(t, buildx, e); e.want != runBuildx(t, buildx, e) {
			t.Errorf("%s: the output of buildx changes from run to run", e.name)
		}
	}
	writeExamples(t, "written", written)
	generated := readExamples(t, "generated")
	if *generate > 0 {
		generated = nil
	}
	for seed := uint64(1); len(generated) < *generate; seed++ {
		e := newExample(seed)
		e.want = runBuildx(t, buildx, e)
		again := []string{runBuildx(t, buildx, e), runBuildx(t, buildx, e)}
		if again[0] == e.want && again[1] == e.want {
			generated = append(generated, e)
		}
	}
	if *generate == 0 {
		for _, e := range generated {
			e.want = runBuildx(t, buildx, e)
		}
	}
	writeExamples(t, "generated", generated)
}

func runBuildx(t *testing.T, program string, e *example) string {
	cmd := exec.CommandContext(t.Context(), program, append([]string{"bake", "--print"}, e.args...)...)
	cmd.Dir = unpack(t, e)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, e.env...)
	out, err := cmd.Output()
	if err != nil {
		return failure
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, sortGroups(t, out)); err != nil {
		t.Fatal(err)
	}
	return compact.String()
}

// sortGroups sorts the members of the groups.
func sortGroups(t *testing.T, text []byte) []byte {
	var v struct {
		Group  map[string]map[string]any `json:"group,omitempty"`
		Target json.RawMessage           `json:"target"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	for name := range maps.Keys(v.Group) {
		if members, ok := v.Group[name]["targets"].([]any); ok {
			slices.SortFunc(members, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
		}
	}
	sorted, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return sorted
}
