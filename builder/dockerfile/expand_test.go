package dockerfile

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vars are variables for tests.
type vars map[string]string

func (v vars) Get(k string) (string, bool) { s, ok := v[k]; return s, ok }
func (v vars) Keys() []string              { return nil }

func TestWord(t *testing.T) {
	t.Parallel()
	f := &File{Escape: '\\'}
	lex := f.Lexer()
	e := vars{"A": "abc", "E": "", "P": "/usr/local/bin"}
	for _, c := range []struct {
		in   string
		want Word
		err  string
	}{
		{in: "$A-${A}", want: Word{Text: "abc-abc", Set: []string{"A"}}},
		{in: `'$A' "$A" \$A "\$A"`, want: Word{Text: `$A abc $A $A`, Set: []string{"A"}}},
		{in: "$Z$Y$A", want: Word{Text: "abc", Set: []string{"A"}, Missing: []string{"Y", "Z"}}},
		{in: "${Z:-z}${E:-e}${E-x}${A:+y}${Z+n}", want: Word{Text: "zey", Set: []string{"A", "E"}, Missing: []string{"Z"}}},
		{in: "${P##*/} ${P%/*} ${P#/} ${P/local/x}", want: Word{Text: "bin /usr/local usr/local/bin /usr/x/bin", Set: []string{"P"}}},
		{in: "${Z?needed}", err: `"${Z?needed}": Z: needed`},
		{in: "${E:?}", err: `"${E:?}": E: is not allowed to be empty`},
		{in: "${A", err: `"${A": syntax error: missing '}'`},
		{in: "${}", err: `"${}": syntax error: bad substitution`},
		{in: "'a", err: `"'a": unexpected end of statement while looking for matching single-quote`},
	} {
		got, err := lex.Word(c.in, e)
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: got error %v, want %s", c.in, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.in, diff)
		}
	}
}

func TestRawKeepsQuotes(t *testing.T) {
	t.Parallel()
	lex := (&File{Escape: '`'}).Lexer()
	got, err := lex.Raw(`"$A" '$A' \$A`, vars{"A": "1"})
	if want := `"1" '1' $A`; err != nil || got.Text != want {
		t.Errorf("got %q, %v; want %q", got.Text, err, want)
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	lex := (&File{Escape: '\\'}).Lexer()
	e := vars{"A": "1"}
	for _, c := range []struct {
		in      string
		command bool
		want    string
	}{
		{`run echo "$A" $B ${C:-x} \$A`, true, `run echo "1" $B ${C:-x} \$A`},
		{`COPY "$A" $B /`, false, `COPY 1  /`},
		{`RUN echo 'it`, true, `RUN echo 'it`},
	} {
		if got := lex.Show(c.in, c.command, e); got != c.want {
			t.Errorf("%s: got %s, want %s", c.in, got, c.want)
		}
	}
}

func TestExpansionIsBounded(t *testing.T) {
	t.Parallel()
	lex := (&File{Escape: '\\'}).Lexer()
	e := vars{"A": strings.Repeat("x", maxExpansion/2)}
	if _, err := lex.Word("$A$A", e); err != nil {
		t.Errorf("at the bound: %v", err)
	}
	if _, err := lex.Word("$A$A$A", e); err == nil {
		t.Error("beyond the bound: no error")
	}
	if _, err := lex.Words("$A $A $A", e); err == nil {
		t.Error("words beyond the bound: no error")
	}
}

// Expand does not change its argument.
func TestExpand(t *testing.T) {
	t.Parallel()
	double := func(s string) (string, error) { return s + s, nil }
	raw := func(s string) (string, error) { return strings.ToUpper(s), nil }
	x := "x"
	for _, c := range []struct{ in, same, want Instruction }{
		{&Env{Pairs: []Pair{{Key: "a", Value: "b"}}}, &Env{Pairs: []Pair{{Key: "a", Value: "b"}}}, &Env{Pairs: []Pair{{Key: "aa", Value: "bb"}}}},
		{&Label{Pairs: []Pair{{Key: "a", Value: "b"}}}, &Label{Pairs: []Pair{{Key: "a", Value: "b"}}}, &Label{Pairs: []Pair{{Key: "aa", Value: "bb"}}}},
		{&Volume{Paths: []string{"a"}}, &Volume{Paths: []string{"a"}}, &Volume{Paths: []string{"aa"}}},
		{&User{Name: "a"}, &User{Name: "a"}, &User{Name: "aa"}},
		{&Workdir{Path: "a"}, &Workdir{Path: "a"}, &Workdir{Path: "aa"}},
		{&StopSignal{Signal: "a"}, &StopSignal{Signal: "a"}, &StopSignal{Signal: "aa"}},
		{&Add{Checksum: "c"}, &Add{Checksum: "c"}, &Add{Checksum: "cc"}},
		{
			&Copy{From: "f", Files: files("a", "b")}, &Copy{From: "f", Files: files("a", "b")},
			&Copy{From: "f", Files: Files{
				Sources: []string{"aa"}, Dest: "aa", Chown: "aa", Chmod: "aa", Exclude: []string{"a"},
				Inline: []Heredoc{{Name: "n", Data: "B", Expand: true}, {Name: "n", Data: "b"}},
			}},
		},
		{&Arg{Args: []ArgPair{{Key: "a", Value: &x}}}, &Arg{Args: []ArgPair{{Key: "a", Value: &x}}}, &Arg{Args: []ArgPair{{Key: "a", Value: &x}}}},
		{&Cmd{CommandLine: CommandLine{Args: []string{"a"}}}, &Cmd{CommandLine: CommandLine{Args: []string{"a"}}}, &Cmd{CommandLine: CommandLine{Args: []string{"a"}}}},
	} {
		got, err := Expand(c.in, double, raw)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%T: %s", c.in, diff)
		}
		if diff := cmp.Diff(c.same, c.in); diff != "" {
			t.Errorf("%T was changed: %s", c.in, diff)
		}
	}
}

func files(word, text string) Files {
	return Files{
		Sources: []string{word}, Dest: word, Chown: word, Chmod: word, Exclude: []string{word},
		Inline: []Heredoc{{Name: "n", Data: text, Expand: true}, {Name: "n", Data: text}},
	}
}
