package generate

import (
	"path"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/generate/sourcetree"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

// ignoreFile returns the .dockerignore of a project.
func ignoreFile(tree *sourcetree.Tree, p *survey.Project) string {
	var b strings.Builder
	section := func(comment string, lines ...string) {
		b.WriteString("# " + comment + "\n" + strings.Join(lines, "\n") + "\n")
	}
	section("version control, editors and tools", ".git", ".gitignore", ".gitattributes", ".github", ".gitlab-ci.yml", ".idea", ".vscode", ".DS_Store", "*.swp")
	secrets := []string{"**/.env*", "!**/.env.example", "**/*.pem", "**/*.key", "**/*.pfx", "**/.aws", "**/.ssh", "secrets", "db_password.txt"}
	if len(tree.Below("secrets", sources...)) > 0 {
		secrets = slices.DeleteFunc(secrets, func(line string) bool { return line == "secrets" })
	}
	section("secrets", secrets...)
	section("files that no step needs", "Dockerfile*", "*.Dockerfile", "Containerfile*", ".dockerignore", "compose*.y*ml", "docker-compose*.y*ml")
	var lines []string
	add := func(line string) {
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	for _, line := range p.Ignore {
		// Names without a slash are those of all directories.
		rooted, root := strings.CutPrefix(line, "/")
		switch {
		case root && hasSources(tree, rooted):
		case root:
			add(rooted)
		case !strings.Contains(line, "/"):
			add("**/" + line)
		default:
			add(line)
		}
	}
	for _, name := range p.Outputs {
		for _, dir := range manifestDirs(tree) {
			if output := path.Join(dir, name); survey.Safe(output) && !hasSources(tree, output) {
				add(output)
			}
		}
	}
	if len(lines) > 0 {
		section("dependencies and outputs, which the build makes itself", lines...)
	}
	return b.String()
}

// sources are the extensions of sources that no tool writes to the top of its output
// directory.
var sources = []string{".go", ".py", ".ts", ".tsx", ".java", ".kt", ".rs", ".rb", ".cs", ".fs", ".php", ".vue", ".svelte"}

// hasSources reports whether a directory that has the name of an output has sources of
// the project.
func hasSources(tree *sourcetree.Tree, dir string) bool {
	switch path.Base(dir) {
	case "env", "venv":
		return tree.HasDir(dir) && !tree.Has(path.Join(dir, "pyvenv.cfg"))
	}
	return len(tree.Below(dir, ".go")) > 0 || slices.ContainsFunc(tree.Below(dir, sources...), func(name string) bool {
		return path.Dir(name) == dir && !strings.HasSuffix(name, ".d.ts")
	})
}

// manifestDirs returns the root and the directories that have a manifest.
func manifestDirs(tree *sourcetree.Tree) []string {
	dirs := []string{"."}
	for _, name := range []string{"package.json", "pyproject.toml", "setup.py", "pom.xml", "build.gradle", "build.gradle.kts", "Cargo.toml", "*.csproj", "*.fsproj"} {
		for _, file := range tree.Files(name) {
			if dir := path.Dir(file); !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// MissingIgnores returns the lines of want that an existing ignore file does not have. A
// line for the root does not have the place of one for all directories.
func MissingIgnores(have, want string) (missing []string) {
	known := map[string]bool{}
	normal := func(line string) string {
		return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "/"), "/")
	}
	for line := range strings.Lines(have) {
		known[normal(line)] = true
		known[strings.TrimPrefix(normal(line), "**/")] = true
	}
	for line := range strings.Lines(want) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "!") && !known[normal(line)] {
			missing = append(missing, line)
		}
	}
	return missing
}
