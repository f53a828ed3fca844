// Package generate writes a Dockerfile, an ignore file and a Compose file for a source
// tree.
//
// It reads manifests, lock files and sources, and runs nothing. Package language knows
// the languages, package release their versions, package manifest the formats of their
// files, and package sourcetree bounds the reading.
package generate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/generate/language"
	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/sourcetree"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

// Options are the wishes of the user. The zero value leaves all to the source tree.
type Options struct {
	Language string // of Languages, or ""
	App      string // directory or name of one of several applications
	Port     int
	Health   bool // write a HEALTHCHECK
}

// Result is the text of the files.
type Result struct {
	Project    *survey.Project
	Dockerfile string
	Ignore     string // .dockerignore
	Compose    string // compose.yaml
}

// UnknownError is the error for a tree without a known project.
type UnknownError struct {
	Dir      string
	Projects []string // directories of the tree that have one, with its language
	App      string   // directory that was asked for, if it has one
	Title    string   // its language
}

func (e *UnknownError) Error() string {
	if e.App != "" {
		return fmt.Sprintf("%s has no project itself, but %s has (%s): run cairn init %s", e.Dir, e.App, e.Title, e.App)
	}
	if len(e.Projects) > 0 {
		return fmt.Sprintf("%s has no project itself, but these directories have: %s: run cairn init with one of them", e.Dir, strings.Join(e.Projects, ", "))
	}
	var files []string
	for _, l := range language.All() {
		files = append(files, l.Files...)
	}
	return fmt.Sprintf("no known project in %s: looked for %s: write a Dockerfile by hand (cairn help first-image has an example)", e.Dir, strings.Join(files, ", "))
}

// Languages returns the values of Options.Language.
func Languages() (names []string) {
	for _, l := range language.All() {
		names = append(names, l.Name)
	}
	return names
}

// Generate reads a directory and returns the files for it. Nothing is written.
func Generate(dir string, o Options) (*Result, error) {
	if err := memberOf(dir); err != nil {
		return nil, err
	}
	tree, err := sourcetree.Open(dir)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	l, others, err := detect(tree, dir, o.Language)
	if e := (*UnknownError)(nil); errors.As(err, &e) && filepath.IsLocal(o.App) {
		app := filepath.Join(dir, o.App)
		if e.Title = languageOf(app); e.Title != "" {
			e.App = quoted(app)
		}
	}
	if err != nil {
		return nil, err
	}
	project, err := l.Analyse(survey.Request{Tree: tree, App: o.App, Port: o.Port, Health: o.Health})
	if err != nil {
		return nil, fmt.Errorf("%s project in %s: %w", l.Title, quoted(dir), err)
	}
	project.Warnings = append(project.Warnings, damagedLocks(tree)...)
	if tree.Truncated {
		project.Warnings = append(project.Warnings, "the tree has too many files to look at all of them")
	}
	for _, other := range others {
		project.Findings = append(project.Findings, survey.Finding{Text: "also " + other.Title + ": --lang " + other.Name, From: ""})
	}
	r := &Result{Project: project, Ignore: ignoreFile(tree, project)}
	r.Dockerfile = header(project) + project.Dockerfile
	r.Compose = composeFile(project)
	return r, nil
}

// detect returns the language of the tree, and others that it has, too.
func detect(tree *sourcetree.Tree, dir, name string) (language.Language, []language.Language, error) {
	var found []language.Language
	for _, l := range language.All() {
		if l.Name == name {
			return l, nil, nil
		}
		if name == "" && l.Detect(tree) {
			found = append(found, l)
		}
	}
	if len(found) == 0 {
		return language.Language{}, nil, &UnknownError{Dir: dir, Projects: projectsBelow(dir)}
	}
	others := slices.DeleteFunc(slices.Clone(found[1:]), func(l language.Language) bool {
		return l.Name == "static" || l.Name == "node" && found[0].Name != "go" && found[0].Name != "rust"
	})
	return found[0], others, nil
}

