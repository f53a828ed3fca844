package compose

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/bake"
)

// inDir writes files into a new directory, which becomes the working directory.
func inDir(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestProblems(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  []string // lines of the error
	}{
		"unknown keys of several services": {
			map[string]string{"compose.yaml": "services:\n  a:\n    build: {contxt: .}\n  b:\n    build:\n      dockerfile: x\n      targt: y\n"},
			[]string{
				`compose.yaml:3,13: services.a.build additional properties 'contxt' not allowed (did you mean context?)`,
				`compose.yaml:7,7: services.b.build additional properties 'targt' not allowed (did you mean target?)`,
			},
		},
		"merged mapping": {
			map[string]string{"compose.yaml": "x-b: &b\n  bogus: 1\nservices:\n  a:\n    build:\n      <<: *b\n      context: .\n"},
			[]string{`compose.yaml:2,3: services.a.build additional properties 'bogus' not allowed`},
		},
		"types": {
			map[string]string{"compose.yaml": "services:\n  a.b:\n    build:\n      platforms: linux/amd64\n      ulimits: 3\n"},
			[]string{
				`compose.yaml:4,7: services.a.b.build.platforms must be a array`,
				`compose.yaml:5,7: services.a.b.build.ulimits must be a mapping`,
			},
		},
		"override file": {
			map[string]string{"compose.yaml": "services:\n  a:\n    build: .\n", "compose.override.yml": "services:\n  a:\n    imag: x\n"},
			[]string{`compose.override.yml:3,5: services.a additional properties 'imag' not allowed (did you mean image?)`},
		},
		"extended file": {
			map[string]string{"compose.yaml": "services:\n  a:\n    extends: {service: b, file: sub/base.yaml}\n", "sub/base.yaml": "services:\n  b:\n    build: {arg: 1}\n"},
			[]string{`sub/base.yaml:3,13: services.a.build additional properties 'arg' not allowed (did you mean args?)`},
		},
		"cast": {
			map[string]string{"compose.yaml": "services:\n  a:\n    build:\n      no_cache: \"${X:-maybe}\"\n"},
			[]string{`compose.yaml:4,7: 'services[a].build.no_cache' invalid boolean: maybe`},
		},
		"no image and no build": {
			map[string]string{"compose.yaml": "services:\n  a: {}\n"},
			[]string{`compose.yaml:2,3: service "a" has neither an image nor a build context specified: invalid compose project`},
		},
		"duplicate key": {
			map[string]string{"compose.yaml": "services:\n  a:\n    image: x\n    image: y\n"},
			[]string{`compose.yaml:4: mapping key "image" already defined at line 3`},
		},
		"empty": {map[string]string{"compose.yaml": ""}, []string{`compose.yaml: empty compose file`}},
		"list":  {map[string]string{"compose.yaml": "- a\n"}, []string{`compose.yaml: top-level object must be a mapping`}},
	} {
		t.Run(name, func(t *testing.T) {
			inDir(t, test.files)
			_, err := Load(context.Background(), Options{})
			if err == nil {
				t.Fatal("no error")
			}
			if got, want := err.Error(), strings.Join(test.want, "\n"); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// A file that includes itself, and merges that contain each other, end.
func TestRings(t *testing.T) {
	for name, text := range map[string]string{
		"include": "include: [compose.yaml]\nservices:\n  a:\n    bogus: x\n",
		"extends": "services:\n  a:\n    extends: {service: a, file: compose.yaml}\n",
		"merge":   "services: &s\n  a:\n    <<: *s\n    bogus: 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			inDir(t, map[string]string{"compose.yaml": text})
			if _, err := Load(context.Background(), Options{}); err == nil {
				t.Error("no error")
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	for _, text := range []string{
		"services:\n  web:\n    build: {context: ., args: [A=1, B], ssh: [default]}\n",
		"x-a: &a {restart: always}\nservices:\n  w: {<<: *a, image: \"${X:-y}\"}\n  v: {extends: w, build: !reset null}\n",
		"services:\n  a:\n    build: {dockerfil: x, ulimits: {nofile: 3}}\n    prots: 1\nvolums: [3]\n",
		"name: p\nservices: {a: {build: {additional_contexts: {b: service:b}}}, b: {build: .}}\n---\nservices: {c: {image: x}}\n",
		"services: &s\n  a:\n    <<: *s\n",
	} {
		f.Add(text)
	}
	f.Setenv("HOME", f.TempDir())
	// Failing inputs are written below the working directory.
	name := filepath.Join(f.TempDir(), "compose.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "file") || strings.Contains(text, "include") {
			t.Skip("a file that names others reads this machine's")
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		project, err := Load(context.Background(), Options{Files: []string{name}})
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Error("an error without a text")
			}
			return
		}
		if _, err := project.Marshal(false); err != nil {
			t.Error(err)
		}
	})
}

func FuzzRead(f *testing.F) {
	for _, text := range []string{
		"services:\n  web.x:\n    image: i\n    build: {context: ., x-bake: {tags: a b, ssh: [k=p], contexts: {c: target:d}}}\n",
		"secrets: {s: {environment: E}}\nservices: {a: {build: {secrets: [s], ulimits: {nofile: 3}, cache_from: [\"type=x\"]}}}\n",
		"services: {a: {bogus: 1, build: {bogus: 2, x-bake: [1]}}, b: null}\n",
	} {
		f.Add(text)
	}
	o := bake.ReadOptions{Lookup: func(string) (string, bool) { return "", false }}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "file") || strings.Contains(text, "include") {
			t.Skip("a file that names others reads this machine's")
		}
		var d bake.Definition
		err := Language{}.Read(&d, []bake.File{{Name: "compose.yaml", Data: []byte(text)}}, o)
		if err != nil && strings.TrimSpace(err.Error()) == "" {
			t.Error("an error without a text")
		}
		for _, target := range d.Targets {
			if err == nil && d.Group("default") == nil {
				t.Errorf("target %s is in no group", target.Name)
			}
		}
	})
}

