package builder

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGraph(t *testing.T) {
	b, targets := application(t, newHub(t))
	s := b.session(options{})
	defer s.Close()
	g, err := s.Graph(t.Context(), targets...)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, step := range g.Steps {
		fmt.Fprintln(&got, step.Name, step.Targets, step.Inputs)
	}
	fmt.Fprintln(&got, g.Targets)
	want := `[base 1/1] COPY shared / [web api] []
[web 1/1] COPY web / [web] [0]
[api 1/1] COPY api / [api] [0]
[{web [1]} {api [2]}]
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A target has changed if the store lacks the result of one of its steps.
func TestChanged(t *testing.T) {
	b, targets := application(t, newHub(t))
	s := b.session(options{})
	defer s.Close()
	check := func(want ...string) {
		t.Helper()
		got, err := s.Changed(t.Context(), targets...)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	check("[base 1/1] COPY shared /", "[base 1/1] COPY shared /")
	if _, err := s.Build(t.Context(), targets...); err != nil {
		t.Fatal(err)
	}
	check("", "")
	put(t, filepath.Join(targets[1].Context, "api"), []byte("another"))
	check("", "[api 1/1] COPY api /")
	targets[0].NoCache = true
	check("[base 1/1] COPY shared /", "[api 1/1] COPY api /")
}

func TestLintOfLinkedTarget(t *testing.T) {
	b := newBuilder(t, nil)
	s := b.session(options{})
	defer s.Close()
	targets := linkedTargets(t, "FROM parent\nMAINTAINER me\n")
	got, err := s.Lint(t.Context(), targets[0])
	if err != nil || got.Err != nil {
		t.Fatalf("%v, %v", err, got)
	}
	if len(got.Warnings) != 1 || got.Warnings[0].Rule != "MaintainerDeprecated" {
		t.Errorf("warnings %v", got.Warnings)
	}
}
