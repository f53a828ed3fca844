package dockerfile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/util/suggest"

	"github.com/cairn-build/cairn/builder/progress"
)

// Error is an error with its place in a Dockerfile.
type Error struct {
	Name   string  // of the Dockerfile
	Ranges []Range // none: the file as a whole
	Err    error
	Source []byte // the Dockerfile

	Warnings []Warning // that the linter had when parsing ended with this error
}

func (e *Error) Error() string {
	if len(e.Ranges) == 0 {
		return fmt.Sprintf("%s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.Name, e.Ranges[0].First, e.Err)
}

// Unwrap gives the error without its place.
func (e *Error) Unwrap() error { return e.Err }

// At puts an error at some lines of the file. An error that has its place
// already keeps it.
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

// Excerpt shows the lines in question, marked, and a few around them, as
// BuildKit does. It is "" for an error without lines.
func (e *Error) Excerpt() string {
	if len(e.Ranges) == 0 {
		return ""
	}
	lines := strings.Split(string(e.Source), "\n")
	first, last := e.Ranges[0].First, 0
	for _, r := range e.Ranges {
		first, last = min(first, r.First), max(last, r.Last)
	}
	if first < 1 || first > len(lines) {
		return ""
	}
	last = min(last, len(lines))
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d\n--------------------\n", e.Name, first)
	first, last = widen(first, last, len(lines))
	for n := first; n <= last; n++ {
		mark := "   "
		if e.marks(n) {
			mark = ">>>"
		}
		fmt.Fprintf(&b, " %3d | %s %s\n", n, mark, shown(lines[n-1]))
	}
	b.WriteString("--------------------\n")
	return b.String()
}

// maxShown is how much of a line is shown.
const maxShown = 240

// shown is a line as it is fit for a terminal.
func shown(line string) string {
	line = strings.ToValidUTF8(strings.TrimSuffix(strings.TrimPrefix(line, "\uFEFF"), "\r"), "\uFFFD")
	line = progress.Legible(line)
	if runes := []rune(line); len(runes) > maxShown {
		return string(runes[:maxShown]) + "…"
	}
	return line
}

// widen adds lines in turns before and after: two or three rounds, more around
// a single line.
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

// Suggest finds the option that a word was probably meant to be; "" if none is
// near, or the word is one of them.
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
