// Package manifest parses the files in which projects declare their dependencies,
// versions and entry points.
//
// Documents of JSON, TOML, YAML and XML are read without a schema: a value of an
// unexpected type is as good as a missing one, because other tools read these files
// leniently, too. Gradle and Ruby files are programs; regular expressions find their
// usual declarations, and nothing is executed.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"go.yaml.in/yaml/v4"
)

// Document is a decoded object of JSON, TOML or YAML.
type Document map[string]any

// JSON decodes an object. Comments, commas before closing brackets and a byte order
// mark are allowed, as in tsconfig.json and deno.jsonc.
func JSON(text []byte) (Document, error) {
	var d Document
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if json.Unmarshal(text, &d) == nil && d != nil {
		return d, nil
	}
	d = nil
	if err := json.Unmarshal(plainJSON(text), &d); err != nil {
		return nil, fmt.Errorf("invalid JSON: %w", err)
	}
	if d == nil {
		return nil, errors.New("invalid JSON: want an object")
	}
	return d, nil
}

// plainJSON replaces comments and commas before closing brackets by spaces.
func plainJSON(text []byte) []byte {
	out := slices.Clone(text)
	comma := -1 // place of a comma that only spaces and comments follow
	for i := 0; i < len(out); i++ {
		switch c := out[i]; {
		case c == '"':
			comma = -1
			for i++; i < len(out) && out[i] != '"'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
		case c == '/' && i+1 < len(out) && (out[i+1] == '/' || out[i+1] == '*'):
			end := bytes.IndexByte(out[i:], '\n')
			if out[i+1] == '*' {
				if end = bytes.Index(out[i+2:], []byte("*/")); end >= 0 {
					end += 4
				}
			}
			if end < 0 {
				end = len(out) - i
			}
			for j := range out[i : i+end] {
				if out[i+j] != '\n' {
					out[i+j] = ' '
				}
			}
			i += end - 1
		case c == ',':
			comma = i
		case c == '}' || c == ']':
			if comma >= 0 {
				out[comma] = ' '
			}
			comma = -1
		case c != ' ' && c != '\t' && c != '\n' && c != '\r':
			comma = -1
		}
	}
	return out
}

// TOML decodes a document.
func TOML(text []byte) (Document, error) {
	var d Document
	if err := toml.Unmarshal(bytes.TrimPrefix(text, []byte("\ufeff")), &d); err != nil {
		return nil, fmt.Errorf("invalid TOML: %w", err)
	}
	return d, nil
}

// YAML decodes a document, which is a mapping.
func YAML(text []byte) (d Document, err error) {
	if err := yaml.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("invalid YAML: %w", err)
	}
	return d, nil
}

// Value returns the value at a path of keys, or nil.
func (d Document) Value(keys ...string) any {
	var v any = map[string]any(d)
	for _, key := range keys {
		m, _ := v.(map[string]any)
		if v = m[key]; v == nil {
			return nil
		}
	}
	return v
}

// String returns the string or number at a path of keys, or "".
func (d Document) String(keys ...string) string { return text(d.Value(keys...)) }

func text(v any) string {
	switch v := v.(type) {
	case string:
		return strings.TrimSpace(v)
	case int, int64, float64:
		return fmt.Sprint(v)
	}
	return ""
}

// Has reports whether there is a value at a path of keys.
func (d Document) Has(keys ...string) bool { return d.Value(keys...) != nil }

// Object returns the object at a path of keys, or nil.
func (d Document) Object(keys ...string) Document {
	m, _ := d.Value(keys...).(map[string]any)
	return m
}

// Keys returns the sorted keys of the object at a path of keys.
func (d Document) Keys(keys ...string) []string {
	return slices.Sorted(maps.Keys(d.Object(keys...)))
}

// Strings returns the strings of the list at a path of keys. A string is a list of one.
func (d Document) Strings(keys ...string) (list []string) {
	switch v := d.Value(keys...).(type) {
	case string:
		return []string{v}
	case []any:
		for _, e := range v {
			if s, ok := e.(string); ok {
				list = append(list, strings.TrimSpace(s))
			}
		}
	}
	return list
}

// Objects returns the objects of the list at a path of keys.
func (d Document) Objects(keys ...string) (list []Document) {
	switch v := d.Value(keys...).(type) {
	case []map[string]any:
		for _, m := range v {
			list = append(list, m)
		}
	case []any:
		for _, e := range v {
			if m, ok := e.(map[string]any); ok {
				list = append(list, m)
			}
		}
	}
	return list
}
