package hcl_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/bake/hcl"
)

func unset(string) (string, bool) { return "", false }

func load(files ...bake.File) (*bake.Definition, error) {
	return bake.Load(files, []bake.Language{hcl.Language{}}, bake.ReadOptions{Lookup: unset})
}

// messages returns the lines of an error.
func messages(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

func TestProblems(t *testing.T) {
	for name, test := range map[string]struct {
		files []bake.File
		want  []string
	}{
		"syntax of two files": {
			[]bake.File{{Name: "a.hcl", Data: []byte("target \"a\" {\n  = 1\n}\n")}, {Name: "b.json", Data: []byte("{\n  \"target\": }\n")}},
			[]string{"a.hcl:2,3: ", "b.json:2,13: "},
		},
		"values of two targets": {
			[]bake.File{{Name: "a.hcl", Data: []byte("target \"a\" {\n  tags = 1\n  pull = \"x\"\n}\ntarget \"b\" {\n  args = \"x\"\n}\n")}},
			[]string{`a.hcl:2,10: target "a": unsuitable value type`, `a.hcl:3,11: target "a": unsuitable value type`, `a.hcl:6,11: target "b": unsuitable value type`},
		},
		"validations": {
			[]bake.File{{Name: "a.hcl", Data: []byte("variable \"V\" {\n  validation {\n    condition = V != \"\"\n    error_message = \"V is empty.\"\n  }\n}\n")}},
			[]string{"a.hcl:3,17: validation failed: V is empty"},
		},
		"all kinds of blocks": {
			[]bake.File{{Name: "a.hcl", Data: []byte(`variable "V" { default = upper(1, 2) }
variable "W" {
  type    = number
  default = "x"
}
function "f" {
  params = ["a"]
  result = a
}
target "a" {
  args = { V = V, F = f(1) }
}
target "b" {
  name = "b"
}
target "c" {
  tags = target.d.tags
}
target "d" {
  tags = target.c.tags
}
target "e" {
  pull = "x"
}
`)}},
			[]string{
				"a.hcl:1,35: too many function arguments", "a.hcl:2,14: invalid value: ", "a.hcl:7,13: invalid param element",
				`a.hcl:14,3: target "b": name requires matrix`, `a.hcl:17,10: target "c": `, `a.hcl:20,10: target "d": `, `a.hcl:23,11: target "e": `,
			},
		},
		"brackets": {
			[]bake.File{{Name: "a.hcl", Data: []byte("A = " + strings.Repeat("[", 100000))}},
			[]string{"a.hcl:1,1005: brackets are nested deeper than 1000 levels"},
		},
		"group with matrix": {
			[]bake.File{{Name: "a.hcl", Data: []byte("group \"g\" {\n  matrix = {}\n  targets = []\n}\n")}},
			[]string{"a.hcl:2,3: matrix is not supported for groups"},
		},
		"null message": {
			[]bake.File{{Name: "a.hcl", Data: []byte("variable \"V\" {\n  validation {\n    condition = V != \"\"\n    error_message = 1\n  }\n}\n")}},
			[]string{"evaluate the definition: "},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(test.files...)
			got := messages(err)
			if len(got) != len(test.want) {
				t.Fatalf("got %q, want %q", got, test.want)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("got %q, want the prefix %q", got[i], want)
				}
			}
		})
	}
}

// Problems of selected targets have the place of the attribute, also of a parent's.
func TestProblemsOfTargets(t *testing.T) {
	d, err := load(bake.File{Name: "a.hcl", Data: []byte(`target "p" {
  platforms = ["a/b/c/d"]
}
target "a" {
  inherits = ["p"]
  shm-size = "x"
}
target "b" {
  contexts = { c = "target:none" }
}
`)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Select(bake.SelectOptions{Names: []string{"a", "b"}, Lookup: unset})
	var got []string
	var problems bake.Problems
	if errors.As(err, &problems) {
		for _, p := range problems {
			got = append(got, p.Position.String()+" "+p.Target)
		}
	}
	if diff := cmp.Diff([]string{"a.hcl:9,3 b", "a.hcl:2,3 a", "a.hcl:6,3 a"}, got); diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestWarnings(t *testing.T) {
	d, err := load(bake.File{Name: "a.hcl", Data: []byte("target \"a\" {\n  tag = []\n  extra {}\n}\ngrup \"x\" {}\nvariable \"V\" {\n  kind = string\n}\n")})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range d.Warnings {
		got = append(got, w.Error())
	}
	want := []string{
		`a.hcl:2,3: target "a": unknown attribute "tag" is ignored (did you mean "tags"?)`,
		`a.hcl:3,3: target "a": unknown block "extra" is ignored`,
		`a.hcl:5,1: unknown block "grup" is ignored (did you mean "group"?)`,
		`a.hcl:7,3: unknown attribute "kind" is ignored`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzRead checks that no definition makes the program panic, and that each selection has
// a JSON form.
func FuzzRead(f *testing.F) {
	f.Add([]byte("target \"default\" {\n  name = \"a-${x}\"\n  matrix = { x = [1] }\n  output = [null, \"a\", { type = \"b\" }]\n}\n"), false)
	f.Add([]byte(`{"target": {"default": {"args": {"A": "${upper(V)}"}, "secret": [{"id": "x"}]}}, "variable": {"V": {"default": null}}}`), true)
	f.Add([]byte("variable \"V\" {\n  type = list(string)\n  validation {\n    condition = null\n  }\n}\nfunction \"f\" {\n  params = [a]\n  result = a\n}\n"), false)
	f.Add([]byte("target \"a\" { inherits = [\"a\"] }\ngroup \"default\" { targets = [\"a\", target.a.name] }\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, isJSON bool) {
		for _, slow := range []string{"bcrypt", "range", "setproduct", "pow", "parseint", "1e"} {
			if strings.Contains(string(data), slow) {
				t.Skip("functions that may use much time or memory by their definition")
			}
		}
		name := "a.hcl"
		if isJSON {
			name = "a.json"
		}
		d, err := load(bake.File{Name: name, Data: data})
		if err != nil {
			return
		}
		s, err := d.Select(bake.SelectOptions{Lookup: unset})
		if err != nil {
			return
		}
		for name, target := range s.Targets {
			if _, err := target.MarshalJSON(); err != nil {
				t.Errorf("target %s: %v", name, err)
			}
		}
	})
}
