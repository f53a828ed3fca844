package generate

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A damaged lock file is named with the reason. It does not end the analysis.
func TestDamagedLocks(t *testing.T) {
	const conflict = "a\n<<<<<<< HEAD\nb\n=======\nc\n>>>>>>> other\n"
	projects := map[string]string{"package.json": `{"main": "index.js"}`, "index.js": "", "main.py": "", "composer.json": "{}", "index.php": "", "Cargo.toml": "[package]\nname = \"a\"\n", "src/main.rs": "fn main() {}"}
	for _, test := range []struct{ file, text, want string }{
		{"package-lock.json", `{"lockfileVersion": 3, "packages": {"": {`, "package-lock.json is damaged, and builds will fail at it: invalid JSON: unexpected end of JSON input"},
		{"package-lock.json", conflict, "package-lock.json is damaged, and builds will fail at it: line 2 has the mark of a merge conflict"},
		{"package-lock.json", "", "package-lock.json is damaged"},
		{"bun.lock", `{"lockfileVersion": 1, "packages": {},}`, ""}, // JSON with commas
		{"composer.lock", `{"packages": [`, "composer.lock is damaged, and builds will fail at it: invalid JSON"},
		{"pnpm-lock.yaml", "lockfileVersion: '9.0'\npackages:\n  a: {", "pnpm-lock.yaml is damaged, and builds will fail at it: invalid YAML"},
		{"pnpm-lock.yaml", "lockfileVersion: '9.0'\npackages:\n  'a@1'", "pnpm-lock.yaml is damaged"},
		{"pnpm-lock.yaml", "packages: {}\n", "it has no lockfileVersion"},
		{"yarn.lock", "a@1:\n  version \"1.0.0", "yarn.lock is damaged, and builds will fail at it: it ends in the middle of a line"},
		{"yarn.lock", "# yarn lockfile v1\n\n\n", ""},
		{"yarn.lock", "", ""},
		{"Cargo.lock", "version = 4\n\n[[package]]\nname = \"a", "Cargo.lock is damaged, and builds will fail at it: invalid TOML"},
		{"uv.lock", "version = 1\n[[package", "uv.lock is damaged"},
		{"uv.lock", "version = 1\n", ""},
		{"go.sum", "a v1.0.0 h1:\x00\n", "go.sum is damaged, and builds will fail at it: it is not text"},
		{"docs/uv.lock", "[", ""},
	} {
		dir := t.TempDir()
		for name, text := range projects {
			write(t, filepath.Join(dir, name), text)
		}
		write(t, filepath.Join(dir, test.file), test.text)
		for _, language := range []string{"node", "python", "php", "rust"} {
			r, err := Generate(dir, Options{Language: language})
			if err != nil {
				t.Errorf("%s: %s: %v", language, test.file, err)
				continue
			}
			if got := slices.ContainsFunc(r.Project.Warnings, func(w string) bool { return strings.Contains(w, "damaged") }); got != (test.want != "") {
				t.Errorf("%s %q: warnings %q, want %q", test.file, test.text, r.Project.Warnings, test.want)
			}
			if all := strings.Join(r.Project.Warnings, "\n"); !strings.Contains(all, test.want) {
				t.Errorf("%s %q: warnings %q, want %q", test.file, test.text, all, test.want)
			}
		}
	}
}
