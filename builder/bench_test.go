package builder

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkPlan plans 500 targets that share half of their steps.
func BenchmarkPlan(b *testing.B) {
	var text strings.Builder
	text.WriteString("FROM scratch AS base\n")
	for i := range 10 {
		fmt.Fprintf(&text, "ENV A%d=1\nCOPY f /f%d\n", i, i)
	}
	text.WriteString("FROM base\nARG N\n")
	for i := range 10 {
		fmt.Fprintf(&text, "RUN echo $N %d\n", i)
	}
	dir := b.TempDir()
	put(b, dir+"/Dockerfile", []byte(text.String()))
	put(b, dir+"/f", []byte("text"))
	var targets []Target
	for i := range 500 {
		targets = append(targets, Target{Name: fmt.Sprintf("t%d", i), Context: dir, Args: map[string]string{"N": fmt.Sprint(i)}})
	}
	env := newBuilder(b, nil)
	s := env.session(options{})
	defer s.Close()
	for b.Loop() {
		g, err := s.Graph(b.Context(), targets...)
		if err != nil {
			b.Fatal(err)
		}
		if n := len(g.Steps); n != 10+500*10 {
			b.Fatalf("%d steps", n)
		}
	}
}

// BenchmarkEqualTargets builds one target, and eight equal ones, whose layer is 16 MiB of
// files.
func BenchmarkEqualTargets(b *testing.B) {
	dir := b.TempDir()
	put(b, dir+"/Dockerfile", []byte("FROM scratch\nCOPY d /d\n"))
	for i := range 64 {
		put(b, fmt.Sprintf("%s/d/%d", dir, i), []byte(strings.Repeat(fmt.Sprintf("%d text of a file\n", i), 16<<10)))
	}
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var targets []Target
			for i := range n {
				t := Target{Name: fmt.Sprintf("t%d", i), Context: dir, NoCache: true}
				t.Tags = []string{fmt.Sprintf("image%d", i)}
				targets = append(targets, t)
			}
			env := newBuilder(b, nil)
			s := env.session(options{})
			defer s.Close()
			for b.Loop() {
				if _, err := s.Build(b.Context(), targets...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
