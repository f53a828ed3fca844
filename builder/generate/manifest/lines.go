package manifest

import (
	"regexp"
	"strings"
	"sync"
)

// expression returns a function that compiles a regular expression on first use, so
// that programs which do not use it start fast.
func expression(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

// lines returns the lines of a text without comments that begin with # and spaces
// around them, and without empty ones.
func lines(text []byte) (list []string) {
	for line := range strings.Lines(strings.TrimPrefix(string(text), "\ufeff")) {
		line, _, _ = strings.Cut(" "+line, " #")
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// VersionFile returns the version in a file such as .nvmrc or .python-version: its
// first line without a comment.
func VersionFile(text []byte) string {
	for _, line := range lines(text) {
		return strings.Fields(line)[0]
	}
	return ""
}

// ToolVersions parses a .tool-versions of asdf: the first version of each tool.
func ToolVersions(text []byte) map[string]string {
	tools := map[string]string{}
	for _, line := range lines(text) {
		if f := strings.Fields(line); len(f) > 1 {
			tools[f[0]] = f[1]
		}
	}
	return tools
}

// Mise parses a mise.toml: the first version of each tool.
func Mise(text []byte) (map[string]string, error) {
	d, err := TOML(text)
	if err != nil {
		return nil, err
	}
	tools := map[string]string{}
	for _, name := range d.Keys("tools") {
		version := d.String("tools", name)
		if list := d.Strings("tools", name); len(list) > 0 {
			version = list[0]
		}
		if v := d.String("tools", name, "version"); v != "" {
			version = v
		}
		tools[name] = version
	}
	return tools, nil
}

// Properties parses lines of the form key=value, as in .sdkmanrc and system.properties.
func Properties(text []byte) map[string]string {
	values := map[string]string{}
	for _, line := range lines(text) {
		if key, value, ok := strings.Cut(line, "="); ok {
			values[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return values
}

// Requirements is the content of a requirements.txt.
type Requirements struct {
	Names    []string // normalised
	Includes []string // files that it names with -r or -c
	Local    bool     // it installs a directory of the tree
}

// ParseRequirements parses a requirements.txt.
func ParseRequirements(text []byte) (r Requirements) {
	for _, line := range lines(text) {
		f := strings.Fields(strings.NewReplacer("=", " ").Replace(line))
		switch f = append(f, ""); f[0] {
		case "-r", "--requirement", "-c", "--constraint":
			r.Includes = append(r.Includes, f[1])
			continue
		case "-e", "--editable":
			r.Local = r.Local || strings.HasPrefix(f[1], ".") || strings.HasPrefix(f[1], "file:")
			continue
		}
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "file:") {
			r.Local = true
		} else if name := PythonName(line); name != "" {
			r.Names = append(r.Names, name)
		}
	}
	return r
}

var requirementName = expression(`^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._, -]*\])?`)

// PythonName returns the normalised name of a Python requirement such as
// "FastAPI[standard] >= 0.1", with its extras: "fastapi[standard]".
func PythonName(requirement string) string {
	name := requirementName().FindString(strings.TrimSpace(requirement))
	return strings.NewReplacer("_", "-", ".", "-", " ", "").Replace(strings.ToLower(name))
}

var lockedName = expression(`(?m)^name = "([A-Za-z0-9._-]{1,100})"`)

// LockedNames returns the names of the packages in a uv.lock, poetry.lock, pdm.lock or
// Cargo.lock.
func LockedNames(text []byte) (names []string) {
	for _, m := range lockedName().FindAllSubmatch(text, -1) {
		names = append(names, string(m[1]))
	}
	return names
}