// TestNull checks that values on which compose-go panics are errors.
func TestNull(t *testing.T) {
	t.Chdir(t.TempDir())
	o := bake.ReadOptions{Lookup: func(string) (string, bool) { return "", false }}
	for text, want := range map[string]string{
		"services:\n  a:\n    build:\n      context:\n":                  "compose.yaml:4,7: services.a.build.context must be a string",
		"services:\n  a:\n    build: {additional_contexts: {d: null}}\n": "compose.yaml:3,35: services.a.build.additional_contexts.d must be a string",
		"!reset": "compose.yaml: a value is of a kind that has no meaning at its place",
		// It would follow these without end, or for a very long time.
		"services: &s\n  a: {image: x}\n  <<: *s\n":                                                                                           "compose.yaml:3,7: the alias *s is a part of the node that it stands for",
		"x-a: &a {b: [{<<: *a}]}\nservices: {a: {image: x}}\n":                                                                                "compose.yaml:1,19: the alias *a is a part of the node that it stands for",
		"x-a: " + strings.Repeat("{a: ", 9000) + "1" + strings.Repeat("}", 9000):                                                              "more than 100 mappings and sequences are in one another",
		"x-a: &a " + strings.Repeat("[", 60) + strings.Repeat("]", 60) + "\nx-b: " + strings.Repeat("[", 60) + "*a" + strings.Repeat("]", 60): "compose.yaml:2,66: more than 100 mappings and sequences are in one another",
	} {
		if err := os.WriteFile("compose.yaml", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Load(context.Background(), Options{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "compose.yaml: compose.yaml") {
			t.Errorf("Load %q: %v, want %s", text, err, want)
		}
		_, _, err = LoadModel(context.Background(), Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("LoadModel %q: %v, want %s", text, err, want)
		}
		err = Language{}.Read(new(bake.Definition), []bake.File{{Name: "compose.yaml", Data: []byte(text)}}, o)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Read %q: %v, want %s", text, err, want)
		}
	}
}
