package command

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"text/template"
)

// writeFormat writes each value with a Go template, one in a line, or with the format
// "json" all values as JSON.
func writeFormat(w io.Writer, format string, values any) error {
	if format == "json" {
		text, err := indentedJSON(values)
		if err == nil {
			_, err = w.Write(text)
		}
		return err
	}
	t, err := template.New("format").Funcs(template.FuncMap{
		"json":  compactJSON,
		"join":  func(list []string, by string) string { return strings.Join(list, by) },
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
	}).Parse("{{range .}}" + format + "\n{{end}}")
	if err != nil {
		return usagef("--format: %s", templateError(err))
	}
	if err := t.Execute(w, values); err != nil {
		return usagef("--format: %s", explainField(templateError(err), reflect.TypeOf(values)))
	}
	return nil
}

// compactJSON encodes a value in one line without escaping HTML.
func compactJSON(v any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

var unknownField = regexp.MustCompile(`can't evaluate field (\w+) in type (\S+)$`)

// explainField adds the fields of the type to the text of an error about an unknown one.
func explainField(text string, values reflect.Type) string {
	m := unknownField.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	found := typeNamed(m[2], values, map[reflect.Type]bool{})
	if found == nil || found.Kind() != reflect.Struct {
		return strings.TrimSuffix(text, m[0]) + "there is no field " + m[1]
	}
	var names []string
	for _, f := range reflect.VisibleFields(found) {
		if f.IsExported() && !f.Anonymous {
			names = append(names, f.Name)
		}
	}
	return strings.TrimSuffix(text, m[0]) + fmt.Sprintf("there is no field %s: want one of %s", m[1], strings.Join(names, ", "))
}

// typeNamed returns the type with the name, t or a type that it contains, without
// pointers, or nil.
func typeNamed(name string, t reflect.Type, seen map[reflect.Type]bool) reflect.Type {
	if seen[t] {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer:
		return typeNamed(strings.TrimPrefix(name, "*"), t.Elem(), seen)
	case reflect.Slice, reflect.Array, reflect.Map:
		if t.String() != name {
			return typeNamed(name, t.Elem(), seen)
		}
	case reflect.Struct:
		for i := 0; i < t.NumField() && t.String() != name; i++ {
			if found := typeNamed(name, t.Field(i).Type, seen); found != nil {
				return found
			}
		}
	}
	if t.String() == name {
		return t
	}
	return nil
}

// templateError returns the text of an error without the name of the template.
func templateError(err error) string {
	text := strings.TrimPrefix(err.Error(), "template: ")
	if _, rest, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(text, "format:") {
		text = rest
	}
	return text
}
