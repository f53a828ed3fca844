package generate

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite the golden files of the samples")

const golden = "want/"

// Each archive in testdata is a project. Its first line has the options, and the files
// in want the expected result.
func TestSamples(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 40 {
		t.Errorf("found %d samples only", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			sample(t, file)
		})
	}
}

func sample(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	want := map[string]string{}
	var sources []txtar.File
	for _, f := range archive.Files {
		if name, ok := strings.CutPrefix(f.Name, golden); ok {
			want[name] = string(f.Data)
			continue
		}
		sources = append(sources, f)
		write(t, filepath.Join(dir, f.Name), string(f.Data))
	}
	o, fails := options(t, string(archive.Comment))
	got, err := outcome(t, dir, o)
	if (err != nil) != fails {
		t.Fatalf("error %v, want one: %v", err, fails)
	}
	if *update {
		archive.Files = sources
		for _, name := range []string{"decisions", "Dockerfile", ".dockerignore", "compose.yaml"} {
			if text, ok := got[name]; ok {
				archive.Files = append(archive.Files, txtar.File{Name: golden + name, Data: []byte(text)})
			}
		}
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for name, text := range got {
		if d := Diff("want", "got", want[name], text); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("there is no %s", name)
	}
}

// options reads the first line of a sample: "app=web health".
func options(t *testing.T, comment string) (o Options, fails bool) {
	line, _, _ := strings.Cut(comment, "\n")
	for _, word := range strings.Fields(strings.TrimPrefix(line, "#")) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "app":
			o.App = value
		case "fails":
			fails = true
		case "lang":
			o.Language = value
		case "health":
			o.Health = true
		case "port":
			o.Port, _ = strconv.Atoi(value)
		default:
			t.Fatalf("unknown option %q", word)
		}
	}
	return o, fails
}

// outcome returns the files that are written for a project. The Dockerfile passes the
// linter.
func outcome(t *testing.T, dir string, o Options) (map[string]string, error) {
	r, err := Generate(dir, o)
	if err != nil {
		return map[string]string{"decisions": "error: " + strings.ReplaceAll(err.Error(), dir, "DIR") + "\n"}, err
	}
	warnings, err := Check(t.Context(), dir, r.Dockerfile, r.Ignore)
	if err != nil {
		t.Errorf("the Dockerfile is invalid: %v\n%s", err, r.Dockerfile)
	}
	for _, w := range warnings {
		t.Errorf("the linter warns: %s: %s\n%s", w.Rule, w.Detail, r.Dockerfile)
	}
	var b strings.Builder
	for _, f := range r.Project.Findings {
		fmt.Fprintf(&b, "%s <- %s\n", f.Text, f.From)
	}
	for _, w := range r.Project.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	files := map[string]string{"decisions": b.String(), "Dockerfile": r.Dockerfile, ".dockerignore": r.Ignore}
	if len(r.Project.Services) > 0 {
		files["compose.yaml"] = r.Compose
	}
	return files, nil
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := writeFile(path, text); err != nil {
		t.Fatal(err)
	}
}

func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
