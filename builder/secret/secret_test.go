package secret

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
	if list := s.Unset(); len(list) != 1 || list[0].ID != "unset" {
		t.Errorf("unset: %v", list)
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
