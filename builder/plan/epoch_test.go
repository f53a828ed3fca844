package plan

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// epochOf plans with a fake of the times of sources, and returns the epoch, or -1.
func epochOf(t *testing.T, text string, o options, seen *EpochSource) (int64, error) {
	t.Helper()
	in := input(t, parse(t, text), o)
	in.EpochOf = func(_ context.Context, s EpochSource) (*int64, error) {
		*seen = s
		at := int64(77)
		return &at, nil
	}
	p, err := Make(t.Context(), in)
	if err != nil || p.Epoch == nil {
		return -1, err
	}
	return *p.Epoch, nil
}

func TestEpochPrecedence(t *testing.T) {
	t.Parallel()
	five := int64(5)
	const global = "ARG SOURCE_DATE_EPOCH=7\nFROM scratch\n"
	arg := func(v string) map[string]string { return map[string]string{epochName: v} }
	for _, test := range []struct {
		name, text string
		options    options
		want       int64
	}{
		{"none", "FROM scratch\n", options{}, -1},
		{"default of a global ARG", global, options{}, 7},
		{"build argument before the default", global, options{Args: arg("6")}, 6},
		{"option before both", global, options{Args: arg("6"), Epoch: &five}, 5},
		{"an empty argument is none", global, options{Args: arg("")}, -1},
		{"option with an empty argument", global, options{Args: arg(""), Epoch: &five}, 5},
		{"argument without an ARG", "FROM scratch\n", options{Args: arg("6")}, 6},
		{"ARG of a stage is only a variable", "FROM scratch\nARG SOURCE_DATE_EPOCH=7\n", options{}, -1},
		{"before 1970", "FROM scratch\n", options{Args: arg("-1")}, -1},
		{"zero", "FROM scratch\n", options{Args: arg("0")}, 0},
	} {
		got, err := epochOf(t, test.text, test.options, new(EpochSource))
		if err != nil || got != test.want {
			t.Errorf("%s: %d, %v, want %d", test.name, got, err, test.want)
		}
	}
}

// The argument has the number, also if it was the name of a source.
func TestEpochVariable(t *testing.T) {
	t.Parallel()
	const text = "ARG SOURCE_DATE_EPOCH\nFROM scratch\nARG SOURCE_DATE_EPOCH\nENV A=x$SOURCE_DATE_EPOCH\n"
	checkPlans(t, envView, []planCase{
		{name: "argument", text: text, options: `{"Args":{"SOURCE_DATE_EPOCH":"0042"}}`, want: "A=x42"},
		{name: "option replaces the argument", text: text, options: `{"Epoch":5,"Args":{"SOURCE_DATE_EPOCH":"6"}}`, want: "A=x5"},
		{name: "option alone sets no argument", text: text, options: `{"Epoch":5}`, want: "A=x"},
		{name: "source", text: text, options: `{"Args":{"SOURCE_DATE_EPOCH":"context"}}`, want: "A=x1000"},
	})
}

