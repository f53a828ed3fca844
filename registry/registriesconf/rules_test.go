package registriesconf

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const text = `
unqualified-search-registries = ["docker.io", "quay.io"]
short-name-mode = "enforcing"

[[registry]]
location = "registry.lan:5000"
insecure = true

[[registry]]
prefix = "docker.io/library"
location = "quay.example/hub/library/"
[[registry.mirror]]
location = "mirror.example/proxy"
[[registry.mirror]]
location = "digests.example"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tags.example:5000/x"
insecure = true
pull-from-mirror = "tag-only"

[[registry]]
prefix = "docker.io/library/debian"
blocked = true

[[registry]]
prefix = "*.corp.example"
insecure = true

[[registry]]
prefix = "deep.corp.example"
location = "flat.example"

[[registry]]
location = "pinned.example"
mirror-by-digest-only = true
[[registry.mirror]]
location = "pins.example"

[aliases]
"centos" = "quay.io/centos/centos"
`

const digest = "@sha256:1111111111111111111111111111111111111111111111111111111111111111"

func load(t *testing.T, text string) *Set {
	t.Helper()
	file := filepath.Join(t.TempDir(), "registries.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Load([]string{file, file + ".missing"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPull(t *testing.T) {
	t.Parallel()
	s := load(t, text)
	for ref, want := range map[string][]Place{
		"other.example/a:1":     {{"other.example/a:1", false, false}},
		"registry.lan:5000/a:1": {{"registry.lan:5000/a:1", true, false}},
		"registry.lan/a:1":      {{"registry.lan/a:1", false, false}},
		"registry.lan:50001/a":  {{"registry.lan:50001/a", false, false}},
		"docker.io/library/busybox:1": {
			{"mirror.example/proxy/busybox:1", false, true}, {"tags.example:5000/x/busybox:1", true, true}, {"quay.example/hub/library/busybox:1", false, false},
		},
		"docker.io/library/busybox" + digest: {
			{"mirror.example/proxy/busybox" + digest, false, true}, {"digests.example/busybox" + digest, false, true}, {"quay.example/hub/library/busybox" + digest, false, false},
		},
		"docker.io/library2/x:1":     {{"docker.io/library2/x:1", false, false}},
		"a.corp.example/x:1":         {{"a.corp.example/x:1", true, false}},
		"a.b.corp.example/x:1":       {{"a.b.corp.example/x:1", true, false}},
		"a.corp.example:5000/x:1":    {{"a.corp.example:5000/x:1", false, false}},
		"corp.example/x:1":           {{"corp.example/x:1", false, false}},
		"x.example/a.corp.example/x": {{"x.example/a.corp.example/x", false, false}},
		"deep.corp.example/x:1":      {{"flat.example/x:1", false, false}},
		"pinned.example/x:1":         {{"pinned.example/x:1", false, false}},
		"pinned.example/x" + digest:  {{"pins.example/x" + digest, false, true}, {"pinned.example/x" + digest, false, false}},
	} {
		if got, err := s.Pull(ref); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v, want %v", ref, got, err, want)
		}
	}
	for _, ref := range []string{"docker.io/library/debian:12", "docker.io/library/debian" + digest} {
		if _, err := s.Pull(ref); err == nil || !strings.Contains(err.Error(), ref+" is blocked, by [[registry]] docker.io/library/debian in /") {
			t.Errorf("%s: %v", ref, err)
		}
		if _, err := s.Push(ref); err == nil {
			t.Errorf("push %s: no error", ref)
		}
	}
	if places, err := (*Set)(nil).Pull("a.example/b:1"); err != nil || len(places) != 1 {
		t.Errorf("without rules: %v, %v", places, err)
	}
}

