package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

func TestTargetErrors(t *testing.T) {
	t.Parallel()
	const text = "FROM scratch AS build\nLABEL at=0\nFROM scratch AS compile\nLABEL at=1\nFROM scratch\nLABEL at=2\n"
	for target, want := range map[string]string{
		"": "2", "build": "0", "BUILD": "0", "compile": "1", "0": "0", "1": "1", "2": "2", "+1": "1",
	} {
		p, err := makePlan(t, text, fmt.Sprintf(`{"Target":%q}`, target))
		if err != nil {
			t.Errorf("target %q: %v", target, err)
		} else if got := p.Config.Config.Labels["at"]; got != want {
			t.Errorf("target %q is stage %s, want %s", target, got, want)
		}
	}
	for target, want := range map[string]string{
		"biuld":   `Dockerfile: target stage "biuld" could not be found (did you mean build?)`,
		"3":       `Dockerfile: target stage "3" could not be found: cairn build --call=targets lists them`,
		"-1":      `Dockerfile: target stage "-1" could not be found: cairn build --call=targets lists them`,
		"unalike": `Dockerfile: target stage "unalike" could not be found: cairn build --call=targets lists them`,
	} {
		if _, err := makePlan(t, text, fmt.Sprintf(`{"Target":%q}`, target)); err == nil || err.Error() != want {
			t.Errorf("target %q: error %v, want %s", target, err, want)
		}
	}
}

// A stage whose name is also a number of a stage is found by name first.
func TestStageNames(t *testing.T) {
	t.Parallel()
	inputOf := func(t *testing.T, p *Plan) string {
		t.Helper()
		return p.Root.In[1].Step.Op
	}
	workdir := func(dir string) string { return fmt.Sprintf(`{"op":"workdir","path":%q}`, dir) }
	checkPlans(t, inputOf, []planCase{
		{name: "by name", text: "FROM scratch AS a\nWORKDIR /a\nFROM scratch\nCOPY --from=a x /\n", want: workdir("/a")},
		{name: "by name in another case", text: "FROM scratch AS a\nWORKDIR /a\nFROM scratch\nCOPY --from=A x /\n", want: workdir("/a")},
		{name: "by number", text: "FROM scratch AS a\nWORKDIR /a\nFROM scratch\nCOPY --from=0 x /\n", want: workdir("/a")},
		{name: "the later of one name", text: "FROM scratch AS a\nWORKDIR /1\nFROM scratch AS a\nWORKDIR /2\nFROM scratch\nCOPY --from=a x /\n", want: workdir("/2")},
		{name: "mount by name", text: "FROM scratch AS a\nWORKDIR /a\nFROM scratch\nRUN --mount=from=a,target=/m x\n", want: workdir("/a")},
		{name: "the stage itself by number", text: "FROM scratch\nCOPY --from=0 x /\n", err: "Dockerfile:2: circular dependency detected on stage: stage-0"},
		{name: "negative number", text: "FROM scratch\nCOPY --from=-1 x /\n", err: "Dockerfile:2: invalid stage index -1"},
		{name: "later stage of a mount", text: "FROM scratch AS a\nRUN --mount=from=b,target=/m x\nFROM scratch AS b\nFROM a\n",
			err: `Dockerfile:2: cannot mount from stage "b" to "/m", stage needs to be defined before current command`},
		{name: "variable", text: "ARG F=a\nFROM scratch AS a\nFROM scratch\nCOPY --from=$F x /\n",
			err: "Dockerfile:4: variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"},
		{name: "syntax", text: "FROM scratch\nCOPY --from=${F x /\n", err: `Dockerfile:2: "${F": syntax error: missing '}'`},
	})
}

