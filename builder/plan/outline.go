package plan

import (
	"context"
	"slices"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

// Check goes through the stages that the target needs, or through all if none
// is named, for the sake of the linter. There may be warnings beside an error.
func Check(ctx context.Context, in Input) ([]Warning, error) {
	p := newPlanner(in)
	p.all = in.Target == ""
	_, err := p.walk(ctx)
	if err == nil {
		err = p.file.At(p.lint.Err())
	}
	return p.lint.Warnings(), err
}

// Outline is what the build of a target can be given.
type Outline struct {
	Name string // of the target; "" if it has none
	Doc  string
	Args []OutlineArg // in order of the Dockerfile, as all

	Secrets, SSH, Caches []OutlineMount // each ID once
}

// OutlineMount is what a RUN wants to have mounted.
type OutlineMount struct {
	ID       string
	Required bool
	Ranges   []dockerfile.Range
}

// OutlineArg is a build argument that makes a difference.
type OutlineArg struct {
	Name, Value, Doc string
	Ranges           []dockerfile.Range
}

// Describe finds what the build of the target can be given.
func Describe(ctx context.Context, in Input) (*Outline, error) {
	p := newPlanner(in)
	target, err := p.walk(ctx)
	if err != nil {
		return nil, err
	}
	src := p.file.Stages[target.index]
	out := p.describe(target)
	out.Name, out.Doc = src.As, src.Doc
	return out, nil
}

func (p *planner) describe(target *stage) *Outline {
	out := &Outline{}
	seen := map[string]bool{}
	for _, s := range inNeed(target) {
		for _, a := range p.usedArgs(s) {
			if !seen[a.Name] {
				seen[a.Name] = true
				out.Args = append(out.Args, a)
			}
		}
		out.Secrets = addNew(out.Secrets, s.outline.secrets)
		out.SSH = addNew(out.SSH, s.outline.ssh)
		out.Caches = addNew(out.Caches, s.outline.caches)
	}
	for _, list := range [][]OutlineMount{out.Secrets, out.SSH, out.Caches} {
		slices.SortStableFunc(list, func(a, b OutlineMount) int { return a.Ranges[0].First - b.Ranges[0].First })
	}
	slices.SortStableFunc(out.Args, func(a, b OutlineArg) int { return a.Ranges[0].First - b.Ranges[0].First })
	return out
}

// inNeed lists the stages that a target needs: first itself, then what it is
// FROM, then what it copies from.
func inNeed(target *stage) []*stage {
	var list []*stage
	var visit func(s *stage)
	visit = func(s *stage) {
		if slices.Contains(list, s) {
			return
		}
		list = append(list, s)
		for _, d := range s.needs() {
			visit(d.on)
		}
	}
	visit(target)
	return list
}

// outline is a stage's part of it.
type outline struct {
	args map[string]argInfo // that it declares itself
	used []string           // names, also of those declared before the first FROM

	secrets, ssh, caches []OutlineMount
}

// mount notes a mount of a RUN.
func (o *outline) mount(in *dockerfile.Run, m Mount, cache string) {
	note := []OutlineMount{{m.ID, m.Required, in.Ranges}}
	switch m.Type {
	case "secret":
		o.secrets = addNew(o.secrets, note)
	case "ssh":
		o.ssh = addNew(o.ssh, note)
	case "cache":
		note[0].ID = cache
		o.caches = addNew(o.caches, note)
	}
}

// addNew adds what has an ID that is not in the list.
func addNew(list, more []OutlineMount) []OutlineMount {
	for _, m := range more {
		if !slices.ContainsFunc(list, func(have OutlineMount) bool { return have.ID == m.ID }) {
			list = append(list, m)
		}
	}
	return list
}

// argInfo is the declaration of an argument.
type argInfo struct {
	value, doc string
	ranges     []dockerfile.Range
	uses       []string // others in its default
}

func (o *outline) use(names []string) { o.used = append(o.used, names...) }

// declare notes an ARG of the stage. One that only takes over what is declared
// before the first FROM is described there.
func (o *outline) declare(in *dockerfile.Arg, a dockerfile.ArgPair, value *string, global bool) {
	o.used = append(o.used, a.Key)
	if global {
		return
	}
	info := argInfo{doc: a.Doc, ranges: in.Ranges}
	if value != nil {
		info.value = *value
	}
	if o.args == nil {
		o.args = map[string]argInfo{}
	}
	o.args[a.Key] = info
}

// usedArgs gives the arguments that a stage uses, and those that they use.
func (p *planner) usedArgs(s *stage) []OutlineArg {
	var list []OutlineArg
	seen := map[string]bool{}
	var visit func(names []string)
	visit = func(names []string) {
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			a, ok := s.outline.args[name]
			if !ok {
				a, ok = p.declared[name]
			}
			if ok {
				list = append(list, OutlineArg{name, a.value, a.doc, a.ranges})
				visit(a.uses)
			}
		}
	}
	visit(s.outline.used)
	return list
}
