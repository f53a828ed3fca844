package bake

import (
	"maps"
	"slices"
)

// uniqueStrings drops repeated and empty strings. The result is nil if list is.
func uniqueStrings(list []string) []string {
	if list == nil {
		return nil
	}
	return slices.DeleteFunc(unique(list), func(s string) bool { return s == "" })
}

// unique drops repeated strings.
func unique(list []string) []string {
	kept, seen := make([]string, 0, len(list)), make(map[string]bool, len(list))
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			kept = append(kept, s)
		}
	}
	return kept
}

// normalize drops repeated entries and deleted contexts.
func (t *Target) normalize() {
	t.Annotations = uniqueStrings(t.Annotations)
	t.Attest = uniqueBy(t.Attest, func(a *Attest) string { return a.Type })
	t.Tags = uniqueStrings(t.Tags)
	t.Secrets = uniqueBy(t.Secrets, func(s *Secret) string { return s.ID })
	t.SSH = uniqueBy(t.SSH, func(s *SSH) string { return s.ID })
	t.Platforms = uniqueStrings(t.Platforms)
	t.CacheFrom = uniqueCaches(t.CacheFrom)
	t.CacheTo = uniqueCaches(t.CacheTo)
	t.Outputs = uniqueOutputs(t.Outputs)
	t.NoCacheFilter = uniqueStrings(t.NoCacheFilter)
	t.Ulimits = uniqueStrings(t.Ulimits)
	if t.Network != nil && *t.Network == "host" {
		t.Entitlements = slices.Concat(t.Entitlements, []string{"network.host"})
	}
	t.Entitlements = uniqueStrings(t.Entitlements)
	t.Contexts = maps.Clone(t.Contexts)
	maps.DeleteFunc(t.Contexts, func(_, value string) bool { return value == "" })
}

func uniqueOutputs(list []*Output) []*Output {
	return uniqueEntries(list, func(o *Output) string { return keyOf(o.Attrs, o.Type, o.Destination) })
}
