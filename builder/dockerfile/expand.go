package dockerfile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// Vars holds the variables of an expansion.
type Vars interface {
	Get(name string) (string, bool)
	Keys() []string
}

// maxExpansion is the largest total size, in bytes, of the variables in one word.
// Linux accepts at most 128 KiB in one string of a process. Without a limit, a few
// lines of ENV A=$A$A fill the memory.
const maxExpansion = 1 << 20

// Lexer expands variables as BuildKit does. It is not safe for concurrent use.
type Lexer struct {
	plain, raw, show shell.Lex
}

// Lexer returns a lexer with the file's escape character.
func (f *File) Lexer() *Lexer {
	l := &Lexer{plain: *shell.NewLex(f.Escape), raw: *shell.NewLex('\\'), show: *shell.NewLex(f.Escape)}
	l.raw.SkipProcessQuotes = true
	l.show.RawQuotes, l.show.RawEscapes, l.show.SkipUnsetEnv = true, true, true
	return l
}

// Word is an expanded word with the variables in it.
type Word struct {
	Text    string
	Set     []string // variables with a value, sorted
	Missing []string // variables without one, sorted
}

// Word expands variables and removes quotes.
func (l *Lexer) Word(word string, vars Vars) (Word, error) { return expand(&l.plain, word, vars) }

// Raw expands variables only, for the text of heredocs.
func (l *Lexer) Raw(text string, vars Vars) (Word, error) { return expand(&l.raw, text, vars) }

// Words expands variables and splits the result at spaces.
func (l *Lexer) Words(word string, vars Vars) ([]string, error) {
	if err := checkText(word); err != nil {
		return nil, err
	}
	b := &bounded{Vars: vars, left: maxExpansion}
	words, err := l.plain.ProcessWords(word, b)
	return words, b.check(word, err)
}

// Show expands an instruction for display. A command keeps its quotes and unknown
// variables. Text that cannot be expanded is returned unchanged.
func (l *Lexer) Show(source string, command bool, vars Vars) string {
	lex := &l.plain
	if command {
		lex = &l.show
	}
	w, err := expand(lex, source, vars)
	if err != nil {
		return source
	}
	return w.Text
}

func expand(lex *shell.Lex, word string, vars Vars) (Word, error) {
	if err := checkText(word); err != nil {
		return Word{Text: word}, err
	}
	b := &bounded{Vars: vars, left: maxExpansion}
	r, err := lex.ProcessWordWithMatches(word, b)
	return Word{r.Result, sorted(r.Matched), sorted(r.Unmatched)}, b.check(word, err)
}

// checkText returns an error for text that BuildKit's lexer would change, with a
// message on standard error.
func checkText(word string) error {
	switch {
	case !utf8.ValidString(word):
		return errors.New("the text is not valid UTF-8")
	case strings.ContainsRune(word, 0):
		return errors.New("the text contains a NUL character")
	}
	return nil
}

func sorted(set map[string]struct{}) []string {
	if len(set) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(set))
}

// bounded is a Vars that returns no more values once their total size exceeds
// maxExpansion.
type bounded struct {
	Vars
	left int
}

func (b *bounded) Get(name string) (string, bool) {
	v, ok := b.Vars.Get(name)
	if b.left -= len(v); b.left < 0 {
		return "", ok
	}
	return v, ok
}

// check returns the error of expanding a word, if any.
func (b *bounded) check(word string, err error) error {
	if b.left < 0 {
		return fmt.Errorf("the variables here expand to more than %d bytes", maxExpansion)
	}
	if err == nil {
		return nil
	}
	why := strings.TrimPrefix(err.Error(), fmt.Sprintf("failed to process %q: ", word))
	if end := strings.NewReplacer("(:", "(", "\n", "\uFFFD").Replace(why); strings.Contains(end, "(\uFFFD)") { // unexpected end of the word
		why = "syntax error: missing '}'"
	}
	why = strings.ReplaceAll(why, "'\\\uFFFD'", "at its end")
	return InBuildKit(fmt.Errorf("%q: %s", clip(word), why), err.Error())
}

// Expand returns an instruction with its variables expanded: words by word, the
// text of unquoted heredocs by raw. The other parts stay as they are, and so do
// EXPOSE and ARG, whose rules the caller has to apply.
func Expand(i Instruction, word, raw func(string) (string, error)) (Instruction, error) {
	e := expander{word: word, raw: raw}
	switch i := i.(type) {
	case *Add:
		c := *i
		e.files(&c.Files)
		e.one(&c.Checksum)
		return &c, e.err
	case *Copy:
		c := *i
		e.files(&c.Files)
		return &c, e.err
	case *Env:
		return &Env{i.Meta, e.pairs(i.Pairs)}, e.err
	case *Label:
		return &Label{i.Meta, e.pairs(i.Pairs)}, e.err
	case *Run:
		if i.flags == nil || len(i.Mounts) == 0 {
			return i, nil
		}
		c := *i
		var err error
		c.Mounts, err = i.flags.expand(word)
		return &c, err
	case *StopSignal:
		c := *i
		e.one(&c.Signal)
		return &c, e.err
	case *User:
		c := *i
		e.one(&c.Name)
		return &c, e.err
	case *Volume:
		return &Volume{i.Meta, e.all(i.Paths)}, e.err
	case *Workdir:
		c := *i
		e.one(&c.Path)
		return &c, e.err
	}
	return i, nil
}

// expander expands until the first error.
type expander struct {
	word, raw func(string) (string, error)
	err       error
}

func (e *expander) one(s *string) { e.with(e.word, s) }

func (e *expander) with(f func(string) (string, error), s *string) {
	if e.err == nil {
		*s, e.err = f(*s)
	}
}

func (e *expander) all(ss []string) []string {
	ss = slices.Clone(ss)
	for i := range ss {
		e.one(&ss[i])
	}
	return ss
}

func (e *expander) pairs(pp []Pair) []Pair {
	pp = slices.Clone(pp)
	for i := range pp {
		e.one(&pp[i].Key)
		e.one(&pp[i].Value)
	}
	return pp
}

func (e *expander) files(f *Files) {
	e.one(&f.Chown)
	e.one(&f.Chmod)
	f.Sources = e.all(f.Sources)
	e.one(&f.Dest)
	f.Inline = slices.Clone(f.Inline)
	for i := range f.Inline {
		if f.Inline[i].Expand {
			e.with(e.raw, &f.Inline[i].Data)
		}
	}
}
