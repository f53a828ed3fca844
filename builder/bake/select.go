package bake

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

// Selection is a part of a definition, with inheritance, overrides and links resolved.
// It marshals to the JSON of "buildx bake --print".
type Selection struct {
	Groups  map[string]*Group  `json:"group,omitempty"`
	Targets map[string]*Target `json:"target"`

	resolver *resolver
}

// SelectOptions are the parameters of Select.
type SelectOptions struct {
	Names     []string // of targets and groups, or patterns; none means default
	Overrides []string // as TARGET.KEY=VALUE
	// Lookup returns a variable of the environment, for SOURCE_DATE_EPOCH, secrets and
	// agents.
	Lookup func(string) (string, bool)
	// LookupArg returns the value of an override of a build argument without one. If it
	// is nil, the value is empty.
	LookupArg func(string) (string, bool)
	// Remote is the place of a definition from a URL, which relative contexts are in.
	Remote *Remote
}

// Select returns targets and groups by name, and the targets that they use as contexts.
// The error has all problems of the targets.
func (d *Definition) Select(o SelectOptions) (*Selection, error) {
	r := &resolver{d: d, options: o, byName: map[string]*Target{}, resolved: map[string]*resolution{}, linked: map[string]bool{}}
	for _, t := range slices.Backward(d.Targets) {
		r.byName[t.Name] = t
	}
	r.selection = &Selection{Groups: map[string]*Group{}, Targets: map[string]*Target{}, resolver: r}
	var err error
	if r.overrides, err = d.newOverrides(o.Overrides, o.LookupArg); err != nil {
		r.fail(Problem{Text: err.Error()})
	}
	names := r.names(o.Names)
	for _, name := range names {
		targets, groups := d.expand(name, map[string]expansion{})
		for _, t := range targets {
			r.add(t)
		}
		for _, g := range groups {
			if _, ok := r.selection.Groups[g]; !ok {
				group := *d.Group(g)
				r.selection.Groups[g] = &group
			}
		}
	}
	r.addDefaultGroup(names)
	for _, name := range slices.Sorted(maps.Keys(r.selection.Targets)) {
		r.link(name, r.selection.Targets[name], nil)
	}
	for _, name := range slices.Sorted(maps.Keys(r.selection.Targets)) {
		r.fail(r.selection.Targets[name].finish(name, o)...)
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	return r.selection, nil
}

// Others returns the targets of the definition that are not selected, sorted by name.
// Their errors are those of Link.
func (s *Selection) Others() (others []*Target) {
	for _, name := range slices.Sorted(maps.Keys(s.resolver.byName)) {
		if s.Targets[name] == nil {
			others = append(others, s.resolver.resolve(name, nil).target)
		}
	}
	return others
}

// Link adds a target that others use, and those that it uses, and returns the names of
// all that are new.
func (s *Selection) Link(name string) (names []string, err error) {
	r, before := s.resolver, maps.Clone(s.Targets)
	r.problems = nil
	if t := r.add(name); t != nil {
		t.asLink()
		r.link(name, t, nil)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Targets)) {
		if before[name] == nil {
			names = append(names, name)
			r.fail(s.Targets[name].finish(name, r.options)...)
		}
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	return names, nil
}

// asLink leaves out the outputs of a target that is built only because others use it.
func (t *Target) asLink() { t.Outputs, t.Linked = []*Output{{Type: "cacheonly"}}, true }

type resolver struct {
	d         *Definition
	options   SelectOptions
	overrides map[string]overrides
	byName    map[string]*Target
	resolved  map[string]*resolution
	selection *Selection
	linked    map[string]bool // targets whose contexts are resolved
	loop      bool            // one of links was found; others often are parts of it
	problems  Problems
}

// fail records problems, each once.
func (r *resolver) fail(list ...Problem) {
	for _, p := range list {
		if !slices.Contains(r.problems, p) {
			r.problems = append(r.problems, p)
		}
	}
}

// names returns the names of targets and groups for arguments. A dot stands for _, as
// in the names of Compose services.
func (r *resolver) names(arguments []string) (names []string) {
	if len(arguments) == 0 {
		arguments = []string{"default"}
	}
	for _, a := range arguments {
		a = strings.ReplaceAll(a, ".", "_")
		matches := []string{a}
		if strings.ContainsAny(a, "*?[]") {
			matches = r.d.matchAll(a)
			if len(matches) == 0 {
				r.fail(Problem{Text: fmt.Sprintf("could not find any target matching %q", a)})
			}
		}
		for _, m := range matches {
			if !slices.Contains(names, m) {
				names = append(names, m)
			}
		}
	}
	return names
}

// matchAll returns the groups and targets of a pattern.
func (d *Definition) matchAll(pattern string) (names []string) {
	for _, g := range d.Groups {
		if ok, err := path.Match(pattern, g.Name); ok && err == nil {
			names = append(names, g.Name)
		}
	}
	for _, t := range d.Targets {
		if ok, err := path.Match(pattern, t.Name); ok && err == nil {
			names = append(names, t.Name)
		}
	}
	return names
}

// expansion is the content of a group.
type expansion struct{ targets, groups []string }

// expand returns the targets of a group and the groups in it, or the name itself if
// there is no such group. A group inside itself counts as a target.
func (d *Definition) expand(name string, seen map[string]expansion) (targets, groups []string) {
	if e, ok := seen[name]; ok {
		return e.targets, e.groups
	}
	g := d.Group(name)
	if g == nil {
		return []string{name}, nil
	}
	seen[name] = expansion{}
	groups = []string{name}
	for _, member := range g.Targets {
		t, more := d.expand(member, seen)
		if len(t) == 0 {
			t = []string{member}
		}
		targets, groups = append(targets, t...), append(groups, more...)
	}
	targets, groups = unique(targets), unique(groups) // or nested groups would grow exponentially
	seen[name] = expansion{targets, groups}
	return targets, groups
}

// addDefaultGroup makes the group default with the selected names.
func (r *resolver) addDefaultGroup(names []string) {
	g, ok := r.selection.Groups["default"]
	if !ok {
		g = &Group{Name: "default"}
		r.selection.Groups["default"] = g
	}
	members := slices.Clone(g.Targets)
	for _, n := range names {
		if n != "default" || !ok {
			members = append(members, n)
		}
	}
	slices.Sort(members)
	g.Targets = slices.Compact(members)
}

// add resolves a target and adds it to the selection. It returns nil if there is none.
func (r *resolver) add(name string) *Target {
	done := r.resolve(name, nil)
	r.fail(done.problems...)
	if done.target == nil {
		return nil
	}
	resolved := *done.target
	resolved.Inherits = nil
	if resolved.Context == nil {
		resolved.Context = new(rebase(resolved.Bases.Default, "."))
	}
	if resolved.Dockerfile == nil || *resolved.Dockerfile == "" {
		resolved.Dockerfile = new("Dockerfile")
	}
	r.selection.Targets[name] = &resolved
	return &resolved
}

// resolution is a target with its parents and overrides, but without the values that no
// file gives.
type resolution struct {
	target   *Target // nil: there is none of the name, or it is being resolved
	problems Problems
	ring     bool // it inherits from a target that inherits from it, or from one that does
}

// resolve resolves the parents and overrides of a target. A target that inherits from
// itself gets nothing by that: its parents then depend on the place where the ring is
// entered, so that such results are only kept in seen, for one target.
func (r *resolver) resolve(name string, seen map[string]*resolution) *resolution {
	if done, ok := r.resolved[name]; ok {
		return done
	}
	if done, ok := seen[name]; ok {
		if done == nil {
			return &resolution{ring: true}
		}
		return done
	}
	t := r.byName[name]
	if g := r.d.Group(name); t == nil && g != nil && r.d.Absent[name] == "" { // groups are replaced by their members
		return &resolution{problems: Problems{{Position: g.Position, Text: fmt.Sprintf("group %s contains itself, or no target", name)}}}
	}
	if t == nil {
		return &resolution{problems: Problems{{Text: r.notFound(name)}}}
	}
	if seen == nil {
		seen = map[string]*resolution{}
	}
	seen[name] = nil
	done := &resolution{target: &Target{Name: name}, problems: slices.Clone(r.d.Deferred[name])}
	for _, parent := range t.Inherits {
		if r.byName[parent] == nil {
			done.problems = append(done.problems, Problem{Position: t.Position("inherits"), Target: name, Text: r.notFound(parent)})
			continue
		}
		p := r.resolve(parent, seen)
		done.problems, done.ring = append(done.problems, p.problems...), done.ring || p.ring
		if p.target != nil {
			done.target.Merge(p.target)
		}
	}
	done.target.Merge(t)
	if err := done.target.apply(r.overrides[name]); err != nil && len(done.problems) == 0 {
		done.problems = Problems{{Target: name, Text: err.Error()}}
	}
	done.target.normalize()
	if seen[name] = done; !done.ring {
		r.resolved[name] = done
	}
	return done
}

func (r *resolver) notFound(name string) string {
	err := fmt.Errorf("failed to find target %s", name)
	if reason := r.d.Absent[name]; reason != "" {
		return fmt.Sprintf("%v: %s", err, reason)
	}
	if r.d.Group(name) != nil {
		return fmt.Sprintf("%v: it is a group", err)
	}
	return dockerfile.DidYouMean(err, name, r.d.targetNames()).Error()
}

// link adds the targets that a target uses as contexts. path has its users.
func (r *resolver) link(name string, t *Target, path []string) {
	if r.linked[name] {
		return
	}
	defer func() { r.linked[name] = true }()
	path = append(slices.Clip(path), name)
	for _, context := range slices.Sorted(maps.Keys(t.Contexts)) {
		linked, ok := strings.CutPrefix(t.Contexts[context], "target:")
		if !ok {
			continue
		}
		problem := Problem{Position: t.Position("contexts"), Target: name}
		switch {
		case linked == name:
			problem.Text = fmt.Sprintf("target %s cannot link to itself", name)
		case slices.Contains(path, linked):
			if r.loop {
				continue
			}
			r.loop = true
			problem.Text = fmt.Sprintf("infinite loop from %s to %s", name, linked)
		case r.byName[linked] == nil:
			problem.Text = fmt.Sprintf("context %s: %s", context, r.notFound(linked))
		default:
			problem.Text = r.linkTo(t, linked, path)
		}
		if problem.Text != "" {
			r.fail(problem)
		}
	}
}

// linkTo adds one target that t uses, and returns a problem or "".
func (r *resolver) linkTo(t *Target, name string, path []string) string {
	linked, ok := r.selection.Targets[name]
	if !ok {
		if linked = r.add(name); linked == nil {
			return ""
		}
		linked.asLink()
	}
	r.link(name, linked, path)
	for _, e := range linked.Entitlements {
		if !slices.Contains(t.Entitlements, e) {
			t.Entitlements = append(slices.Clip(t.Entitlements), e)
		}
	}
	if len(t.Platforms) > 1 && len(linked.Platforms) > 1 {
		for _, p := range t.Platforms {
			if !slices.Contains(linked.Platforms, p) {
				return fmt.Sprintf("target %s can't be used because its platforms %v lack %s", name, linked.Platforms, p)
			}
		}
	}
	return ""
}

// MarshalJSON returns the attributes of the target. Like buildx, it doubles the first
// character of ${ and %{ in texts that the definition would evaluate.
func (t *Target) MarshalJSON() ([]byte, error) {
	type attributes Target
	a := attributes(*t)
	a.Annotations = slices.Clone(a.Annotations)
	for i, text := range a.Annotations {
		a.Annotations[i] = escape(text)
	}
	if a.DockerfileInline != nil {
		a.DockerfileInline = new(escape(*a.DockerfileInline))
	}
	a.Labels, a.Args, a.ExtraHosts = escapeAll(a.Labels), escapeAll(a.Args), escapeAll(a.ExtraHosts)
	return json.Marshal(a)
}

func escape(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "${", "$${"), "%{", "%%{")
}

func escapeAll(m map[string]*string) map[string]*string {
	escaped := map[string]*string{}
	for k, v := range m {
		if v != nil {
			v = new(escape(*v))
		}
		escaped[k] = v
	}
	return escaped
}
