// Package dockerfile reads Dockerfiles: text becomes stages of typed
// instructions, each with the lines that it came from.
//
// It is the one package that sees BuildKit's own parser, shell lexer and linter.
// They are wrapped, not imitated, so that what they accept, refuse and warn of
// is what users of docker know. Instructions are values that do not change:
// expansion gives a new one, so that one File serves several plans at once.
package dockerfile

import (
	"fmt"
	"strings"
)

// File is a parsed Dockerfile.
type File struct {
	Name   string // as shown in errors
	Text   []byte
	Syntax string // the frontend that # syntax= names, "" if there is none
	Escape rune   // the escape character: \ or `
	Args   []Arg  // those before the first FROM
	Stages []Stage

	Advice []Warning // that is not the linter's: of # syntax=

	check    *string   // options for the linter in place of its own
	warnings []Warning // of the linter, at the time of parsing
}

// Range is some lines of a file, first and last, counted from 1.
type Range struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// Stage is a FROM and the instructions after it.
type Stage struct {
	Meta
	Base         string // as written, not expanded
	As           string // lower case; "" if it has no name
	Platform     string // as written, not expanded
	Doc          string // the comment above it that begins with its name
	Instructions []Instruction
}

// String gives a warning in one line, as BuildKit does.
func (w Warning) String() string {
	text := w.Rule + ": " + strings.TrimSpace(w.Detail)
	if len(w.Ranges) > 0 {
		text += fmt.Sprintf(" (line %d)", w.Ranges[0].First)
	}
	return text
}

// Excerpt shows the lines that a warning is about, as [Error.Excerpt] does.
func (w Warning) Excerpt(name string, text []byte) string {
	e := &Error{Name: name, Ranges: w.Ranges, Source: text}
	return e.Excerpt()
}

// Warning is advice about a Dockerfile that does not keep it from being built.
type Warning struct {
	Rule        string  `json:"rule"`        // as in StageNameCasing
	Description string  `json:"description"` // of the rule
	URL         string  `json:"url,omitempty"`
	Detail      string  `json:"detail"` // what is wrong here
	Ranges      []Range `json:"lines"`
}