func TestPush(t *testing.T) {
	t.Parallel()
	s := load(t, text)
	for ref, want := range map[string]bool{"registry.lan:5000/a:1": true, "a.corp.example/x:1": true, "deep.corp.example/x:1": false, "docker.io/library/busybox:1": false} {
		if got, err := s.Push(ref); err != nil || got != want {
			t.Errorf("%s: insecure %v, %v", ref, got, err)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[[registry]":                                                                                 "registries.conf: ",
		"[[registry]]\ninsecure = true":                                                               "has neither prefix nor location",
		"[[registry]]\nlocation = \"https://a.example\"":                                              "want a prefix",
		"[[registry]]\nprefix = \"a.example\"\nlocation = \"https://b\"":                              "leave out the scheme",
		"[[registry]]\nprefix = \"a.*.example\"":                                                      "want a prefix",
		"[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\ninsecure = true":                "want a location",
		"[[registry]]\nlocation=\"a.b\"\n[[registry.mirror]]\nlocation=\"c\"\npull-from-mirror=\"x\"": "want all, digest-only or tag-only",
		"[registries.search]\nregistries = [\"docker.io\"]":                                           "version 1, which is not supported",
	} {
		file := filepath.Join(t.TempDir(), "registries.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load([]string{file}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s\n: error %v, want %q", text, err, want)
		}
	}
}

// Later files replace rules of earlier files with the same prefix.
func TestFiles(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	conf := filepath.Join(home, ".config/containers/registries.conf")
	write := func(file, text string) {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if files := Files("", home); files[0] != "/etc/containers/registries.conf" {
		t.Errorf("files %q", files)
	}
	write(conf, "[[registry]]\nlocation = \"one.test\"\ninsecure = true\n[[registry]]\nlocation = \"two.test\"\ninsecure = true\n")
	write(conf+".d/10.conf", "[[registry]]\nprefix = \"one.test\"\nlocation = \"first.test\"\n")
	write(conf+".d/20.conf", "[[registry]]\nprefix = \"one.test\"\nlocation = \"second.test\"\n")
	write(conf+".d/readme", "not read")
	files := Files("", home)
	if files[0] != conf || !slices.Contains(files, conf+".d/20.conf") || slices.Contains(files, conf+".d/readme") {
		t.Fatalf("files %q", files)
	}
	s, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]Place{"one.test/a": {"second.test/a", false, false}, "two.test/a": {"two.test/a", true, false}} {
		if got, err := s.Pull(ref); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s: %v, %v", ref, got, err)
		}
	}
	if files := Files("/else/where.conf", home); files[0] != "/else/where.conf" {
		t.Errorf("files %q", files)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(text, "docker.io/library/busybox:1")
	f.Add("[[registry]]\nprefix=\"*.a\"\nlocation=\"b\"", "x.a/b:c")
	f.Fuzz(func(t *testing.T, text, ref string) {
		s := &Set{rules: map[string]rule{}}
		if s.add("file", text) != nil {
			return
		}
		if short, err := s.Short(ref); err == nil && len(short) > 0 && strings.Contains(ref, ":/") {
			t.Errorf("%q is short for %q", ref, short)
		}
		places, err := s.Pull(ref)
		if err == nil && (len(places) == 0 || places[len(places)-1].Mirror) {
			t.Errorf("%q: places %v", ref, places)
		}
	})
}

const shortText = `
unqualified-search-registries = ["one.example", "two.example/sub/"]
short-name-mode = "permissive"
[aliases]
"centos" = "quay.io/centos/centos"
"team/app" = "registry.example/x"
"gone" = "registry.example/gone"
`

func TestShort(t *testing.T) {
	t.Parallel()
	s := load(t, shortText)
	for name, want := range map[string][]string{
		"centos":               {"quay.io/centos/centos"},
		"centos:7":             {"quay.io/centos/centos:7"},
		"centos:7" + digest:    {"quay.io/centos/centos:7" + digest},
		"team/app@x":           {"registry.example/x@x"},
		"app:1":                {"one.example/app:1", "two.example/sub/app:1"},
		"a/b":                  {"one.example/a/b", "two.example/sub/a/b"},
		"docker.io/centos":     nil,
		"localhost/centos":     nil,
		"registry:5000/centos": nil,
		"":                     nil,
	} {
		if got, err := s.Short(name); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	if got, err := load(t, "").Short("centos"); got != nil || err != nil {
		t.Errorf("of no file: %q, %v", got, err)
	}
	if got, err := (*Set)(nil).Short("centos"); got != nil || err != nil {
		t.Errorf("of no set: %q, %v", got, err)
	}
}

// Several registries to search are an error in enforcing mode, which is the default.
func TestShortIsAmbiguous(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"", `short-name-mode = "enforcing"`} {
		s := load(t, mode+"\nunqualified-search-registries = ['a.example', 'b.example']\n")
		_, err := s.Short("app")
		if err == nil || !strings.Contains(err.Error(), "app is ambiguous: it may refer to a.example/app or b.example/app, by the unqualified-search-registries in ") {
			t.Errorf("%s: %v", mode, err)
		}
	}
	s := load(t, "unqualified-search-registries = ['a.example']")
	if got, err := s.Short("app"); err != nil || !slices.Equal(got, []string{"a.example/app"}) {
		t.Errorf("of one: %q, %v", got, err)
	}
}

// Later files replace the list and the mode, and remove aliases with an empty value.
func TestShortOfSeveralFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var files []string
	for i, text := range []string{shortText, "short-name-mode = 'disabled'\n[aliases]\n'gone' = ''\n'centos' = 'other.example/c'\n", "unqualified-search-registries = []\n"} {
		file := filepath.Join(dir, string(rune('a'+i)))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	s, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{"gone": nil, "centos": {"other.example/c"}, "team/app": {"registry.example/x"}, "x": nil} {
		if got, err := s.Short(name); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestShortErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"short-name-mode = 'x'":           `short-name-mode "x": want enforcing, permissive or disabled`,
		"[aliases]\n'a.b/c' = 'd.e/f'":    "[aliases] a.b/c: want a name without registry and tag",
		"[aliases]\n'c:1' = 'd.e/f'":      "[aliases] c:1: want a name without registry and tag, as in c",
		"[aliases]\n'c' = 'f'":            "[aliases] c = f: want a name with its registry",
		"unqualified-search-registries=1": "incompatible types",
	} {
		file := filepath.Join(t.TempDir(), "registries.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load([]string{file}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
