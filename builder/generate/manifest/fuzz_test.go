package manifest

import (
	"encoding/json"
	"testing"
)

func FuzzJSON(f *testing.F) {
	f.Add([]byte("{\n// x\n\"a\": [1, \"b\",], /* y */ }"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := JSON(text)
		var strict map[string]any
		if json.Unmarshal(text, &strict) == nil && strict != nil && err != nil {
			t.Errorf("valid JSON is refused: %v", err)
		}
		if err == nil && d == nil {
			t.Error("no document and no error")
		}
		_, _, _ = d.Strings("a"), d.Objects("a"), d.Keys()
	})
}

func FuzzTOML(f *testing.F) {
	f.Add([]byte("[project]\nname = \"x\"\ndependencies = [\"a\"]\n[[bin]]\nname = \"y\"\n"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		d, err := TOML(text)
		if err == nil {
			_, _, _ = d.String("project", "name"), d.Objects("bin"), d.Keys("project")
		}
		_, _ = Mise(text)
		_, _, _ = CatalogPlugins(text)
	})
}

func FuzzYAML(f *testing.F) {
	f.Add([]byte("packages:\n  - \"apps/*\"\n  - &a b\n  - *a\n"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		d, _ := YAML(text)
		_ = d.Strings("packages")
	})
}

func FuzzXML(f *testing.F) {
	f.Add([]byte("<project xmlns=\"x\"><a b=\"c\">d</a><!-- e --></project>"))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := XML(text)
		if err == nil && e == nil {
			t.Error("no element and no error")
		}
		_, _ = e.Get("a"), e.All("a")
	})
}

func FuzzGoMod(f *testing.F) {
	f.Add([]byte("module x\ngo 1.26\nrequire a v1.0.0\nreplace a => ../a\n"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		_, _ = GoMod(text)
		_, _, _ = GoWork(text)
	})
}

// FuzzLines covers the parsers that look for lines and expressions.
func FuzzLines(f *testing.F) {
	f.Add([]byte("plugins { id 'a' version 'b' }\ninclude 'c'\nruby '3'\ngem 'd'\n-r e\nf==1 # g\nh=i\n"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		ParseGradle(text)
		GradleSettings(text)
		Gemfile(text)
		GemfileLock(text)
		ParseRequirements(text)
		LockedNames(text)
		VersionFile(text)
		ToolVersions(text)
		Properties(text)
	})
}
