package plan

import (
	"slices"
	"strings"
)

// env is an ordered list of variables. Setting one again moves it to the end.
type env struct {
	keys   []string
	values map[string]string
}

func (e *env) set(k, v string) {
	if e.values == nil {
		e.values = map[string]string{}
	}
	if _, ok := e.values[k]; ok {
		i := slices.Index(e.keys, k)
		e.keys = append(e.keys[:i], e.keys[i+1:]...)
	}
	e.keys = append(e.keys, k)
	e.values[k] = v
}

func (e *env) unset(k string) {
	if _, ok := e.values[k]; ok {
		i := slices.Index(e.keys, k)
		e.keys = append(e.keys[:i:i], e.keys[i+1:]...)
		delete(e.values, k)
	}
}

// Get returns the value of a variable, and reports whether it is set.
func (e *env) Get(k string) (string, bool) {
	v, ok := e.values[k]
	return v, ok
}

// Keys returns the names, the oldest first.
func (e *env) Keys() []string { return e.keys }

func (e *env) clone() env {
	out := env{keys: slices.Clone(e.keys), values: make(map[string]string, len(e.values))}
	for k, v := range e.values {
		out.values[k] = v
	}
	return out
}

func (e *env) list() []string {
	out := make([]string, len(e.keys))
	for i, k := range e.keys {
		out[i] = k + "=" + e.values[k]
	}
	return out
}

// setConfigEnv sets a variable in the Env of an image's configuration. A variable
// that is in the list keeps its position.
func setConfigEnv(list []string, k, v string) []string {
	for i, kv := range list {
		if name, _, _ := strings.Cut(kv, "="); name == k {
			list[i] = k + "=" + v
			return list
		}
	}
	return append(list, k+"="+v)
}
