package bake

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

// override is the value of an attribute from flags.
type override struct {
	value  string   // of an attribute with one value
	list   []string // of an attribute with several
	add    bool     // to the list of the files
	clear  bool
	source string // the last flag
}

// overrides are the values of a target by their keys, such as tag or arg.NAME.
type overrides map[string]override

// form says how an attribute is overridden.
type form struct {
	list   bool // the value is added to a list
	sub    bool // the key has the name of an entry
	either bool // the key may have the name of an entry
}

var forms = map[string]form{
	"annotation": {list: true}, "attest": {list: true}, "cache-from": {list: true}, "cache-to": {list: true},
	"entitlement": {list: true}, "no-cache-filter": {list: true}, "output": {list: true}, "platform": {list: true},
	"ssh": {list: true}, "tag": {list: true}, "ulimit": {list: true},
	"secret": {list: true, either: true},
	"arg":    {sub: true}, "contexts": {sub: true}, "extra-host": {sub: true}, "label": {sub: true}, "resource": {sub: true},
	"call": {}, "context": {}, "dockerfile": {}, "load": {}, "network": {}, "no-cache": {}, "pull": {}, "push": {},
	"shm-size": {}, "target": {},
}

// plurals are other names of keys.
var plurals = map[string]string{
	"annotations": "annotation", "args": "arg", "entitlements": "entitlement", "extra-hosts": "extra-host", "labels": "label",
	"platforms": "platform", "resources": "resource", "secrets": "secret", "tags": "tag", "ulimits": "ulimit",
}

// newOverrides parses flags of the form PATTERN.KEY[.NAME][+]=VALUE and returns the
// overrides of each target.
func (d *Definition) newOverrides(flags []string, lookup func(string) (string, bool)) (map[string]overrides, error) {
	all := map[string]overrides{}
	var errs []error
	for _, flag := range flags {
		if err := d.addOverride(all, flag, lookup); err != nil {
			errs = append(errs, fmt.Errorf("--set %s: %w", flag, err))
		}
	}
	return all, errors.Join(errs...)
}

func (d *Definition) addOverride(all map[string]overrides, flag string, lookup func(string) (string, bool)) error {
	left, value, hasValue := strings.Cut(flag, "=")
	left, add := strings.CutSuffix(left, "+")
	pattern, key, ok := strings.Cut(left, ".")
	if !ok {
		return errors.New("want TARGET.KEY=VALUE")
	}
	key, name, hasName := strings.Cut(key, ".")
	written := key
	if key == "" {
		return errors.New("want TARGET.KEY=VALUE")
	}
	if plural, ok := plurals[key]; ok {
		if key == "secrets" && hasName {
			return errors.New("secrets takes no name: write secret." + name)
		}
		key = plural
	}
	f, err := formOf(key, written, hasName && name != "", add)
	if err != nil {
		return err
	}
	if !hasValue {
		if key != "arg" {
			return errors.New("want TARGET.KEY=VALUE")
		}
		if lookup != nil {
			if value, ok = lookup(name); !ok {
				return nil
			}
		}
	}
	targets, err := d.match(pattern)
	if err != nil {
		return err
	}
	if hasName {
		key += "." + name
	}
	for _, t := range targets {
		if all[t] == nil {
			all[t] = overrides{}
		}
		all[t][key] = all[t][key].with(value, f.list && !hasName, add, flag)
	}
	return nil
}