func TestEpochSources(t *testing.T) {
	t.Parallel()
	const stages = "FROM scratch AS web\nADD https://e.com/a /\nFROM scratch AS git\nARG REF=v1\nADD --keep-git-dir=true --checksum=abc https://e.com/a.git#$REF /\nFROM scratch\n"
	for _, test := range []struct {
		name, value string
		want        EpochSource
	}{
		{"main context", "context", EpochSource{Context: "context"}},
		{"named context", "files", EpochSource{Context: "files"}},
		{"URL", "web", EpochSource{Remote: &Remote{URL: "https://e.com/a"}}},
		{"case of the stage's name", "WEB", EpochSource{Remote: &Remote{URL: "https://e.com/a"}}},
		{"repository", "git", EpochSource{Remote: &Remote{URL: "https://e.com/a.git#v1", Checksum: "abc", KeepGitDir: true}}},
	} {
		var seen EpochSource
		got, err := epochOf(t, stages, options{Args: map[string]string{epochName: test.value}, Named: map[string]string{"files": ""}}, &seen)
		if err != nil || got != 77 {
			t.Errorf("%s: %d, %v", test.name, got, err)
		}
		if diff := cmp.Diff(test.want, seen); diff != "" {
			t.Errorf("%s: asked for (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestEpochErrors(t *testing.T) {
	t.Parallel()
	const stage = "Dockerfile:1: SOURCE_DATE_EPOCH=src: the stage must be FROM scratch and one ADD of a URL or a git repository"
	const use = `{"Args":{"SOURCE_DATE_EPOCH":"src"}}`
	checkPlans(t, rootView, []planCase{
		{name: "empty stage", text: "FROM scratch AS src\n", options: use, err: stage},
		{name: "two sources", text: "FROM scratch AS src\nADD https://e.com/a https://e.com/b /\n", options: use, err: stage},
		{name: "heredoc", text: "FROM scratch AS src\nADD <<a /\nx\na\n", options: use, err: stage},
		{name: "COPY", text: "FROM scratch AS src\nCOPY a /\n", options: use, err: stage},
		{name: "after the year 9999", text: "ARG SOURCE_DATE_EPOCH=253402300800\nFROM scratch\n", options: `{}`,
			err: "SOURCE_DATE_EPOCH=253402300800: want seconds since 1970, at most 253402300799 (in the year 9999)"},
		{name: "fraction", text: "FROM scratch\n", options: `{"Args":{"SOURCE_DATE_EPOCH":"1.5"}}`,
			err: "SOURCE_DATE_EPOCH=1.5: want seconds since 1970, the word context, the name of a --build-context, or the name of a stage that consists of one ADD from the network"},
		{name: "syntax of a base", text: "FROM ${ AS src\n", options: use, err: `Dockerfile:1: SOURCE_DATE_EPOCH=src: "${": syntax error: missing '}'`},
		{name: "syntax of a URL", text: "FROM scratch AS src\nADD https://e.com/${ /\n", options: use, err: `Dockerfile:1: SOURCE_DATE_EPOCH=src: "https://e.com/${": syntax error: missing '}'`},
		{name: "syntax of a checksum", text: "FROM scratch AS src\nADD --checksum=${ https://e.com/a /\n", options: use, err: `Dockerfile:1: SOURCE_DATE_EPOCH=src: "${": syntax error: missing '}'`},
		{name: "syntax of a default", text: "FROM scratch AS src\nARG A=${\nADD https://e.com/a /\n", options: use, err: `Dockerfile:1: SOURCE_DATE_EPOCH=src: "${": syntax error: missing '}'`},
	})
	in := input(t, parse(t, "FROM scratch AS src\nADD https://e.com/a /\n"), options{Args: map[string]string{epochName: "src"}})
	in.EpochOf = func(context.Context, EpochSource) (*int64, error) { return nil, errors.New("no route to host") }
	if _, err := Make(t.Context(), in); err == nil || err.Error() != "Dockerfile:1: SOURCE_DATE_EPOCH=src: no route to host" {
		t.Errorf("error of the source: %v", err)
	}
	in.EpochOf = nil
	if _, err := Make(t.Context(), in); err == nil || !strings.Contains(err.Error(), "the time of a source is not available here") {
		t.Errorf("without EpochOf: %v", err)
	}
}

// The stage that gives the time does not see SOURCE_DATE_EPOCH, which would be its own
// name.
func TestEpochStageHasNoEpoch(t *testing.T) {
	t.Parallel()
	var seen EpochSource
	_, err := epochOf(t, "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD https://e.com/a$SOURCE_DATE_EPOCH /\n", options{}, &seen)
	if err != nil || seen.Remote == nil || seen.Remote.URL != "https://e.com/a" {
		t.Errorf("asked for %+v, %v", seen.Remote, err)
	}
}
