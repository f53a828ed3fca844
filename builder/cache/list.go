package cache

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Entry is a record as it is listed.
type Entry struct {
	Record
	Used time.Time
	Size int64 // of its layer's blob; 0 if there is none, or none any more
}

// Matches tells whether want is a part of the step's name or the beginning of its
// key.
func (e Entry) Matches(want string) bool {
	return strings.Contains(e.Name, want) || strings.HasPrefix(e.Key, want)
}

// List gives all that is known of steps, what was used last first. Nothing
// counts as used by it.
func (c *Cache) List() ([]Entry, error) {
	filed, err := c.store.Records()
	if err != nil {
		return nil, err
	}
	at := map[string]int{} // each is filed under several keys
	var all []Entry
	for _, f := range filed {
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
				all[i].Size, _ = c.store.Peek(r.Layers[0].Digest)
			}
		}
		if f.Used.After(all[i].Used) {
			all[i].Used = f.Used
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return cmp.Or(b.Used.Compare(a.Used), cmp.Compare(a.Name, b.Name)) })
	return all, nil
}

// Reason is why a step ran although something like it was known.
type Reason struct {
	Step   Entry
	Before *Entry   // what it is compared with; nil: nothing like it was known
	Why    []string // in words
	// Files tells that what was copied differs: the indexes of the two layers
	// say in which files.
	Files bool
}

// Explain compares each step with the one that was known before it under the
// same name or, when its text has changed, of the same kind at the same place.
// want chooses by a part of the name or the beginning of the key.
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
		if e.Op == "" || e.Name == "" || seen[place(e.Name)] {
			continue
		}
		seen[place(e.Name)] = true
		if !e.Matches(want) {
			continue
		}
		out = append(out, explain(e, before(ordered[i+1:], e), byKey))
	}
	slices.Reverse(out) // in the order in which they were made
	return out
}

// place is the part of a step's name that says where it stands: [build 2/4].
func place(name string) string {
	if at, _, ok := strings.Cut(name, "] "); ok {
		return at
	}
	return name
}

// kind is what a step does: a COPY that became a RUN has nothing to compare.
func kind(e Entry) string {
	var o struct{ Op string }
	_ = json.Unmarshal([]byte(e.Op), &o) // one that can't be read is of no kind
	return o.Op
}

func before(older []Entry, e Entry) *Entry {
	for _, same := range []func(Entry) bool{
		func(o Entry) bool { return o.Name == e.Name },
		func(o Entry) bool { return place(o.Name) == place(e.Name) && kind(o) == kind(e) },
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
		r.Why = []string{"nothing like it was known"}
		return r
	}
	r.Why = differences(old.Op, e.Op)
	for i := range max(len(e.Parts), len(old.Parts)) {
		switch {
		case i >= len(e.Parts) || i >= len(old.Parts):
			r.Why = append(r.Why, "it has another number of inputs")
			return r
		case e.Parts[i] == old.Parts[i]:
		case i == 0:
			r.Why = append(r.Why, "what lies below it is another: "+cmp.Or(byKey[e.Parts[0]].Name, "the base image"))
		default:
			r.Files = true
			r.Why = append(r.Why, "what it takes from its source is another")
		}
	}
	if len(r.Why) == 0 {
		r.Why = []string{"nothing differs: it was asked to run, or its result had been removed"}
	}
	return r
}

// differences names the parts of two ops that are not the same.
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
		out = append(out, name+" was "+short(a[name])+", is "+short(b[name]))
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

// variables names those that differ, without their values: they may be long, and
// nobody's business.
func variables(old, now json.RawMessage) (out []string) {
	var a, b []string
	if json.Unmarshal(old, &a) != nil || json.Unmarshal(now, &b) != nil {
		return nil
	}
	for _, v := range b {
		if !slices.Contains(a, v) {
			name, _, _ := strings.Cut(v, "=")
			out = append(out, "the variable "+name+" is new or another")
		}
	}
	for _, v := range a {
		name, _, _ := strings.Cut(v, "=")
		if !slices.ContainsFunc(b, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
			out = append(out, "the variable "+name+" is gone")
		}
	}
	if len(out) == 0 {
		out = []string{"variables are in another order"}
	}
	return out
}

func short(b json.RawMessage) string {
	if len(b) == 0 {
		return "not there"
	}
	if s := string(b); len(s) <= 100 {
		return s
	}
	return strings.ToValidUTF8(string(b[:100]), "") + "..."
}
