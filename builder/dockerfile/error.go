package dockerfile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cairn-build/cairn/builder/progress/termtext"
	"github.com/moby/buildkit/util/suggest"
)

// Error is an error with its position in a Dockerfile.
type Error struct {
	Name   string  // of the Dockerfile
	Ranges []Range // empty for errors that concern the whole file
	Err    error
	Source []byte // the Dockerfile

	Warnings []Warning // of the linter, before parsing failed with this error
}

// BuildKit returns the text that BuildKit has for the error, without a position in front.
// Editors show it.
func (e *Error) BuildKit() string {
	var w *worded
	if errors.As(e.Err, &w) {
		return w.text
	}
	return e.Err.Error()
}

// worded is an error with another text in BuildKit.
type worded struct {
	error
	text string
}

func (w *worded) Unwrap() error { return w.error }

// InBuildKit returns err with BuildKit's text for it, which [Error.BuildKit] returns.
func InBuildKit(err error, text string) error { return &worded{err, text} }

func (e *Error) Error() string {
	if len(e.Ranges) == 0 {
		return fmt.Sprintf("%s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.Name, e.Ranges[0].First, e.Err)
}

// Unwrap returns the error without its position.
func (e *Error) Unwrap() error { return e.Err }

// At returns err with a position in the file. An error that already has one keeps
// it.
func (f *File) At(err error, at ...Range) error {
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	last := strings.Count(string(f.Text), "\n") + 1
	ranges := make([]Range, 0, len(at))
	for _, r := range at {
		first := min(max(r.First, 1), last)
		ranges = append(ranges, Range{first, min(max(r.Last, first), last)})
	}
	return &Error{Name: f.Name, Ranges: ranges, Err: err, Source: f.Text}
}

// Line is a line of an excerpt.
type Line struct {
	Number int
	Text   string // short and safe to print
	Marked bool   // the error is about it
}

// Lines returns the lines of Excerpt.
func (e *Error) Lines() (out []Line) {
	if len(e.Ranges) == 0 {
		return nil
	}
	lines := strings.Split(string(e.Source), "\n")
	first, last := e.Ranges[0].First, 0
	for _, r := range e.Ranges {
		first, last = min(first, r.First), max(last, r.Last)
	}
	if first < 1 || first > len(lines) {
		return nil
	}
	first, last = widen(first, min(last, len(lines)), len(lines))
	for n := first; n <= last; n++ {
		out = append(out, Line{n, shown(lines[n-1]), e.marks(n)})
	}
	return out
}

// Excerpt returns the lines of the error, marked, with a few lines around them, in
// BuildKit's layout. It returns "" for an error without lines.
func (e *Error) Excerpt() string {
	lines := e.Lines()
	if len(lines) == 0 {
		return ""
	}
	first := e.Ranges[0].First
	for _, r := range e.Ranges {
		first = min(first, r.First)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d\n--------------------\n", e.Name, first)
	for _, l := range lines {
		mark := "   "
		if l.Marked {
			mark = ">>>"
		}
		fmt.Fprintf(&b, " %3d | %s %s\n", l.Number, mark, l.Text)
	}
	b.WriteString("--------------------\n")
	return b.String()
}

// maxShown is the number of bytes of a line that an excerpt shows.
const maxShown = 240

// shown returns a line that is short and safe to print.
func shown(line string) string {
	line = strings.ToValidUTF8(strings.TrimSuffix(strings.TrimPrefix(line, "\uFEFF"), "\r"), "\uFFFD")
	line = termtext.Safe(line)
	if runes := []rune(line); len(runes) > maxShown {
		return string(runes[:maxShown]) + "…"
	}
	return line
}

// widen adds lines before and after, in two or three rounds, and in more around a
// single line.
func widen(first, last, total int) (int, int) {
	pad := 2
	if first == last {
		pad = 4
	}
	for p := 0; p < pad; p++ {
		if first > 1 {
			first--
			p++
		}
		if last != total {
			last++
			p++
		}
	}
	return first, last
}

func (e *Error) marks(line int) bool {
	for _, r := range e.Ranges {
		if r.First <= line && line <= r.Last {
			return true
		}
	}
	return false
}

// Suggest returns the option that is most similar to a word, or "" if none is
// similar or the word is one of the options.
func Suggest(word string, options []string) string {
	s, _ := suggest.Search(word, options, true)
	return s
}

// DidYouMean adds a suggestion to an error, if there is one.
func DidYouMean(err error, word string, options []string) error {
	if s := Suggest(word, options); s != "" {
		return fmt.Errorf("%w (did you mean %s?)", err, s)
	}
	return err
}
