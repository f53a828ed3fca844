package plan

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

// stageGraph holds the stages of a Dockerfile, the images that --from names, and
// the dependencies between them.
type stageGraph struct {
	*scope
	stages []*stage
	byName map[string]*stage
	all    bool // all stages are needed, not only those of the target
}

// add appends a stage. Only later stages can refer to it by name.
func (g *stageGraph) add(s *stage) {
	g.stages = append(g.stages, s)
	s.base = g.byName[s.baseName]
}

// target returns the stage with a name or index; "" is the last one.
func (g *stageGraph) target(name string) (*stage, error) {
	n := len(g.file.Stages)
	if name == "" {
		return g.stages[n-1], nil
	}
	if s, ok := g.byName[strings.ToLower(name)]; ok {
		return s, nil
	}
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < n {
		return g.stages[i], nil
	}
	failed := &StageError{Name: name, names: g.names()}
	for _, s := range g.file.Stages {
		if s.As != "" {
			failed.Stages = append(failed.Stages, s.As)
		}
	}
	return nil, g.file.At(failed)
}

// StageError reports that a Dockerfile does not have the stage to build.
type StageError struct {
	Name   string
	Stages []string // of the Dockerfile that have names
	names  []string // of stages and images
}

func (e *StageError) Error() string {
	err := fmt.Errorf("target stage %q could not be found", e.Name)
	if dockerfile.Suggest(e.Name, e.names) == "" {
		return err.Error() + ": cairn build --call=targets lists them"
	}
	return dockerfile.DidYouMean(err, e.Name, e.names).Error()
}

func (g *stageGraph) names() []string {
	var names []string
	for _, s := range g.stages {
		if s.name != "" {
			names = append(names, s.name)
		}
	}
	return names
}

// link resolves --from of all instructions, and returns an error for circular
// dependencies.
func (g *stageGraph) link() error {
	for _, s := range g.stages {
		for i := range s.commands {
			if err := g.linkCommand(s, &s.commands[i]); err != nil {
				return g.file.At(err, s.commands[i].Info().Ranges...)
			}
		}
	}
	if err := g.checkCircles(); err != nil {
		return err
	}
	// BuildKit leaves the stage's name out of step names if there is only one stage. It
	// counts a --mount as another stage, even without a from.
	if len(g.stages) == 1 && !slices.ContainsFunc(g.stages[0].commands, command.mountsAny) {
		g.stages[0].name = ""
	}
	return nil
}

func (g *stageGraph) linkCommand(s *stage, c *command) error {
	switch in := c.Instruction.(type) {
	case *dockerfile.Copy:
		if in.From == "" {
			return nil
		}
		from, err := g.copyFrom(in)
		if err != nil {
			return err
		}
		c.from = from
		s.deps = append(s.deps, dep{from, in.Info()})
	case *dockerfile.Run:
		c.mounts = make([]*stage, len(in.Mounts))
		for i, m := range in.Mounts {
			if m.From != "" {
				c.mounts[i] = g.from(m.From, in.Info())
				s.deps = append(s.deps, dep{c.mounts[i], in.Info()})
			}
		}
	}
	return nil
}

func (g *stageGraph) copyFrom(c *dockerfile.Copy) (*stage, error) {
	var none env
	w, err := g.lex.Word(c.From, &none)
	if err != nil {
		return nil, err
	}
	if w.Text != c.From {
		return nil, errors.New("variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround")
	}
	if i, err := strconv.Atoi(c.From); err == nil {
		if i < 0 || i >= len(g.stages) {
			return nil, fmt.Errorf("invalid stage index %d", i)
		}
		return g.stages[i], nil
	}
	return g.from(c.From, c.Info()), nil
}

// from returns the stage that --from names. An image becomes a stage of its own.
// m is the instruction with the --from.
func (g *stageGraph) from(name string, m *dockerfile.Meta) *stage {
	if s, ok := g.byName[strings.ToLower(name)]; ok {
		return s
	}
	s := &stage{index: -1, meta: m, baseName: name}
	g.add(s)
	return s
}

// checkCircles returns an error if stages copy from each other.
func (g *stageGraph) checkCircles() error {
	visited, path := map[*stage]bool{}, map[*stage]bool{}
	var visit func(s *stage, at []dockerfile.Range) []dockerfile.Range
	visit = func(s *stage, at []dockerfile.Range) []dockerfile.Range {
		if visited[s] {
			return nil
		}
		visited[s], path[s] = true, true
		for _, d := range s.deps {
			next := append(at[:len(at):len(at)], d.meta.Ranges...)
			if path[d.on] {
				return next
			}
			if found := visit(d.on, next); found != nil {
				return found
			}
		}
		delete(path, s)
		return nil
	}
	for _, s := range g.stages {
		if at := visit(s, nil); at != nil {
			return g.file.At(fmt.Errorf("circular dependency detected on stage: %s", s.name), at...)
		}
	}
	return nil
}

// needed returns the stages to plan.
func (g *stageGraph) needed(target *stage) map[*stage]bool {
	if !g.all {
		return reachable(target)
	}
	set := map[*stage]bool{}
	for _, s := range g.stages {
		set[s] = true
	}
	return set
}

func reachable(target *stage) map[*stage]bool {
	set := map[*stage]bool{}
	todo := []*stage{target}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if set[s] {
			continue
		}
		set[s] = true
		for _, d := range s.needs() {
			todo = append(todo, d.on)
		}
	}
	return set
}
