package plan

import (
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/layer"
)

// graph returns the stages of a Dockerfile, without bases from a registry.
func graph(t *testing.T, text string) *planner {
	t.Helper()
	f, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p := newPlanner(Input{File: f})
	if err := p.readStages(); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTarget(t *testing.T) {
	t.Parallel()
	g := graph(t, "FROM a AS one\nFROM one AS two\nFROM b\n")
	for name, want := range map[string]int{"": 2, "one": 0, "TWO": 1, "0": 0, "2": 2} {
		if s, err := g.target(name); err != nil || s.index != want {
			t.Errorf("target %q: %+v, %v; want stage %d", name, s, err, want)
		}
	}
	for _, name := range []string{"three", "3", "-1"} {
		if s, err := g.target(name); err == nil {
			t.Errorf("target %q: stage %d", name, s.index)
		}
	}
	if _, err := g.target("tow"); err == nil || !strings.Contains(err.Error(), "did you mean two?") {
		t.Errorf("got %v", err)
	}
}

func TestNeeded(t *testing.T) {
	t.Parallel()
	g := graph(t, "FROM x AS a\nFROM x AS b\nFROM a\nCOPY --from=y / /\nRUN --mount=from=b,target=/b true\nFROM x\n")
	if err := g.link(); err != nil {
		t.Fatal(err)
	}
	target, err := g.target("2")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range g.stages {
		if g.needed(target)[s] {
			names = append(names, s.baseName+" "+s.name)
		}
	}
	if got, want := strings.Join(names, ","), "x a,x b,a stage-2,y "; got != want {
		t.Errorf("needed: %s, want %s", got, want)
	}
}

func TestCircles(t *testing.T) {
	t.Parallel()
	g := graph(t, "FROM x AS a\nCOPY --from=b / /\nFROM x AS b\nCOPY --from=a / /\n")
	if err := g.link(); err == nil || !strings.Contains(err.Error(), "circular dependency detected on stage: a") {
		t.Errorf("got %v", err)
	}
}

func TestSourceSteps(t *testing.T) {
	t.Parallel()
	s := newSourceSteps()
	if first, again := s.context("a"), s.context("a"); first != again || first == s.context("") {
		t.Error("contexts of one name must share a step, others must not")
	}
	want := layer.FromBytes(nil)
	if first, again := s.remoteStep(op.NewHTTP("http://u:1@h/f", want)), s.remoteStep(op.NewHTTP("http://u:1@h/f", want)); first != again {
		t.Error("equal downloads are different steps")
	}
	if s.remoteStep(op.NewHTTP("http://u:1@h/f", want)) == s.remoteStep(op.NewHTTP("http://u:2@h/f", want)) {
		t.Error("downloads with different credentials share a step")
	}
}

func TestScope(t *testing.T) {
	t.Parallel()
	f, err := dockerfile.Parse("Dockerfile", []byte("ARG A=1\nARG B=$A-$TARGETARCH\nARG C\nFROM x\n"))
	if err != nil {
		t.Fatal(err)
	}
	in := Input{File: f, Args: map[string]string{"C": "3", "D": "4", "http_proxy": "p", "BUILDKIT_X": "x"}}
	s := newScope(in, layer.Platform{OS: "linux", Architecture: "arm64"})
	if err := s.readGlobals(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"A": "1", "B": "1-arm64", "C": "3", "TARGETPLATFORM": "linux/arm64", "TARGETSTAGE": "default"} {
		if got, ok := s.globals.Get(name); !ok || got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if w := s.unused(nil); len(w) != 1 || w[0].Detail != "One or more build-args [D] were not consumed" {
		t.Errorf("warnings: %+v", w)
	}
}
