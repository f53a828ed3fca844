package main

import (
	"encoding/json"
	"strings"
	"text/template"
)

// format prints each value by a Go template, one a line, or all as JSON.
func (a *app) format(format string, values any) error {
	if format == "json" {
		text, err := indented(values)
		if err == nil {
			_, err = a.stdout.Write(text)
		}
		return err
	}
	t, err := template.New("format").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			var b strings.Builder
			e := json.NewEncoder(&b)
			e.SetEscapeHTML(false)
			err := e.Encode(v)
			return strings.TrimSuffix(b.String(), "\n"), err
		},
		"join":  func(list []string, by string) string { return strings.Join(list, by) },
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
	}).Parse("{{range .}}" + format + "\n{{end}}")
	if err != nil {
		return usagef("--format: %s", templateError(err))
	}
	if err := t.Execute(a.stdout, values); err != nil {
		return usagef("--format: %s", templateError(err))
	}
	return nil
}

// templateError leaves out how the template is called here.
func templateError(err error) string {
	text := strings.TrimPrefix(err.Error(), "template: ")
	if _, rest, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(text, "format:") {
		text = rest
	}
	return text
}
