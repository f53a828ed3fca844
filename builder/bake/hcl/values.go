package hcl

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/gocty"

	"github.com/cairn-build/cairn/builder/bake"
)

// The types below are lists whose entries are strings or objects. The evaluator
// converts values to and from them by these methods.
type (
	attests   []*bake.Attest
	caches    []*bake.Cache
	outputs   []*bake.Output
	secrets   []*bake.Secret
	agents    []*bake.SSH
	resources bake.Resources
)

func secretType() cty.Type {
	return cty.ObjectWithOptionalAttrs(map[string]cty.Type{
		"id": cty.String, "src": cty.String, "env": cty.String,
	}, []string{"id", "src", "env"})
}

func agentType() cty.Type {
	return cty.ObjectWithOptionalAttrs(map[string]cty.Type{
		"id": cty.String, "paths": cty.List(cty.String),
	}, []string{"id", "paths"})
}

func mapType() cty.Type { return cty.Map(cty.String) }

func resourceTypes() map[string]cty.Type {
	return map[string]cty.Type{
		"memory": cty.String, "memory-swap": cty.String, "cpuset-cpus": cty.String, "cpuset-mems": cty.String,
		"cpu-shares": cty.Number, "cpu-period": cty.Number, "cpu-quota": cty.Number,
	}
}

func resourcesType() cty.Type {
	types := resourceTypes()
	return cty.ObjectWithOptionalAttrs(types, slices.Collect(maps.Keys(types)))
}

func (a *attests) FromCtyValue(in cty.Value, path cty.Path) (err error) {
	*a, err = readList(in, path, mapType(), func(s string) ([]*bake.Attest, error) {
		attest, err := bake.ParseAttest(s)
		return []*bake.Attest{attest}, err
	}, attestOf)
	return err
}

func (a attests) ToCtyValue() cty.Value {
	return writeList(a, mapType(), func(a *bake.Attest) cty.Value {
		m := stringMap(a.Attrs, "type", a.Type)
		if a.Disabled {
			m["disabled"] = cty.StringVal("true")
		}
		return cty.MapVal(m)
	})
}

func (c *caches) FromCtyValue(in cty.Value, path cty.Path) (err error) {
	*c, err = readList(in, path, mapType(), bake.ParseCaches, func(v cty.Value) (*bake.Cache, error) {
		kind, attrs, err := typed(v)
		return &bake.Cache{Type: kind, Attrs: attrs}, err
	})
	return err
}

func (c caches) ToCtyValue() cty.Value {
	return writeList(c, mapType(), func(c *bake.Cache) cty.Value { return cty.MapVal(stringMap(c.Attrs, "type", c.Type)) })
}

func (o *outputs) FromCtyValue(in cty.Value, path cty.Path) (err error) {
	*o, err = readList(in, path, mapType(), func(s string) ([]*bake.Output, error) {
		output, err := bake.ParseOutput(s)
		return []*bake.Output{output}, err
	}, func(v cty.Value) (*bake.Output, error) {
		kind, attrs, err := typed(v)
		o := &bake.Output{Type: kind, Destination: attrs["dest"], Attrs: attrs}
		delete(attrs, "dest")
		return o, err
	})
	return err
}

func (o outputs) ToCtyValue() cty.Value {
	return writeList(o, mapType(), func(o *bake.Output) cty.Value {
		m := stringMap(o.Attrs, "type", o.Type)
		m["dest"] = cty.StringVal(o.Destination)
		return cty.MapVal(m)
	})
}

func (s *secrets) FromCtyValue(in cty.Value, path cty.Path) (err error) {
	*s, err = readList(in, path, secretType(), func(text string) ([]*bake.Secret, error) {
		secret, err := bake.ParseSecret(text)
		return []*bake.Secret{secret}, err
	}, func(v cty.Value) (*bake.Secret, error) {
		return &bake.Secret{ID: stringOf(v.GetAttr("id")), File: stringOf(v.GetAttr("src")), Env: stringOf(v.GetAttr("env"))}, nil
	})
	return err
}

func (s secrets) ToCtyValue() cty.Value {
	return writeList(s, secretType(), func(s *bake.Secret) cty.Value {
		return cty.ObjectVal(map[string]cty.Value{"id": cty.StringVal(s.ID), "src": cty.StringVal(s.File), "env": cty.StringVal(s.Env)})
	})
}

func (a *agents) FromCtyValue(in cty.Value, path cty.Path) (err error) {
	*a, err = readList(in, path, agentType(), func(text string) ([]*bake.SSH, error) {
		return []*bake.SSH{bake.ParseSSH(text)}, nil
	}, func(v cty.Value) (*bake.SSH, error) {
		agent := &bake.SSH{ID: stringOf(v.GetAttr("id"))}
		var err error
		if paths := v.GetAttr("paths"); !paths.IsNull() {
			err = gocty.FromCtyValue(paths, &agent.Paths)
		}
		return agent, err
	})
	return err
}

