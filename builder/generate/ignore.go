package generate

import (
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/generate/survey"
)

// ignoreFile returns the .dockerignore of a project.
func ignoreFile(p *survey.Project) string {
	var b strings.Builder
	section := func(comment string, lines ...string) {
		b.WriteString("# " + comment + "\n" + strings.Join(lines, "\n") + "\n")
	}
	section("version control, editors and tools", ".git", ".gitignore", ".gitattributes", ".github", ".gitlab-ci.yml", ".idea", ".vscode", ".DS_Store", "*.swp")
	section("secrets", ".env*", "!.env.example", "*.pem", "*.key", "*.pfx", ".aws", ".ssh", "secrets", "db_password.txt")
	section("files that no step needs", "Dockerfile*", "*.Dockerfile", "Containerfile*", ".dockerignore", "compose*.y*ml", "docker-compose*.y*ml")
	var lines []string
	for _, line := range p.Ignore {
		// Names without a slash are those of all directories.
		switch {
		case strings.HasPrefix(line, "/"):
			line = line[1:]
		case !strings.Contains(line, "/"):
			line = "**/" + line
		}
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if len(lines) > 0 {
		section("dependencies and outputs, which the build makes itself", lines...)
	}
	return b.String()
}

// MissingIgnores returns the lines of want that an existing ignore file does not have.
func MissingIgnores(have, want string) (missing []string) {
	known := map[string]bool{}
	normal := func(line string) string {
		return strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(line), "**/"), "/"), "/")
	}
	for line := range strings.Lines(have) {
		known[normal(line)] = true
	}
	for line := range strings.Lines(want) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "!") && !known[normal(line)] {
			missing = append(missing, line)
		}
	}
	return missing
}