// keys returns the documented names of keys.
func keys() (names []string) {
	singular := map[string]bool{}
	for plural, name := range plurals {
		singular[name] = name != "platform"
		if name != "platform" {
			names = append(names, plural)
		}
	}
	for name := range forms {
		if !singular[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// formOf returns the form of a key, which may be written as a plural, and refuses
// operators that it does not allow.
func formOf(key, written string, hasName, add bool) (form, error) {
	f, ok := forms[key]
	switch {
	case key == "policy":
		return f, errors.New("policies are not supported")
	case !ok:
		return f, dockerfile.DidYouMean(fmt.Errorf("unknown key: %s", key), key, keys())
	case f.sub && !hasName:
		return f, fmt.Errorf("%[1]s requires a name: write %[1]s.NAME=VALUE", written)
	case !f.sub && !f.either && hasName:
		return f, fmt.Errorf("%s does not support subkeys", written)
	case add && (key == "secret" && hasName || key == "resource"):
		return f, fmt.Errorf("%s does not support +=", written)
	}
	return f, nil
}

func (o override) with(value string, list, add bool, source string) override {
	o.source = source
	if !list {
		o.value = value
		return o
	}
	if !add && value == "" {
		o.clear, o.list = true, nil
	} else {
		o.list = append(slices.Clip(o.list), value)
	}
	o.add = add && !o.clear
	return o
}

// match returns the targets of a pattern, which is a name or as in path.Match.
func (d *Definition) match(pattern string) (names []string, err error) {
	if d.Target(pattern) != nil {
		return []string{pattern}, nil
	}
	for _, t := range d.Targets {
		ok, err := path.Match(pattern, t.Name)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", pattern, err)
		}
		if ok {
			names = append(names, t.Name)
		}
	}
	if len(names) == 0 {
		return nil, dockerfile.DidYouMean(fmt.Errorf("could not find any target matching %q", pattern), pattern, d.targetNames())
	}
	return names, nil
}

func (d *Definition) targetNames() (names []string) {
	for _, t := range d.Targets {
		names = append(names, t.Name)
	}
	return names
}

// apply sets the attributes that flags override. Push and load come last, since they
// depend on the outputs.
func (t *Target) apply(all overrides) error {
	keys := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmpBool(a == "push" || a == "load" || strings.HasPrefix(a, "secret."), b == "push" || b == "load" || strings.HasPrefix(b, "secret."), strings.Compare(a, b))
	})
	var errs []error
	for _, key := range keys {
		o := all[key]
		kind, name, hasName := strings.Cut(key, ".")
		var err error
		switch {
		case hasName:
			err = t.setEntry(kind, name, o.value)
		case forms[kind].list:
			err = t.setList(kind, o)
		default:
			err = t.setValue(kind, o.value)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--set %s: %w", o.source, err))
		}
		t.Positions = mergeMap(t.Positions, map[string]Position{attributeOf(kind): {File: "--set " + o.source}})
	}
	return errors.Join(errs...)
}

// attributeOf returns the attribute that a key of --set changes.
func attributeOf(key string) string {
	for plural, singular := range plurals {
		if key == singular && key != "secret" {
			return plural
		}
	}
	if key == "push" || key == "load" {
		return "output"
	}
	return key
}

func cmpBool(a, b bool, same int) int {
	switch {
	case a == b:
		return same
	case a:
		return 1
	}
	return -1
}

func (t *Target) setValue(key, value string) (err error) {
	switch key {
	case "context":
		t.Context, t.Bases.Context = &value, nil
	case "dockerfile":
		t.Dockerfile = &value
	case "target":
		t.Stage = &value
	case "call":
		t.Call = &value
	case "network":
		t.Network = &value
	case "shm-size":
		t.ShmSize = &value
	default:
		on, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("invalid value %q for %s: want true or false", value, key)
		}
		t.setSwitch(key, on)
	}
	return nil
}

func (t *Target) setSwitch(key string, on bool) {
	switch key {
	case "no-cache":
		t.NoCache = &on
	case "pull":
		t.Pull = &on
	case "push":
		t.Outputs = withPush(t.Outputs, on)
	case "load":
		if on {
			t.Outputs = withLoad(t.Outputs)
		}
	}
}

func (t *Target) setEntry(key, name, value string) error {
	switch key {
	case "arg":
		t.Args = mergeSet(t.Args, map[string]*string{name: &value})
	case "label":
		t.Labels = mergeSet(t.Labels, map[string]*string{name: &value})
	case "extra-host":
		t.ExtraHosts = mergeSet(t.ExtraHosts, map[string]*string{name: &value})
	case "contexts":
		t.Contexts = mergeMap(t.Contexts, map[string]string{name: value})
	case "secret":
		return t.setSecret(name, value)
	case "resource":
		return t.setResource(name, value)
	}
	return nil
}

// setSecret changes the source of a declared secret.
func (t *Target) setSecret(id, value string) error {
	i := slices.IndexFunc(t.Secrets, func(s *Secret) bool { return s.ID == id })
	if i < 0 || id == "" {
		return fmt.Errorf("secret %q must be declared before it can be overridden", id)
	}
	s, err := ParseSecret(value)
	if err != nil {
		return err
	}
	if s.ID != "" && s.ID != id {
		return fmt.Errorf("secret override id %q does not match declared secret %q", s.ID, id)
	}
	s.ID = id
	t.Secrets = slices.Clone(t.Secrets)
	t.Secrets[i] = s
	return nil
}