func (a agents) ToCtyValue() cty.Value {
	return writeList(a, agentType(), func(a *bake.SSH) cty.Value {
		paths := cty.ListValEmpty(cty.String)
		if len(a.Paths) > 0 {
			list := make([]cty.Value, len(a.Paths))
			for i, p := range a.Paths {
				list[i] = cty.StringVal(p)
			}
			paths = cty.ListVal(list)
		}
		return cty.ObjectVal(map[string]cty.Value{"id": cty.StringVal(a.ID), "paths": paths})
	})
}

// fields returns the addresses of the fields of resources by their names.
func (r *resources) fields() map[string]any {
	return map[string]any{
		"memory": &r.Memory, "memory-swap": &r.MemorySwap, "cpuset-cpus": &r.CPUSetCPUs, "cpuset-mems": &r.CPUSetMems,
		"cpu-shares": &r.CPUShares, "cpu-period": &r.CPUPeriod, "cpu-quota": &r.CPUQuota,
	}
}

func (r *resources) FromCtyValue(in cty.Value, path cty.Path) error {
	v, err := convert.Convert(in, resourcesType())
	if err != nil {
		return path.NewError(err)
	}
	if v.IsNull() {
		return path.NewErrorf("the value is null")
	}
	for name, field := range r.fields() {
		if err := gocty.FromCtyValue(v.GetAttr(name), field); err != nil {
			return path.NewErrorf("%s: %w", name, err)
		}
	}
	return nil
}

func (r *resources) ToCtyValue() cty.Value {
	if r == nil {
		return cty.NullVal(resourcesType())
	}
	m, types := map[string]cty.Value{}, resourceTypes()
	for name, field := range r.fields() {
		v, err := gocty.ToCtyValue(field, types[name])
		if err != nil {
			v = cty.NullVal(types[name])
		}
		m[name] = v
	}
	return cty.ObjectVal(m)
}

// readList reads the entries of a list, strings with text and others with object, after
// a conversion to entry.
func readList[T any](in cty.Value, path cty.Path, entry cty.Type, text func(string) ([]T, error), object func(cty.Value) (T, error)) ([]T, error) {
	if t := in.Type(); !t.IsTupleType() && !t.IsListType() {
		return nil, path.NewErrorf("%s", convert.MismatchMessage(t, cty.List(entry)))
	}
	list := make([]T, 0, in.LengthInt())
	for i := in.ElementIterator(); i.Next(); {
		_, v := i.Element()
		if !v.IsKnown() {
			continue
		}
		if v.IsNull() {
			return nil, path.NewErrorf("an entry of the list is null")
		}
		entries, err := readEntry(v, entry, text, object)
		if err != nil {
			return nil, path.NewError(err)
		}
		list = append(list, entries...)
	}
	return list, nil
}

func readEntry[T any](v cty.Value, entry cty.Type, text func(string) ([]T, error), object func(cty.Value) (T, error)) ([]T, error) {
	if v.Type() == cty.String {
		if v.AsString() == "" {
			return nil, nil
		}
		return text(v.AsString())
	}
	converted, err := convert.Convert(v, entry)
	if err != nil {
		return nil, err
	}
	one, err := object(converted)
	return []T{one}, err
}

func writeList[T any](list []T, entry cty.Type, write func(T) cty.Value) cty.Value {
	if len(list) == 0 {
		return cty.ListValEmpty(entry)
	}
	values := make([]cty.Value, len(list))
	for i, e := range list {
		values[i] = write(e)
	}
	return cty.ListVal(values)
}

func attestOf(v cty.Value) (*bake.Attest, error) {
	a := &bake.Attest{Attrs: map[string]string{}}
	for key, v := range v.AsValueMap() {
		if v.IsNull() {
			return nil, fmt.Errorf("the value of %q is null", key)
		}
		switch value := stringOf(v); key {
		case "type":
			a.Type = value
		case "disabled":
			disabled, err := strconv.ParseBool(value)
			if err != nil {
				return nil, fmt.Errorf("invalid value %q of disabled: expected true or false", value)
			}
			a.Disabled = disabled
		default:
			a.Attrs[key] = value
		}
	}
	return a, nil
}

// typed splits a map into its type and the other attributes.
func typed(v cty.Value) (kind string, attrs map[string]string, err error) {
	attrs = map[string]string{}
	for key, v := range v.AsValueMap() {
		if v.IsNull() {
			return "", attrs, fmt.Errorf("the value of %q is null", key)
		}
		attrs[key] = stringOf(v)
	}
	kind = attrs["type"]
	delete(attrs, "type")
	if kind == "" {
		return "", attrs, errors.New("type is required")
	}
	return kind, attrs, nil
}

func stringMap(attrs map[string]string, key, value string) map[string]cty.Value {
	m := map[string]cty.Value{key: cty.StringVal(value)}
	for k, v := range attrs {
		if k != key {
			m[k] = cty.StringVal(v)
		}
	}
	return m
}

// stringOf returns a string, or "" for null.
func stringOf(v cty.Value) string {
	if v.IsNull() || !v.IsKnown() {
		return ""
	}
	return v.AsString()
}
