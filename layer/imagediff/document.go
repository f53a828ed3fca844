package imagediff

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// part is the part of the images that differences are about.
type part struct {
	c *Comparison
	Difference
}

func (p part) emit(what, a, b string) error {
	d := p.Difference
	d.What, d.A, d.B = what, a, b
	if d.Platform == "" {
		d.Platform = p.c.platform
	}
	return p.c.Emit(d)
}

// text compares two texts.
func (p part) text(what, a, b string) error {
	if a == b {
		return nil
	}
	return p.emit(what, a, b)
}

// documents compares two JSON documents field by field.
func (p part) documents(a, b []byte) error {
	x, xErr := parse(a)
	y, yErr := parse(b)
	if xErr != nil || yErr != nil {
		return p.text("bytes", string(a), string(b))
	}
	return p.values("", x, y)
}

func parse(raw []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

// values compares two JSON values; nil stands for a missing one.
func (p part) values(at string, a, b any) error {
	if am, ok := a.(map[string]any); ok || a == nil {
		if bm, ok := b.(map[string]any); (ok || b == nil) && (am != nil || bm != nil) {
			return p.objects(at, am, bm)
		}
	}
	al, aok := a.([]any)
	bl, bok := b.([]any)
	if aok && bok && len(al) == len(bl) {
		for i := range al {
			if err := p.values(at+"["+strconv.Itoa(i)+"]", al[i], bl[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return p.text(at, show(a), show(b))
}

func (p part) objects(at string, a, b map[string]any) error {
	names := slices.Collect(maps.Keys(a))
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		field := name
		if strings.ContainsAny(name, ".[] ") || name == "" {
			field = strconv.Quote(name)
		}
		if at != "" {
			field = at + "." + field
		}
		x, y := a[name], b[name]
		if name == "Env" {
			if xm, ok := environment(x); ok {
				if ym, ok := environment(y); ok && slices.Equal(common(x, ym), common(y, xm)) {
					x, y = xm, ym
				}
			}
		}
		if err := p.values(field, x, y); err != nil {
			return err
		}
	}
	return nil
}

// environment converts a list of NAME=VALUE to an object; ok is false for other
// lists.
func environment(v any) (map[string]any, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, v == nil
	}
	m := map[string]any{}
	for _, e := range list {
		text, ok := e.(string)
		name, value, has := strings.Cut(text, "=")
		if _, twice := m[name]; !ok || !has || twice {
			return nil, false
		}
		m[name] = value
	}
	return m, true
}

// common returns the names in a list of NAME=VALUE that other has too, in order.
func common(v any, other map[string]any) (names []string) {
	list, _ := v.([]any)
	for _, e := range list {
		name, _, _ := strings.Cut(e.(string), "=")
		if _, ok := other[name]; ok {
			names = append(names, name)
		}
	}
	return names
}

// show returns a value as JSON, or "" for nil.
func show(v any) string {
	if v == nil {
		return ""
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func pairs(m map[string]string) any {
	if len(m) == 0 {
		return nil
	}
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// without returns a document without the fields that are compared separately.
func without(raw []byte, fields ...string) []byte {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		return raw
	}
	for _, f := range fields {
		delete(m, f)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return raw
	}
	return b
}

type config struct {
	History []json.RawMessage `json:"history"`
}

type event struct {
	CreatedBy  string `json:"created_by"`
	EmptyLayer bool   `json:"empty_layer"`
}

// configs compares two configs, and their histories entry by entry. Diff IDs are
// compared with the layers.
func (c *Comparison) configs(a, b []byte) error {
	if bytes.Equal(a, b) {
		return nil
	}
	told := c.counting()
	p := part{told.Comparison, Difference{Part: "config"}}
	if err := p.documents(without(a, "history", "rootfs"), without(b, "history", "rootfs")); err != nil {
		return err
	}
	if err := told.histories(a, b); err != nil || told.n > 0 || !sameRoot(a, b) {
		return err
	}
	return p.emit(otherBytes())
}

// counted is a comparison that counts its differences.
type counted struct {
	*Comparison
	n int
}

func (c *Comparison) counting() *counted {
	inner := *c
	out := &counted{Comparison: &inner}
	inner.Emit = func(d Difference) error {
		out.n++
		return c.Emit(d)
	}
	return out
}

// otherBytes returns the difference of documents with equal fields and different
// bytes.
func otherBytes() (what, a, b string) { return "bytes", "the same fields", "written otherwise" }

func sameRoot(a, b []byte) bool {
	var x, y struct{ RootFS json.RawMessage }
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && bytes.Equal(x.RootFS, y.RootFS)
}

func (c *Comparison) histories(a, b []byte) error {
	var x, y config
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return nil // reported as a difference in bytes
	}
	by := func(raw json.RawMessage) string {
		var e event
		_ = json.Unmarshal(raw, &e) // an entry that is not an object has no step
		return e.CreatedBy
	}
	same := func(i, j int) bool { return by(x.History[i]) == by(y.History[j]) }
	matched, cut := align(len(x.History), len(y.History), same)
	for _, p := range matched {
		at := part{c, Difference{Part: "history"}}
		var err error
		switch {
		case p.b < 0:
			err = at.emit("["+strconv.Itoa(p.a)+"]", string(x.History[p.a]), "")
		case p.a < 0:
			err = at.emit("["+strconv.Itoa(p.b)+"]", "", string(y.History[p.b]))
		default:
			var one, other any
			if one, err = parse(x.History[p.a]); err == nil {
				other, err = parse(y.History[p.b])
			}
			if err == nil {
				err = at.values("["+strconv.Itoa(p.a)+"]", one, other)
			}
		}
		if err != nil {
			return err
		}
	}
	return part{c, Difference{Part: "history"}}.cut(cut, len(x.History), len(y.History))
}

// steps returns the command of each layer in the history.
func steps(raw []byte) (all []string) {
	var c struct{ History []event }
	_ = json.Unmarshal(raw, &c) // without a history there are no steps
	for _, e := range c.History {
		if !e.EmptyLayer {
			all = append(all, strings.Join(strings.Fields(strings.TrimSuffix(e.CreatedBy, " # buildkit")), " "))
		}
	}
	return all
}

func nth(all []string, i int) string {
	if i < len(all) {
		return all[i]
	}
	return ""
}
