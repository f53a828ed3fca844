// Package survey has the tools for the analysis of a source tree: decisions with the file
// that they come from, versions, and templates of Dockerfiles.
//
// Text from the tree is untrusted. Render refuses words that a Dockerfile or a shell
// would read as more than a word.
package survey

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/release"
	"github.com/cairn-build/cairn/builder/generate/sourcetree"
)

// Request is a source tree with the wishes of the user.
type Request struct {
	Tree   *sourcetree.Tree
	App    string // directory or name of one of several applications, or ""
	Port   int    // 0 is the port of the project, or the usual one
	Health bool   // write a HEALTHCHECK
}

// Project is the result of an analysis.
type Project struct {
	Name       string // of the application, or ""
	Dockerfile string
	Findings   []Finding
	Warnings   []string
	Ignore     []string // lines of the ignore file; names without a slash are those of all directories
	Outputs    []string // directories that tools write in the root and beside manifests
	Secrets    []Secret // that the build needs
	Port       int      // 0 if it listens on none that is known
	Services   []string // of Services: those that it has a client library for
}

// Secret is a file of the source tree that a build gets as a secret.
type Secret struct{ ID, File string }

// Finding is a decision and the file that it came from.
type Finding struct {
	Text string
	From string // "" without a file
}

// ChoiceError is the error for a tree with several applications.
type ChoiceError struct {
	Kind    string   // "main packages"
	From    string   // file that names them, or ""
	App     string   // that was asked for, and is none of them
	Choices []string // values of Request.App
}

func (e *ChoiceError) Error() string {
	shown := e.Choices
	more := ""
	if len(shown) > 20 {
		shown, more = shown[:20], fmt.Sprintf(" and %d more", len(e.Choices)-20)
	}
	list := make([]string, len(shown))
	for i, c := range shown {
		list[i] = Display(c)
	}
	if e.App != "" {
		return fmt.Sprintf("--app %s is none of the %s: %s%s", Display(e.App), e.Kind, strings.Join(list, ", "), more)
	}
	return fmt.Sprintf("there are several %s: choose one with --app: %s%s", e.Kind, strings.Join(list, ", "), more)
}

// Display returns a word for a message: as it is, or quoted.
func Display(word string) string {
	if Safe(word) {
		return word
	}
	return fmt.Sprintf("%q", word)
}

// Survey is an analysis in progress.
type Survey struct {
	Request
	*Project
	Err error // the first one of a manifest
}

func New(r Request) *Survey {
	return &Survey{Request: r, Project: &Project{}}
}

func (s *Survey) Found(from, format string, args ...any) {
	f := Finding{fmt.Sprintf(format, args...), from}
	if !slices.Contains(s.Findings, f) {
		s.Findings = append(s.Findings, f)
	}
}

func (s *Survey) Warn(format string, args ...any) {
	s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...))
}

// WarnLocal warns of a program that listens on an address that only its own host reaches.
func (s *Survey) WarnLocal(file, host string) {
	s.Warn("%s: the program listens on %s, which is reached from inside of its container only: listen on 0.0.0.0", Display(file), Display(host))
}

// parsed keeps the error of a manifest, which ends the analysis.
func (s *Survey) Parsed(file string, err error) {
	if err != nil && s.Err == nil {
		s.Err = fmt.Errorf("%s: %w", Display(file), err)
	}
}

// document reads a document that may be missing.
func (s *Survey) Document(file string, parse func([]byte) (manifest.Document, error)) manifest.Document {
	if file == "" || !s.Tree.Has(file) {
		return nil
	}
	text, err := s.Tree.Read(file)
	if err != nil {
		if s.Err == nil {
			s.Err = err
		}
		return nil
	}
	d, err := parse(text)
	s.Parsed(file, err)
	return d
}

// port decides on the port: the user's, the project's, or the usual one of its kind.
func (s *Survey) ChoosePort(from string, number, usual int) int {
	switch {
	case s.Request.Port != 0:
		s.Project.Port = s.Request.Port
		s.Found("--port", "port %d", s.Project.Port)
	case number != 0:
		s.Project.Port = number
		s.Found(from, "port %d", number)
	case usual != 0:
		s.Project.Port = usual
		s.Found("", "port %d, the usual one", usual)
	}
	return s.Project.Port
}

// Origin is a file with a version.
type Origin struct {
	File    string
	Version string
	Choose  func(release.Language, string) release.Choice
}

// pinned is the version in a file that has no other content, such as .nvmrc.
func (s *Survey) Pinned(dir string, names ...string) (list []Origin) {
	for _, name := range names {
		name = path.Join(dir, name)
		if v := manifest.VersionFile([]byte(s.Tree.Text(name))); v != "" {
			list = append(list, Origin{File: name, Version: v, Choose: release.Language.Exact})
		}
	}
	return list
}

// tools returns the versions in the files of asdf and mise, of the first known name.
func (s *Survey) Tools(names ...string) (list []Origin) {
	for _, file := range []string{".tool-versions", "mise.toml", ".mise.toml"} {
		if !s.Tree.Has(file) {
			continue
		}
		text := []byte(s.Tree.Text(file))
		versions := manifest.ToolVersions(text)
		if file != ".tool-versions" {
			var err error
			versions, err = manifest.Mise(text)
			s.Parsed(file, err)
		}
		for _, name := range names {
			if v := versions[name]; v != "" {
				list = append(list, Origin{File: file, Version: v, Choose: release.Language.Exact})
				break
			}
		}
	}
	return list
}

// choose decides on a version: that of the first file which has one.
func (s *Survey) Choose(l release.Language, origins ...[]Origin) string {
	for _, o := range slices.Concat(origins...) {
		if o.Version == "" {
			continue
		}
		c := o.Choose(l, o.Version)
		switch {
		case c.Unknown:
			s.Warn("%s: the version %q is not understood, or not known of %s", Display(o.File), o.Version, l.Name)
			continue
		case c.Raised:
			s.Found(o.File, "%s %s: %s has no support any more, and is a minimum", l.Name, c.Version, Display(o.Version))
		default:
			s.Found(o.File, "%s %s", l.Name, c.Version)
		}
		if c.Old {
			s.Warn("%s %s gets no security fixes any more (as of %s)", l.Name, c.Version, release.Date)
		}
		return c.Version
	}
	s.Found("", "%s %s, since no file has a version", l.Name, l.Default)
	return l.Default
}

// services notes the services that client libraries among the dependencies connect to.
func (s *Survey) AddServices(dependencies []string) {
	for _, service := range Services() {
		for _, library := range service.Libraries {
			if slices.Contains(dependencies, library) && !slices.Contains(s.Services, service.Name) {
				s.Services = append(s.Services, service.Name)
			}
		}
	}
}

// has reports whether a list has one of the names.
func HasAny(list []string, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(list, name) })
}
