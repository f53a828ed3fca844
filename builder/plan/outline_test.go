package plan

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/layer"
	"github.com/google/go-cmp/cmp"
)

func describing(t *testing.T, text, target string) Input {
	t.Helper()
	f, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return input(t, f, options{Target: target})
}

func rules(ww []Warning) string {
	var names []string
	for _, w := range ww {
		names = append(names, w.Rule)
	}
	return strings.Join(names, " ")
}

func TestCheckSeesAllStages(t *testing.T) {
	t.Parallel()
	const text = "FROM scratch AS a\nENV k v\nFROM scratch AS b\nCMD x\n"
	for target, want := range map[string]string{
		"":  "LegacyKeyValueFormat JSONArgsRecommended",
		"a": "LegacyKeyValueFormat",
		"b": "JSONArgsRecommended",
	} {
		ww, err := Check(t.Context(), describing(t, text, target))
		if got := rules(ww); err != nil || got != want {
			t.Errorf("target %q: got %s, %v; want %s", target, got, err, want)
		}
	}
}

func TestCheckWarnsBesideAnError(t *testing.T) {
	t.Parallel()
	ww, err := Check(t.Context(), describing(t, "FROM scratch\nENV k v\nSTOPSIGNAL NONE\nCMD x\n", ""))
	var e *dockerfile.Error
	if rules(ww) != "LegacyKeyValueFormat" || !errors.As(err, &e) || e.Ranges[0].First != 3 {
		t.Errorf("got %s, %v", rules(ww), err)
	}
	ww, err = Check(t.Context(), describing(t, "# check=error=true\nFROM scratch\nENV k v\n", ""))
	if rules(ww) != "LegacyKeyValueFormat" || err == nil {
		t.Errorf("as errors: got %s, %v", rules(ww), err)
	}
}

// Variables that an unknown base image may set are not reported as undefined.
func TestCheckWithoutBase(t *testing.T) {
	t.Parallel()
	in := describing(t, "FROM x AS a\nENV A=$B\nFROM a\nENV B=$C\nFROM scratch\nENV A=$B\n", "")
	in.Base = func(context.Context, string, layer.Platform) (layer.Image, error) { return layer.Image{}, nil }
	ww, err := Check(t.Context(), in)
	if err != nil || len(ww) != 1 || ww[0].Ranges[0].First != 6 {
		t.Errorf("got %v, %v", ww, err)
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	const text = `
# A is one
ARG A=1
ARG B=$A-$B
ARG UNUSED
FROM scratch AS tools
# OWN is the stage's
ARG OWN=o A
FROM --platform=linux/amd64 scratch AS ${X}other
# last it is
FROM tools AS last
ARG B
ARG TARGETOS
COPY --from=other / /
`
	out, err := Describe(t.Context(), describing(t, strings.ReplaceAll(text, "${X}", ""), ""))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range out.Args {
		got = append(got, a.Name+"="+a.Value+"("+a.Doc+")")
	}
	if want := "A=1(is one) B=1-() OWN=o(is the stage's)"; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if out.Name != "last" || out.Doc != "it is" {
		t.Errorf("got %q, %q", out.Name, out.Doc)
	}
}

func TestDescribeMounts(t *testing.T) {
	t.Parallel()
	var s, base stage
	run := func(line int) *dockerfile.Run {
		return &dockerfile.Run{Meta: dockerfile.Meta{Ranges: []dockerfile.Range{{First: line, Last: line}}}}
	}
	base.outline.mount(run(2), op.Mount{Type: "secret", ID: "a"}, "")
	s.base = &base
	s.outline.mount(run(4), op.Mount{Type: "cache"}, "/c")
	s.outline.mount(run(4), op.Mount{Type: "ssh", ID: "default", Required: true}, "")
	s.outline.mount(run(5), op.Mount{Type: "secret", ID: "b", Required: true}, "")
	s.outline.mount(run(6), op.Mount{Type: "secret", ID: "b"}, "")
	s.outline.mount(run(6), op.Mount{Type: "secret", ID: "a"}, "")
	var p scope
	out := p.describe(&s)
	want := &Outline{
		Secrets: []OutlineMount{{"b", true, []dockerfile.Range{{First: 5, Last: 5}}}, {"a", false, []dockerfile.Range{{First: 6, Last: 6}}}},
		SSH:     []OutlineMount{{"default", true, []dockerfile.Range{{First: 4, Last: 4}}}},
		Caches:  []OutlineMount{{"/c", false, []dockerfile.Range{{First: 4, Last: 4}}}},
	}
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
}
