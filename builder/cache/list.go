package cache

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Entry is a record in a list.
type Entry struct {
	Record
	Used time.Time
	Size int64 // of its layer's blob; 0 if it has none, or if the blob was removed
}

// Matches reports whether want is a part of the step's name or the beginning of its
// key.
func (e Entry) Matches(want string) bool {
	return strings.Contains(e.Name, want) || strings.HasPrefix(e.Key, want)
}

// List returns all records, the most recently used first. It does not mark them as
// used.
func (c *Cache) List() ([]Entry, error) {
	stored, err := c.store.Records()
	if err != nil {
		return nil, err
	}
	at := map[string]int{} // each record is stored under several keys
	var all []Entry
	for _, f := range stored {
		var r Record
		if json.Unmarshal(f.Bytes, &r) != nil || r.Version != version {
			continue
		}
		i, ok := at[r.Key]
		if !ok {
			i = len(all)
			at[r.Key] = i
			all = append(all, Entry{Record: r})
			if len(r.Layers) > 0 {
				all[i].Size, _ = c.store.StatBlob(r.Layers[0].Digest)
			}
		}
		if f.Used.After(all[i].Used) {
			all[i].Used = f.Used
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return cmp.Or(b.Used.Compare(a.Used), cmp.Compare(a.Name, b.Name)) })
	return all, nil
}

// Reason explains why a step ran although a similar one was cached.
type Reason struct {
	Step   Entry
	Before *Entry   // the similar step; nil if there is none
	Why    []string // the differences
	Files  bool     // copied files differ: the listings of the two layers show which
}

// Explain compares each step with the latest older one of the same name or, if there
// is none, of the same kind at the same position in its stage. It returns the steps
// that match want, as in [Entry.Matches].
func Explain(all []Entry, want string) []Reason {
	byKey := map[string]Entry{}
	for _, e := range all {
		byKey[e.Key] = e
	}
	ordered := slices.Clone(all)
	slices.SortStableFunc(ordered, func(a, b Entry) int { return cmp.Compare(b.Created, a.Created) })
	seen := map[string]bool{}
	var out []Reason
	for i, e := range ordered {
		if e.Op == "" || e.Name == "" || seen[position(e.Name)] {
			continue
		}
		seen[position(e.Name)] = true
		if !e.Matches(want) {
			continue
		}
		out = append(out, explain(e, before(ordered[i+1:], e), byKey))
	}
	slices.Reverse(out) // in the order in which they were made
	return out
}

// position returns the part of a step's name with its stage and number, as in
// "[build 2/4".
func position(name string) string {
	if at, _, ok := strings.Cut(name, "] "); ok {
		return at
	}
	return name
}

// kind returns the kind of a step's op. Steps of different kinds are not compared.
func kind(e Entry) string { return kindOf(e.Op) }

func kindOf(text string) string {
	var o struct{ Op string }
	_ = json.Unmarshal([]byte(text), &o) // "" if it is malformed
	return o.Op
}

func before(older []Entry, e Entry) *Entry {
	for _, same := range []func(Entry) bool{
		func(o Entry) bool { return o.Name == e.Name },
		func(o Entry) bool { return position(o.Name) == position(e.Name) && kind(o) == kind(e) },
	} {
		if i := slices.IndexFunc(older, func(o Entry) bool { return o.Op != "" && same(o) }); i >= 0 {
			return &older[i]
		}
	}
	return nil
}

func explain(e Entry, old *Entry, byKey map[string]Entry) Reason {
	r := Reason{Step: e, Before: old}
	if old == nil {
		r.Why = []string{"no similar step was cached"}
		return r
	}
	r.Why = differences(old.Op, e.Op)
	for i := range max(len(e.Parts), len(old.Parts)) {
		switch {
		case i >= len(e.Parts) || i >= len(old.Parts):
			r.Why = append(r.Why, "the number of its inputs changed")
			return r
		case e.Parts[i] == old.Parts[i]:
		case i == 0:
			r.Why = append(r.Why, "the result below it changed: "+cmp.Or(byKey[e.Parts[0]].Name, "the base image"))
		default:
			r.Files = true
			r.Why = append(r.Why, "the files that it uses changed")
		}
	}
	if len(r.Why) == 0 {
		r.Why = []string{"nothing changed: it ran because of --no-cache, or because its result had been removed"}
	}
	return r
}

// differences describes the fields in which two ops differ.
func differences(old, now string) (out []string) {
	var a, b map[string]json.RawMessage
	if old == now || json.Unmarshal([]byte(old), &a) != nil || json.Unmarshal([]byte(now), &b) != nil {
		return nil
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			a[name] = nil
		}
	}
	for _, name := range sortedNames(a) {
		if string(a[name]) == string(b[name]) {
			continue
		}
		if name == "env" {
			out = append(out, variables(a[name], b[name])...)
			continue
		}
		out = append(out, name+" changed from "+short(a[name])+" to "+short(b[name]))
	}
	return out
}

func sortedNames(m map[string]json.RawMessage) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// variables names the variables that differ, without their values, which may be
// long or confidential.
func variables(old, now json.RawMessage) (out []string) {
	var a, b []string
	if len(old) > 0 && json.Unmarshal(old, &a) != nil || len(now) > 0 && json.Unmarshal(now, &b) != nil {
		return []string{"the variables changed"}
	}
	for _, v := range b {
		if !slices.Contains(a, v) {
			name, _, _ := strings.Cut(v, "=")
			out = append(out, "variable "+name+" was added or changed")
		}
	}
	for _, v := range a {
		name, _, _ := strings.Cut(v, "=")
		if !slices.ContainsFunc(b, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
			out = append(out, "variable "+name+" was removed")
		}
	}
	if len(out) == 0 {
		out = []string{"the order of the variables changed"}
	}
	return out
}

func short(b json.RawMessage) string {
	if len(b) == 0 {
		return "nothing"
	}
	if s := string(b); len(s) <= 100 {
		return s
	}
	return strings.ToValidUTF8(string(b[:100]), "") + "..."
}
