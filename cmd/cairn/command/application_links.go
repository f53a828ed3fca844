package command

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/registry/reference"
)

// add converts targets of the selection. It returns all problems of their attributes.
func (a *application) add(names []string) (problems bake.Problems) {
	for _, name := range names {
		m, list := a.convert(name, a.selection.Targets[name])
		problems = append(problems, list...)
		problems = append(problems, a.access.check(m)...)
		a.targets = append(a.targets, m)
		problems = append(problems, a.addCaches(m)...)
	}
	return problems
}

// cacheExport is a cache that targets export to.
type cacheExport struct {
	text  string // options
	owner *appTarget
	at    int // in application.caches
}

// addCaches adds the caches that a target names. Targets that export to one cache with
// different options are a problem.
func (a *application) addCaches(m *appTarget) (problems bake.Problems) {
	for _, from := range m.options.CacheFrom {
		if !slices.ContainsFunc(a.session.CacheFrom, func(c remote.Location) bool { return c.String() == from.String() }) {
			a.session.CacheFrom = append(a.session.CacheFrom, from)
		}
	}
	for _, to := range m.options.CacheTo {
		key, text := cacheKey(to), fmt.Sprint(to.Inline, to.Max, to.Strict)
		old, ok := a.exports[key]
		switch {
		case !ok:
			to.Targets = []string{m.name}
			a.exports[key] = cacheExport{text, m, len(a.caches)}
			a.caches = append(a.caches, to)
		case old.text != text:
			err := fmt.Errorf("it exports its cache to %s with other options than target %s: use the same, or another destination", to.String(), old.owner.name)
			problems = append(problems, m.problem("cache-to", err))
		case !slices.Contains(a.caches[old.at].Targets, m.name):
			a.caches[old.at].Targets = append(a.caches[old.at].Targets, m.name)
		}
	}
	return problems
}

// addMakers lets the build add the targets whose tags others are based on. The registries
// of their caches must be known before the build.
func (a *application) addMakers() {
	if !a.session.LinkTags && a.linkTagsSet {
		return
	}
	tags := map[string]string{} // names of targets by normalised references
	note := func(name string, list []string) {
		for _, tag := range list {
			if ref, err := reference.Normalize(tag); err == nil && tags[ref] == "" {
				tags[ref] = name
			}
		}
	}
	for _, m := range a.targets {
		note(m.name, m.options.Tags)
	}
	for _, t := range a.selection.Others() {
		note(t.Name, t.Tags)
		for _, c := range slices.Concat(t.CacheFrom, t.CacheTo) {
			if on, err := strconv.ParseBool(c.Attrs["registry.insecure"]); err == nil && on {
				a.registries.alsoLenient = append(a.registries.alsoLenient, hostsOf(c.Attrs["ref"])...)
			}
		}
	}
	a.session.MakersOf = func(refs []string) (builder.Makers, error) {
		if !a.session.LinkTags {
			a.hintLinks(refs, tags)
			return builder.Makers{}, nil
		}
		return a.makersOf(refs, tags)
	}
}

// makersOf adds the targets that make images of references.
func (a *application) makersOf(refs []string, tags map[string]string) (builder.Makers, error) {
	before := len(a.targets)
	for _, ref := range refs {
		name, ok := tags[ref]
		if !ok || a.selection.Targets[name] != nil {
			continue
		}
		names, err := a.selection.Link(name)
		if err != nil {
			return builder.Makers{}, err
		}
		problems := a.add(names)
		for _, m := range a.targets[len(a.targets)-len(names):] {
			problems = append(problems, m.finish()...)
		}
		if len(problems) > 0 {
			return builder.Makers{}, problems
		}
	}
	makers := builder.Makers{CacheFrom: a.session.CacheFrom, CacheTo: a.caches}
	for _, m := range a.targets[before:] {
		makers.Targets = append(makers.Targets, m.options.Target)
	}
	return makers, nil
}

// hintLinks names base images that are not taken from this build.
func (a *application) hintLinks(refs []string, tags map[string]string) {
	for _, ref := range refs {
		if name, ok := tags[ref]; ok {
			fmt.Fprintf(a.Stderr, "note: the base image %s comes from the store or a registry: with --link-tags it is that of target %s\n", reference.Familiar(ref), name)
		}
	}
}
