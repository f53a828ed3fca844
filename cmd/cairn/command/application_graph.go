package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/progress"
)

// printGraph prints the steps of the targets as text or, in the format dot, for Graphviz.
func (a *application) printGraph(ctx context.Context, selection *bake.Selection, format string) error {
	if err := a.prepare(selection); err != nil {
		return err
	}
	var graph *builder.Graph
	err := a.withRegistries(a.registries, progress.Mode(a.progress), func(env *environment) error {
		s, err := env.session(a.session)
		if err != nil {
			return err
		}
		defer s.Close()
		graph, err = s.Graph(ctx, a.builderTargets()...)
		return cause(ctx, a.ofOnly(err))
	})
	if err != nil {
		return a.explain(err)
	}
	var text bytes.Buffer
	if format == "dot" {
		writeDot(&text, graph)
	} else {
		writeGraph(&text, graph)
	}
	_, err = a.Stdout.Write(text.Bytes())
	return err
}

// writeGraph writes the steps of each target. Those that several targets share are
// listed first.
func writeGraph(w io.Writer, g *builder.Graph) {
	shared := 0
	for _, s := range g.Steps {
		if len(s.Targets) > 1 {
			shared++
			if shared == 1 {
				fmt.Fprintln(w, "shared steps:")
			}
			fmt.Fprintf(w, "  %s (%s)\n", s.Name, strings.Join(s.Targets, ", "))
		}
	}
	for _, t := range g.Targets {
		fmt.Fprintf(w, "%s:\n", t.Name)
		for _, s := range g.Steps {
			if slices.Equal(s.Targets, []string{t.Name}) {
				fmt.Fprintf(w, "  %s\n", s.Name)
			}
		}
	}
	fmt.Fprintf(w, "%s of %s, %d of them shared\n", counted(len(g.Steps), "step"), counted(len(g.Targets), "target"), shared)
}

// counted returns a number with its noun, as in "2 steps".
func counted(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// writeDot writes the graph in Graphviz's language: steps are boxes, and those that
// targets share are filled.
func writeDot(w io.Writer, g *builder.Graph) {
	fmt.Fprintln(w, "digraph targets {\n  rankdir=BT\n  node [shape=box]")
	for i, s := range g.Steps {
		style := ""
		if len(s.Targets) > 1 {
			style = " style=filled fillcolor=lightblue tooltip=" + strconv.Quote(strings.Join(s.Targets, ", "))
		}
		fmt.Fprintf(w, "  s%d [label=%s%s]\n", i, strconv.Quote(s.Name), style)
		for _, in := range s.Inputs {
			fmt.Fprintf(w, "  s%d -> s%d\n", i, in)
		}
	}
	for i, t := range g.Targets {
		fmt.Fprintf(w, "  t%d [label=%s shape=ellipse]\n", i, strconv.Quote(t.Name))
		for _, root := range t.Roots {
			fmt.Fprintf(w, "  t%d -> s%d\n", i, root)
		}
	}
	fmt.Fprintln(w, "}")
}

// keepChanged removes the targets all of whose steps are known, and tells why the others
// are built. A removed target that another one builds on is built without outputs.
func (a *application) keepChanged(ctx context.Context, s *builder.Session) error {
	changed, err := s.Changed(ctx, a.builderTargets()...)
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	for i, m := range a.targets {
		if changed[i] != "" {
			fmt.Fprintf(a.Stderr, "changed %s: %s\n", m.name, changed[i])
			m.need(a.targets, needed)
		}
	}
	for _, to := range a.caches { // an export has the steps of all its targets
		if slices.ContainsFunc(to.Targets, func(name string) bool { return a.hasChanged(name, changed) }) {
			for _, name := range to.Targets {
				needed[name] = true
			}
		}
	}
	var kept []*appTarget
	for i, m := range a.targets {
		switch {
		case changed[i] != "":
			kept = append(kept, m)
		case needed[m.name] || a.session.LinkTags:
			o := &m.options
			m.outputs, o.Outputs, o.NoStore, m.load = []option.Output{{Type: "cacheonly"}}, []builder.Output{{Type: "cacheonly"}}, true, nil
			kept = append(kept, m)
		default:
			fmt.Fprintf(a.Stderr, "unchanged %s\n", m.name)
		}
	}
	a.targets = kept
	return nil
}

func (a *application) hasChanged(name string, changed []string) bool {
	i := slices.IndexFunc(a.targets, func(m *appTarget) bool { return m.name == name })
	return i >= 0 && changed[i] != ""
}

// need adds the targets that m builds on.
func (m *appTarget) need(all []*appTarget, needed map[string]bool) {
	for _, c := range m.options.Contexts {
		name, ok := strings.CutPrefix(c.Value, "target:")
		if !ok || needed[name] {
			continue
		}
		needed[name] = true
		for _, other := range all {
			if other.name == name {
				other.need(all, needed)
			}
		}
	}
}
