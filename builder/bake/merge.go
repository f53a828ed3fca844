package bake

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Merge adds the attributes of a later definition of the target, or of a target that
// inherits from it. Scalars and most lists replace the earlier ones, maps are merged by
// key; annotations, attestations, imported caches, secrets, agents, stages without
// cache, ulimits and entitlements are added. Entries of lists are shared, not copied.
func (t *Target) Merge(later *Target) {
	t.mergeScalars(later)
	t.mergeBases(later)
	t.Args = mergeSet(t.Args, later.Args)
	t.Labels = mergeSet(t.Labels, later.Labels)
	t.ExtraHosts = mergeSet(t.ExtraHosts, later.ExtraHosts)
	t.Contexts = mergeMap(t.Contexts, later.Contexts)

	replaceList(&t.Tags, later.Tags)
	replaceList(&t.Platforms, later.Platforms)
	replaceList(&t.CacheTo, later.CacheTo)
	replaceList(&t.Outputs, later.Outputs)

	addList(&t.Annotations, later.Annotations)
	addList(&t.NoCacheFilter, later.NoCacheFilter)
	addList(&t.Ulimits, later.Ulimits)
	addList(&t.Entitlements, later.Entitlements)
	addList(&t.Inherits, later.Inherits)

	t.Attest = mergeAttests(t.Attest, later.Attest)
	t.CacheFrom = mergeCaches(t.CacheFrom, later.CacheFrom)
	t.Secrets = mergeSecrets(t.Secrets, later.Secrets)
	t.SSH = mergeSSH(t.SSH, later.SSH)
	if later.Resources != nil {
		t.Resources = t.Resources.merge(later.Resources)
	}
	t.Positions = mergeMap(t.Positions, later.Positions)
}

func (t *Target) mergeScalars(later *Target) {
	if later.Description != "" {
		t.Description = later.Description
	}
	replace(&t.Context, later.Context)
	replace(&t.Dockerfile, later.Dockerfile)
	replace(&t.DockerfileInline, later.DockerfileInline)
	replace(&t.Stage, later.Stage)
	replace(&t.Call, later.Call)
	replace(&t.Pull, later.Pull)
	replace(&t.NoCache, later.NoCache)
	replace(&t.Network, later.Network)
	replace(&t.ShmSize, later.ShmSize)
}

func (t *Target) mergeBases(later *Target) {
	replace(&t.Bases.Default, later.Bases.Default)
	if later.Context != nil {
		t.Bases.Context, t.Bases.ContextOf = later.Bases.Context, later.Bases.ContextOf
	}
	if len(later.Contexts) == 0 {
		return
	}
	bases := maps.Clone(t.Bases.Contexts)
	if bases == nil {
		bases = map[string]string{}
	}
	for name := range later.Contexts {
		if base, ok := later.Bases.Contexts[name]; ok {
			bases[name] = base
		} else {
			delete(bases, name)
		}
	}
	t.Bases.Contexts = bases
}

func (r *Resources) merge(later *Resources) *Resources {
	merged := Resources{}
	if r != nil {
		merged = *r
	}
	replace(&merged.Memory, later.Memory)
	replace(&merged.MemorySwap, later.MemorySwap)
	replace(&merged.CPUShares, later.CPUShares)
	replace(&merged.CPUPeriod, later.CPUPeriod)
	replace(&merged.CPUQuota, later.CPUQuota)
	replace(&merged.CPUSetCPUs, later.CPUSetCPUs)
	replace(&merged.CPUSetMems, later.CPUSetMems)
	return &merged
}

func replace[T any](to **T, from *T) {
	if from != nil {
		*to = from
	}
}

func replaceList[T any](to *[]T, from []T) {
	if from != nil {
		*to = from
	}
}

func addList[T any](to *[]T, from []T) {
	if from != nil {
		*to = slices.Concat(*to, from)
	}
}

// mergeSet adds the entries of later that have a value.
func mergeSet(earlier, later map[string]*string) map[string]*string {
	merged := maps.Clone(earlier)
	for k, v := range later {
		if v == nil {
			continue
		}
		if merged == nil {
			merged = map[string]*string{}
		}
		merged[k] = v
	}
	return merged
}

func mergeMap[V any](earlier, later map[string]V) map[string]V {
	if len(later) == 0 {
		return earlier
	}
	merged := maps.Clone(earlier)
	if merged == nil {
		merged = map[string]V{}
	}
	maps.Copy(merged, later)
	return merged
}

func mergeAttests(earlier, later []*Attest) []*Attest {
	return mergeBy(earlier, later, func(a *Attest) string { return a.Type })
}

func mergeSecrets(earlier, later []*Secret) []*Secret {
	return mergeBy(earlier, later, func(s *Secret) string { return s.ID })
}

func mergeSSH(earlier, later []*SSH) []*SSH {
	return mergeBy(earlier, later, func(s *SSH) string { return s.ID })
}

// mergeBy concatenates two lists. An entry with the key of an earlier one takes its
// place.
func mergeBy[T any](earlier, later []T, key func(T) string) []T {
	if later == nil {
		return earlier
	}
	if earlier == nil {
		return later
	}
	return uniqueBy(slices.Concat(earlier, later), key)
}

func uniqueBy[T any](list []T, key func(T) string) []T {
	if len(list) == 0 {
		return nil
	}
	places, unique := map[string]int{}, make([]T, 0, len(list))
	for _, entry := range list {
		if i, ok := places[key(entry)]; ok {
			unique[i] = entry
			continue
		}
		places[key(entry)] = len(unique)
		unique = append(unique, entry)
	}
	return unique
}

func mergeCaches(earlier, later []*Cache) []*Cache {
	if later == nil {
		return uniqueCaches(earlier)
	}
	return uniqueCaches(slices.Concat(earlier, later))
}

func uniqueCaches(list []*Cache) []*Cache {
	return uniqueEntries(list, func(c *Cache) string { return keyOf(c.Attrs, c.Type) })
}

// keyOf returns a text that is different for other attributes or values.
func keyOf(attrs map[string]string, values ...string) string {
	var key strings.Builder
	add := func(s string) {
		key.WriteString(strconv.Itoa(len(s)))
		key.WriteByte(' ')
		key.WriteString(s)
	}
	for _, v := range values {
		add(v)
	}
	names := make([]string, 0, len(attrs))
	for name := range attrs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		add(name)
		add(attrs[name])
	}
	return key.String()
}

// uniqueEntries drops repeated entries, which have the same key. The last entry takes
// the place of a dropped one, which is the order that buildx prints.
func uniqueEntries[T any](list []T, key func(T) string) []T {
	if len(list) == 0 {
		return nil
	}
	keys, places := make([]string, len(list)), map[string]int{}
	unique := slices.Clone(list)
	for i := len(list) - 1; i >= 0; i-- {
		keys[i] = key(list[i])
		j, ok := places[keys[i]]
		places[keys[i]] = i
		if !ok {
			continue
		}
		last := len(unique) - 1
		unique[j], keys[j] = unique[last], keys[last]
		if j != last {
			places[keys[j]] = j
		}
		unique = unique[:last]
	}
	return unique
}
