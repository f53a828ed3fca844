// Package bake describes applications of several build targets, as the files of
// "docker buildx bake" define them.
//
// A Definition holds the targets and groups of all files, in the languages that its
// Languages read. Definition.Select resolves inheritance and overrides for the wanted
// targets; the result marshals to the JSON of "buildx bake --print". The package reads
// no Dockerfile and builds nothing.
package bake

import (
	"fmt"
	"slices"
)

// Definition is the content of all files of an application.
type Definition struct {
	Groups    []*Group
	Targets   []*Target // in the order of the files, each name once
	Variables []Variable
	Warnings  []Problem // of constructs that have no effect
	// Absent are the reasons why there is no target of a name, such as that of a block
	// whose matrix is empty.
	Absent map[string]string
	// Deferred are errors of targets, by name, that count only if the target is selected.
	Deferred map[string]Problems
}

// Group names several targets.
type Group struct {
	Name        string   `json:"-"`
	Description string   `json:"description,omitempty"`
	Targets     []string `json:"targets"` // names of targets and groups
	Position    Position `json:"-"`
}

// Variable is a variable of a definition with its value.
type Variable struct {
	Name        string  `json:"name"`
	Description string  `json:"description,omitempty"`
	Type        string  `json:"type,omitempty"` // "" if the definition gives none
	Value       *string `json:"value,omitempty"`
}

// Target returns the target of a name, or nil.
func (d *Definition) Target(name string) *Target {
	i := slices.IndexFunc(d.Targets, func(t *Target) bool { return t.Name == name })
	if i < 0 {
		return nil
	}
	return d.Targets[i]
}

// Group returns the first group of a name, or nil.
func (d *Definition) Group(name string) *Group {
	i := slices.IndexFunc(d.Groups, func(g *Group) bool { return g.Name == name })
	if i < 0 {
		return nil
	}
	return d.Groups[i]
}

// Position is a place in a file. Line and column count from 1; 0 means unknown.
type Position struct {
	File         string
	Line, Column int
}

// String returns the position as FILE:LINE,COLUMN, without the unknown parts.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d,%d", p.File, p.Line, p.Column)
}

// Problem is an error or a warning of a definition.
type Problem struct {
	Position
	Target string // "" if it concerns no single target
	Text   string
}

// Error returns the problem with its position and target.
func (p Problem) Error() string {
	text := p.Text
	if p.Target != "" {
		text = fmt.Sprintf("target %q: %s", p.Target, text)
	}
	if p.File != "" {
		text = p.Position.String() + ": " + text
	}
	return text
}

// Problems are all errors of a definition.
type Problems []Problem

// Error returns the problems, one a line. Of very many it returns the first ones.
func (p Problems) Error() string {
	const most = 40
	var text []byte
	for i, problem := range p {
		if i == most && len(p) > most+1 {
			return fmt.Sprintf("%s\nand %d more problems", text, len(p)-most)
		}
		if i > 0 {
			text = append(text, '\n')
		}
		text = append(text, problem.Error()...)
	}
	return string(text)
}

// File is a file of a definition.
type File struct {
	Name string // as given; "-" is standard input
	Data []byte
}

// ReadOptions are the parameters of a Language.
type ReadOptions struct {
	// Vars are the variables of the command line.
	Vars map[string]string
	// Lookup returns a variable of the environment. It finds none if the environment
	// must not be used.
	Lookup func(string) (string, bool)
	// Builtins are the variables that no definition changes, such as BAKE_CMD_CONTEXT.
	Builtins map[string]string
	// FileRelative makes contexts relative to the directory of the file that gives them
	// instead of the working directory.
	FileRelative bool
	// Remote is set for a definition from a URL. It must not read other files of this
	// machine.
	Remote bool
}

// Language reads the files of one language.
type Language interface {
	// Accepts reports whether the file is in the language. It returns an error if the
	// name of the file says so and the content does not parse, or, with false, if
	// neither says so.
	Accepts(f File, o ReadOptions) (bool, error)
	// Read adds the content of all files of the language to a definition. A target of
	// the same name is merged with Target.Merge; a group of the same name is replaced.
	Read(d *Definition, files []File, o ReadOptions) error
}
