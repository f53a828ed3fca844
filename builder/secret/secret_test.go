package secret

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		text string
		want Source
		err  string
	}{
		{text: "id=a", want: Source{ID: "a"}},
		{text: "id=a,src=f", want: Source{ID: "a", File: "f"}},
		{text: "ID=a,source=f", want: Source{ID: "a", File: "f"}},
		{text: "id=a,env=E", want: Source{ID: "a", Env: "E"}},
		{text: "type=env,id=a,src=E", want: Source{ID: "a", Env: "E"}},
		{text: "type=env,id=a", want: Source{ID: "a"}},
		{text: "type=file,id=a,src=f=g", want: Source{ID: "a", File: "f=g"}},
		{text: `id=a,"src=f,g"`, want: Source{ID: "a", File: "f,g"}},
		{text: "src=f", err: "id is missing"},
		{text: "a", err: `"a" is no attribute`},
		{text: "id=a,type=vault", err: `type "vault" is not supported`},
		{text: "id=a,mode=1", err: `attribute "mode" is not supported`},
		{text: `id="a`, err: "quote"},
	} {
		got, err := Parse(test.text)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("Parse(%q): error %v, want %q", test.text, err, test.err)
			}
			continue
		}
		if err != nil || got != test.want {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", test.text, got, err, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("id=a,src=f")
	f.Add(`"id=a",type=env`)
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := Parse(text); err == nil && s.ID == "" {
			t.Errorf("Parse(%q) gave no id", text)
		}
	})
}

func TestSet(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{"file": "of a file", "both": "not this", "large": strings.Repeat("x", MaxSize+1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{"VAR": "of a variable", "both": "of the environment", "huge": strings.Repeat("x", MaxSize+1)}
	lookup := func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
	s, err := NewSet([]Source{
		{ID: "a", File: "file"}, {ID: "b", Env: "VAR"}, {ID: "file"}, {ID: "both"}, {ID: "unset", Env: "UNSET"},
		{ID: "twice", File: "file"}, {ID: "twice", Env: "VAR"}, {ID: "huge"},
	}, lookup)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		"a": "of a file", "b": "of a variable", "file": "of a file", "both": "of the environment", "unset": "", "twice": "of a variable",
	} {
		if got, ok, err := s.Get(id); string(got) != want || !ok || err != nil {
			t.Errorf("Get(%q) = %q, %v, %v, want %q", id, got, ok, err, want)
		}
	}
	if _, ok, err := s.Get("none"); ok || err != nil {
		t.Errorf("an unknown secret: %v, %v", ok, err)
	}
	if _, _, err := s.Get("huge"); err == nil {
		t.Error("a variable that is too large was accepted")
	}
	if _, ok, err := (*Set)(nil).Get("a"); ok || err != nil {
		t.Errorf("of no set: %v, %v", ok, err)
	}
	for _, src := range []Source{{}, {ID: "missing"}, {ID: "a", File: "missing"}, {ID: "a", File: dir}, {ID: "large"}} {
		if _, err := NewSet([]Source{src}, lookup); err == nil {
			t.Errorf("%+v was accepted", src)
		}
	}
}

func TestValueIsReadOnce(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := NewSet([]Source{{ID: "a", File: name}}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, _, err := s.Get("a"); string(got) != "first" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		if err := os.WriteFile(name, []byte("second"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
