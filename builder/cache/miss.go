package cache

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

// Past describes a step of an earlier build of the same target.
type Past struct {
	Name   string       `json:"name"`
	Key    string       `json:"key"` // content key
	Op     string       `json:"op"`
	Parts  []string     `json:"parts"`
	DiffID layer.Digest `json:"diff_id,omitempty"` // of its layer
}

// Cause is the kind of a change that made a step run.
type Cause string

// The causes. A step whose layer below has changed has the cause of that change.
const (
	CauseNew       Cause = "new"       // the target had no such step before
	CauseCommand   Cause = "command"   // the instruction is another one
	CauseVariables Cause = "variables" // build arguments or environment
	CauseBase      Cause = "base"      // the base image
	CauseFiles     Cause = "files"     // copied or mounted files
	CauseBelow     Cause = "below"     // the result below, for an unknown reason
	CauseNoCache   Cause = "no-cache"  // the user asked for it
	CauseRemoved   Cause = "removed"   // the result is no longer in the cache
)

// Miss is the reason why a step was not cached.
type Miss struct {
	Cause Cause
	Brief string   // in a few words; "" of a new step
	Files []string // that changed, the first ones
	More  int      // further files that changed
	Below bool     // the change is not of this step but of one below
}

// Similar returns the step of an earlier build that a step is to be compared with: one of
// the same instruction, or else of the same kind and position. It returns nil if there is
// none.
func Similar(past []Past, name, op string) *Past {
	command := func(name string) string {
		_, text, _ := strings.Cut(name, "] ")
		return text
	}
	for _, same := range []func(Past) bool{
		func(p Past) bool { return p.Name == name },
		func(p Past) bool { return command(p.Name) == command(name) },
		func(p Past) bool { return position(p.Name) == position(name) },
	} {
		i := slices.IndexFunc(past, func(p Past) bool { return kindOf(p.Op) == kindOf(op) && same(p) })
		if i >= 0 {
			return &past[i]
		}
	}
	return nil
}

// Compare returns why a step with the given operation and parts of its content key ran.
// below is the reason of the step below, nil if that was cached, and base the name of the
// image below, "" if there is none. If the cause is CauseFiles, the caller may add the
// names of the files.
func (p *Past) Compare(op string, parts []string, below *Miss, base string) Miss {
	if p.Op != op {
		return changedOp(p.Op, op)
	}
	for i := range max(len(parts), len(p.Parts)) {
		switch {
		case i >= len(parts) || i >= len(p.Parts):
			return Miss{Cause: CauseCommand, Brief: "the instruction changed"}
		case parts[i] == p.Parts[i]:
		case i > 0:
			return Miss{Cause: CauseFiles, Brief: "files changed"}
		case below != nil && below.Cause != CauseNew:
			m := *below
			m.Below = true
			return m
		case base != "":
			return Miss{Cause: CauseBase, Brief: base + " changed"}
		default:
			return Miss{Cause: CauseBelow, Brief: "the layer below changed", Below: true}
		}
	}
	if below != nil && below.Cause == CauseNoCache {
		m := *below
		m.Below = true
		return m
	}
	return Miss{Cause: CauseRemoved, Brief: "no longer in the cache"}
}

// changedOp describes the change of an operation, without values, which may be
// confidential.
func changedOp(old, now string) Miss {
	var a, b map[string]json.RawMessage
	if json.Unmarshal([]byte(old), &a) != nil || json.Unmarshal([]byte(now), &b) != nil {
		return Miss{Cause: CauseCommand, Brief: "the instruction changed"}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			a[name] = nil
		}
	}
	var fields []string
	for _, name := range sortedNames(a) {
		if string(a[name]) != string(b[name]) {
			fields = append(fields, name)
		}
	}
	if len(fields) == 1 && fields[0] == "env" {
		return Miss{Cause: CauseVariables, Brief: changedVariables(a["env"], b["env"])}
	}
	if slices.Contains(fields, "epoch") && !slices.ContainsFunc(fields, func(f string) bool { return f != "epoch" && f != "env" }) {
		return Miss{Cause: CauseVariables, Brief: "SOURCE_DATE_EPOCH changed"}
	}
	return Miss{Cause: CauseCommand, Brief: "the instruction changed"}
}

// changedVariables names the variables that differ, as in "VERSION and 2 more changed".
func changedVariables(old, now json.RawMessage) string {
	var a, b, names []string
	if json.Unmarshal(old, &a) != nil || json.Unmarshal(now, &b) != nil {
		return "variables changed"
	}
	for _, v := range slices.Concat(b, a) {
		name, _, _ := strings.Cut(v, "=")
		if (!slices.Contains(a, v) || !slices.Contains(b, v)) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "the order of variables changed"
	}
	return andMore("$"+names[0], len(names)-1) + " changed"
}

func andMore(first string, more int) string {
	if more == 0 {
		return first
	}
	return fmt.Sprintf("%s and %d more", first, more)
}

// AddFiles adds the names of the files in which an earlier layer and a new one differ.
// dir is the directory that they were copied to, or the copy of the file source.
func (m *Miss) AddFiles(old *listing.Listing, now iter.Seq[listing.Entry], dir, source string) {
	before := map[string]listing.Entry{}
	for _, e := range old.Entries {
		if e.Type != listing.TypeDir {
			before[e.Path] = e
		}
	}
	var names []string
	for e := range now {
		if e.Type == listing.TypeDir {
			continue
		}
		was, ok := before[e.Path]
		delete(before, e.Path)
		switch {
		case !ok:
			names = append(names, shownPath(e.Path, dir, source)+" (new)")
		case !sameFile(was, e):
			names = append(names, shownPath(e.Path, dir, source))
		}
	}
	var gone []string
	for path := range before {
		gone = append(gone, shownPath(path, dir, source)+" (gone)")
	}
	slices.Sort(gone)
	if names = append(names, gone...); len(names) == 0 {
		return
	}
	m.Brief = briefly(names)
	m.Files, m.More = names[:min(len(names), maxFiles)], max(len(names)-maxFiles, 0)
}

// briefly describes changed files, as in "main.go and 2 more changed".
func briefly(names []string) string {
	first := names[0]
	if name, ok := strings.CutSuffix(first, " (new)"); ok && len(names) == 1 {
		return name + " is new"
	}
	if name, ok := strings.CutSuffix(first, " (gone)"); ok && len(names) == 1 {
		return name + " is gone"
	}
	first = strings.TrimSuffix(strings.TrimSuffix(first, " (new)"), " (gone)")
	return andMore(first, len(names)-1) + " changed"
}

func sameFile(a, b listing.Entry) bool {
	if a.Digest != "" && b.Digest != "" && a.Digest != b.Digest {
		return false
	}
	return a.Type == b.Type && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Link == b.Link && a.Size == b.Size &&
		(a.Digest == b.Digest || a.MTime == b.MTime)
}

// shownPath returns a path of a layer relative to dir, if it is in it. If dir is the file
// itself, shownPath returns its source, or its name if that is not known.
func shownPath(path, dir, source string) string {
	if "/"+path == dir {
		return cmp.Or(source, listing.Base(path))
	}
	if rest, ok := strings.CutPrefix("/"+path, strings.TrimSuffix(dir, "/")+"/"); ok {
		return rest
	}
	return "/" + path
}
