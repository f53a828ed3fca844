// Package dockerfile parses Dockerfiles into stages of typed instructions, each
// with its line numbers.
//
// It wraps BuildKit's own parser, shell lexer and linter, so that Cairn accepts,
// rejects and warns about the same input as docker. No other package imports them.
// Instructions are immutable: expansion returns a new one, so that several plans
// can share a File.
package dockerfile

import (
	"fmt"
	"strings"
)

// File is a parsed Dockerfile.
type File struct {
	Name   string // as shown in errors
	Text   []byte
	Syntax string // the frontend in # syntax=, or ""
	Escape rune   // the escape character: \ or `
	Args   []Arg  // before the first FROM
	Stages []Stage

	Advice []Warning // not from the linter: about # syntax=

	check    *string   // replaces the linter options in # check=
	warnings []Warning // of the linter, from parsing
}

// Range is a range of lines in a file, from First to Last, counted from 1.
type Range struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// Stage is a FROM and the instructions after it.
type Stage struct {
	Meta
	Base         string // as written, not expanded
	As           string // name in lower case, or ""
	Platform     string // as written, not expanded
	Doc          string // the comment above it that begins with its name
	Instructions []Instruction
}

// String returns a warning as one line, in BuildKit's form.
func (w Warning) String() string {
	text := w.Rule + ": " + strings.TrimSpace(w.Detail)
	if len(w.Ranges) > 0 {
		text += fmt.Sprintf(" (line %d)", w.Ranges[0].First)
	}
	return text
}

// Excerpt returns the lines of a warning, in the form of [Error.Excerpt].
func (w Warning) Excerpt(name string, text []byte) string {
	e := &Error{Name: name, Ranges: w.Ranges, Source: text}
	return e.Excerpt()
}

// Warning is a warning about a Dockerfile that can be built.
type Warning struct {
	Rule        string  `json:"rule"`        // as in StageNameCasing
	Description string  `json:"description"` // of the rule
	URL         string  `json:"url,omitempty"`
	Detail      string  `json:"detail"` // the problem in this file
	Ranges      []Range `json:"lines"`
}