// A stage that the target does not need is neither planned nor checked beyond its
// FROM and --from.
func TestUnneededStages(t *testing.T) {
	t.Parallel()
	names := func(_ *testing.T, p *Plan) string {
		var list []string
		for _, s := range p.Stages {
			list = append(list, s.Name)
		}
		return strings.Join(list, " ")
	}
	checkPlans(t, names, []planCase{
		{name: "missing image", text: "FROM missing AS a\nFROM scratch AS b\n", want: "b"},
		{name: "bad instruction", text: "FROM scratch AS a\nSTOPSIGNAL NONE\nFROM scratch AS b\n", want: "b"},
		{name: "needed by copy and base", text: "FROM scratch AS a\nFROM scratch AS b\nCOPY --from=a / /\nFROM scratch AS c\nFROM b AS d\n", want: "a b d"},
		{name: "needed by a mount", text: "FROM scratch AS a\nFROM scratch AS b\nRUN --mount=from=a,target=/a x\n", want: "a b"},
		{name: "after the target", text: "FROM scratch AS a\nFROM a AS b\n", options: `{"Target":"a"}`, want: "a"},
		{name: "bad image name", text: "FROM Missing AS a\nFROM scratch AS b\n", err: `Dockerfile:1: image reference "Missing": the name must be lower case: missing`},
		{name: "bad stage number", text: "FROM scratch AS a\nCOPY --from=7 a b\nFROM scratch AS b\n", err: "Dockerfile:2: invalid stage index 7"},
		{name: "circle", text: "FROM scratch AS a\nCOPY --from=1 / /\nFROM scratch AS b\nCOPY --from=a / /\nFROM scratch\n",
			err: "Dockerfile:2: circular dependency detected on stage: a"},
		{name: "circle by a number and a mount", text: "FROM scratch\nCOPY --from=1 / /\nFROM scratch\nRUN --mount=from=0,target=/m x\nCOPY --from=0 / /\n",
			err: "Dockerfile:2: circular dependency detected on stage: stage-0"},
	})
}

// The lines of a circle are those of the instructions that make it, in its order.
func TestCircleRanges(t *testing.T) {
	t.Parallel()
	_, err := makePlan(t, "FROM scratch AS a\nLABEL x=1\nCOPY --from=2 / /\nFROM scratch AS b\nCOPY --from=0 / /\nFROM scratch AS c\nCOPY --from=b / /\n", "")
	var e *dockerfile.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want one with lines", err)
	}
	var lines []int
	for _, r := range e.Ranges {
		lines = append(lines, r.First)
	}
	if got := fmt.Sprint(lines); got != "[3 7 5]" {
		t.Errorf("the error shows lines %s, want [3 7 5]: %v", got, err)
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	a, b, c, other := &stage{name: "a"}, &stage{name: "b"}, &stage{name: "c"}, &stage{name: "other"}
	b.base = a
	c.deps = []dep{{on: b}, {on: a}, {on: b}}
	other.base = c
	got := reachable(c)
	if len(got) != 3 || !got[a] || !got[b] || !got[c] {
		t.Errorf("reachable from c: %v", got)
	}
	var order []string
	for _, s := range inNeed(c) {
		order = append(order, s.name)
	}
	if got := strings.Join(order, " "); got != "c b a" {
		t.Errorf("in the order of need: %s", got)
	}
	g := &stageGraph{stages: []*stage{a, b, c, other}, all: true}
	if got := g.needed(a); len(got) != 4 {
		t.Errorf("%d of all stages are needed, want 4", len(got))
	}
}

func TestStepNames(t *testing.T) {
	t.Parallel()
	checkPlans(t, nameView, []planCase{
		{name: "one stage has no name", text: "FROM scratch AS a\nWORKDIR /w\nENV A=1\nCOPY $A /\n", want: "[1/2] WORKDIR /w\n[2/2] COPY 1 /\n"},
		{name: "a mount names the stage", text: "FROM busybox\nRUN --mount=type=cache,target=/c x\n", want: "[stage-0 1/2] FROM docker.io/library/busybox:latest@sha256:d\n[stage-0 2/2] RUN --mount=type=cache,target=/c x\n"},
		{name: "width of ten steps", text: "FROM scratch\n" + strings.Repeat("WORKDIR /w\n", 10), want: wide(10)},
		{name: "multi-platform", text: "FROM busybox AS a\nRUN x\n", options: `{"Multi":true}`, want: "[linux/amd64 1/2] FROM docker.io/library/busybox:latest@sha256:d\n[linux/amd64 2/2] RUN x\n"},
		{name: "lower-case keyword", text: "FROM scratch\nworkdir /w\n", want: "[1/1] WORKDIR /w\n"},
		{name: "unset variable", text: "FROM scratch\nARG A\nCOPY a$A /\n", want: "[1/1] COPY a /\n"},
		{name: "copied image", text: "FROM scratch\nCOPY --from=debian:12 / /\n",
			want: "FROM docker.io/library/debian:12@sha256:d\n[stage-0 1/1] COPY --from=debian:12 / /\n"},
		{name: "heredoc", text: "FROM busybox\nRUN <<E\na\nb\nE\n", want: "[1/2] FROM docker.io/library/busybox:latest@sha256:d\n[2/2] RUN <<E (a...)\n"},
		{name: "digest", text: "FROM scratch\nFROM busybox AS b\nFROM b\nFROM b\n", want: "[b 1/1] FROM docker.io/library/busybox:latest@sha256:d\n"},
	})
}

func wide(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[%2d/%d] WORKDIR /w\n", i+1, n)
	}
	return b.String()
}
