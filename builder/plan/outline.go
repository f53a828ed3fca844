package plan

import (
	"context"
	"slices"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
)

// Check returns the linter's warnings about the stages that the target needs, or
// about all stages if there is no Target. It may return warnings and an error.
func Check(ctx context.Context, in Input) ([]Warning, error) {
	in.Allow = []string{AllowInsecure, AllowHostNetwork} // nothing is run
	p := newPlanner(in)
	p.all = in.Target == ""
	_, err := p.walk(ctx)
	if err == nil {
		err = p.file.At(p.lint.Err())
	}
	return p.lint.Warnings(), err
}

// Outline lists the parameters of a target: arguments, secrets, agents and cache
// mounts.
type Outline struct {
	Name string // of the target; "" if it has none
	Doc  string
	Args []OutlineArg // like all lists in the order of the Dockerfile

	Secrets, SSH, Caches []OutlineMount // without duplicate IDs
}

// OutlineMount is a mount of a RUN.
type OutlineMount struct {
	ID       string
	Required bool
	Ranges   []dockerfile.Range
}

// OutlineArg is a build argument that the target uses.
type OutlineArg struct {
	Name, Value, Doc string
	Ranges           []dockerfile.Range
}

// Describe returns the parameters of the target.
func Describe(ctx context.Context, in Input) (*Outline, error) {
	in.Allow = []string{AllowInsecure, AllowHostNetwork}
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

func (s *scope) describe(target *stage) *Outline {
	out := &Outline{}
	seen := map[string]bool{}
	for _, st := range inNeed(target) {
		for _, a := range s.used(st) {
			if !seen[a.Name] {
				seen[a.Name] = true
				out.Args = append(out.Args, a)
			}
		}
		out.Secrets = addNew(out.Secrets, st.outline.secrets)
		out.SSH = addNew(out.SSH, st.outline.ssh)
		out.Caches = addNew(out.Caches, st.outline.caches)
	}
	for _, list := range [][]OutlineMount{out.Secrets, out.SSH, out.Caches} {
		slices.SortStableFunc(list, func(a, b OutlineMount) int { return a.Ranges[0].First - b.Ranges[0].First })
	}
	slices.SortStableFunc(out.Args, func(a, b OutlineArg) int { return a.Ranges[0].First - b.Ranges[0].First })
	return out
}

// inNeed returns the stages that a target needs: the target, then its base, then
// the stages that it copies from.
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

// outline collects the parameters of one stage.
type outline struct {
	args map[string]argInfo // declared in the stage
	used []string           // names, including ARGs before the first FROM

	secrets, ssh, caches []OutlineMount
}

// mount records a mount of a RUN. cache is the ID of a cache mount.
func (o *outline) mount(in *dockerfile.Run, m op.Mount, cache string) {
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

// addNew appends the mounts whose IDs are not in the list.
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
	uses       []string // arguments in its default
}

func (o *outline) use(names []string) { o.used = append(o.used, names...) }

// declare records an ARG of the stage. global means that it takes its value from
// the ARG before the first FROM, which then describes it.
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