func (t *Target) setResource(name, value string) error {
	r := &Resources{}
	numbers := map[string]**int64{"cpu-shares": &r.CPUShares, "cpu-period": &r.CPUPeriod, "cpu-quota": &r.CPUQuota}
	texts := map[string]**string{"memory": &r.Memory, "memory-swap": &r.MemorySwap, "cpuset-cpus": &r.CPUSetCPUs, "cpuset-mems": &r.CPUSetMems}
	if to, ok := numbers[name]; ok {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("invalid value %q for resource %s: want a whole number", value, name)
		}
		*to = &n
	} else if to, ok := texts[name]; ok {
		*to = &value
	} else {
		known := slices.Concat(slices.Sorted(maps.Keys(numbers)), slices.Sorted(maps.Keys(texts)))
		return dockerfile.DidYouMean(fmt.Errorf("unknown resource %q", name), name, known)
	}
	t.Resources = t.Resources.merge(r)
	return nil
}

func (t *Target) setList(key string, o override) (err error) {
	switch key {
	case "tag":
		setStrings(&t.Tags, o)
	case "platform":
		setStrings(&t.Platforms, o)
	case "no-cache-filter":
		setStrings(&t.NoCacheFilter, o)
	case "ulimit":
		setStrings(&t.Ulimits, o)
	case "entitlement":
		addStrings(&t.Entitlements, o)
	case "annotation":
		addStrings(&t.Annotations, o)
	case "cache-from":
		t.CacheFrom, err = setEntries(t.CacheFrom, o, ParseCaches, mergeCaches)
	case "cache-to":
		t.CacheTo, err = setEntries(t.CacheTo, o, ParseCaches, mergeCaches)
	case "output":
		t.Outputs, err = setEntries(t.Outputs, o, one(ParseOutput), func(a, b []*Output) []*Output { return uniqueOutputs(slices.Concat(a, b)) })
	case "secret":
		t.Secrets, err = setEntries(t.Secrets, o, one(ParseSecret), mergeSecrets)
	case "ssh":
		t.SSH, err = setEntries(t.SSH, o, func(s string) ([]*SSH, error) { return []*SSH{ParseSSH(s)}, nil }, mergeSSH)
	case "attest":
		o.add = !o.clear
		t.Attest, err = setEntries(t.Attest, o, one(ParseAttest), mergeAttests)
	}
	return err
}

func setStrings(list *[]string, o override) {
	if o.add {
		*list = slices.Concat(*list, o.list)
		return
	}
	*list = o.list
}

// addStrings adds also with = instead of +=.
func addStrings(list *[]string, o override) {
	o.add = !o.clear
	setStrings(list, o)
}

func one[T any](parse func(string) (T, error)) func(string) ([]T, error) {
	return func(s string) ([]T, error) {
		entry, err := parse(s)
		return []T{entry}, err
	}
}

func setEntries[T any](list []T, o override, parse func(string) ([]T, error), merge func(a, b []T) []T) ([]T, error) {
	var entries []T
	for _, text := range o.list {
		if text == "" {
			continue
		}
		more, err := parse(text)
		if err != nil {
			return list, err
		}
		entries = append(entries, more...)
	}
	if o.add {
		return merge(list, entries), nil
	}
	return entries, nil
}

// withPush returns the outputs with pushing switched on or off.
func withPush(outputs []*Output, on bool) (changed []*Output) {
	add := on
	for _, o := range outputs {
		if o.Type == "registry" && !on {
			continue
		}
		if o.Type == "image" {
			o = &Output{Type: o.Type, Destination: o.Destination, Attrs: withKeys(o.Attrs, "push", strconv.FormatBool(on))}
		}
		add = add && o.Type == "docker"
		changed = append(changed, o)
	}
	if add {
		changed = append(changed, &Output{Type: "image", Attrs: map[string]string{"push": "true"}})
	}
	return changed
}

// withLoad returns the outputs with one into the engine, unless all are files, or one
// is for the engine already.
func withLoad(outputs []*Output) []*Output {
	for _, o := range outputs {
		switch o.Type {
		case "docker":
			if o.Destination == "" {
				return outputs
			}
		case "image", "registry", "oci":
		default:
			return outputs
		}
	}
	return append(slices.Clip(outputs), &Output{Type: "docker"})
}