// projectsBelow lists the directories below one that have a project: at most two levels
// deep.
func projectsBelow(dir string) (list []string) {
	var visit func(sub string, depth int)
	visit = func(sub string, depth int) {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			return
		}
		for _, e := range entries {
			if !e.IsDir() || strings.HasPrefix(e.Name(), ".") || e.Name() == "node_modules" || e.Name() == "vendor" || len(list) == 20 {
				continue
			}
			name := filepath.Join(sub, e.Name())
			if l := languageOf(filepath.Join(dir, name)); l != "" {
				list = append(list, fmt.Sprintf("%s (%s)", quoted(filepath.Join(dir, name)), l))
			} else if depth > 0 {
				visit(name, depth-1)
			}
		}
	}
	visit("", 1)
	return list
}

func languageOf(dir string) string {
	tree, err := sourcetree.Open(dir)
	if err != nil {
		return ""
	}
	defer tree.Close()
	for _, l := range language.All() {
		if l.Name != "static" && l.Detect(tree) {
			return l.Title
		}
	}
	return ""
}

// quoted returns a path for a message: as it is, or quoted.
func quoted(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '"' || r == '\'' || r == 0x7f }) {
		return fmt.Sprintf("%q", name)
	}
	return name
}

// memberOf returns an error if the directory is a member of a workspace in a directory
// above it: the build needs files from there.
func memberOf(dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(abs); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the source tree: %s does not exist", dir)
	}
	has := func(dir string, names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool {
			fi, err := os.Stat(filepath.Join(dir, name))
			return err == nil && fi.Mode().IsRegular()
		})
	}
	locks := []string{"package-lock.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb"}
	for up := filepath.Dir(abs); up != filepath.Dir(up); up = filepath.Dir(up) {
		rel, err := filepath.Rel(up, abs)
		if err != nil || strings.Count(rel, "/") > 4 {
			break
		}
		node := has(abs, "package.json") && !has(abs, locks...) && has(up, locks...) && workspace(up, "package.json", "pnpm-workspace.yaml")
		crate := has(abs, "Cargo.toml") && !has(abs, "Cargo.lock") && workspace(up, "Cargo.toml")
		gradle := has(abs, "build.gradle", "build.gradle.kts") && !has(abs, "settings.gradle", "settings.gradle.kts") && has(up, "settings.gradle", "settings.gradle.kts")
		if node || crate || gradle {
			return fmt.Errorf("%s is a member of the workspace in %s, whose files the build needs: run cairn init --app %s %s", dir, quoted(up), quoted(filepath.ToSlash(rel)), quoted(up))
		}
		if _, err := os.Stat(filepath.Join(up, ".git")); err == nil {
			break
		}
	}
	return nil
}

// workspace reports whether one of the files declares a workspace.
func workspace(dir string, names ...string) bool {
	tree, err := os.OpenRoot(dir)
	if err != nil {
		return false
	}
	defer tree.Close()
	for _, name := range names {
		fi, err := tree.Stat(name)
		if err != nil || !fi.Mode().IsRegular() || fi.Size() > sourcetree.MaxFile {
			continue
		}
		text, err := fs.ReadFile(tree.FS(), name)
		if err != nil {
			continue
		}
		switch path.Ext(name) {
		case ".json":
			if d, err := manifest.JSON(text); err == nil && d.Has("workspaces") {
				return true
			}
		case ".toml":
			if d, err := manifest.TOML(text); err == nil && d.Has("workspace") {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// header is the comment at the top of the Dockerfile.
func header(p *survey.Project) string {
	var b strings.Builder
	b.WriteString("# Written by cairn init; edit it as you like. Its sources:\n")
	for _, f := range p.Findings {
		if f.From != "" && f.From != "--port" && len(f.Text)+len(f.From) < 100 {
			fmt.Fprintf(&b, "# - %s: %s\n", printable(f.From), printable(f.Text))
		}
	}
	return b.String() + "\n"
}

// printable replaces the control characters of a text, which would end a comment.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return '?'
		}
		return r
	}, text)
}
