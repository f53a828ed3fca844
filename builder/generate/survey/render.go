package survey

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"text/template"
)

//go:embed templates
var common embed.FS

// Exec is a command in exec form.
type Exec []string

func (e Exec) String() string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	parts := make([]string, len(e))
	for i, word := range e {
		b.Reset()
		if err := encoder.Encode(word); err != nil {
			return "" // strings have no such error
		}
		parts[i] = strings.TrimSpace(b.String())
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// Shell is a fragment of a command, made by this package of constants and safe words.
// Fields of other types are checked by render.
type Shell string

// Command formats a fragment of a command. An argument that is not a safe word becomes
// one that Render refuses.
func Command(format string, words ...any) Shell {
	for i, w := range words {
		if word, ok := w.(string); ok && !Safe(word) {
			return Shell("\x00" + word)
		} else if !ok {
			words[i] = w
		}
	}
	return Shell(fmt.Sprintf(format, words...))
}

var safeWord = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9@._/][A-Za-z0-9@._/+:~=,-]*$`) })

// safe reports whether a word is only a word in a Dockerfile and in a shell.
func Safe(word string) bool { return len(word) < 500 && safeWord().MatchString(word) }

// Render writes the Dockerfile from a template. It refuses strings of data that are
// not safe words.
func Render(fsys fs.FS, name string, data any) (string, error) {
	if err := check(reflect.ValueOf(data)); err != nil {
		return "", err
	}
	t, err := template.New(name+".Dockerfile").Option("missingkey=error").ParseFS(fsys, "templates/"+name+".Dockerfile")
	if err != nil {
		return "", err
	}
	if t, err = t.ParseFS(common, "templates/common.Dockerfile"); err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", err
	}
	return tidy(b.String()), nil
}

// check checks the strings in a value.
func check(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return check(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if err := check(v.Field(i)); err != nil {
				return err
			}
		}
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[Exec]() {
			return nil // JSON quotes them
		}
		for i := range v.Len() {
			if err := check(v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.String:
		word := v.String()
		if v.Type() == reflect.TypeFor[Shell]() {
			if _, word, unsafe := strings.Cut(word, "\x00"); unsafe {
				return unwritable(word)
			}
			return nil
		}
		if word != "" && !Safe(word) {
			return unwritable(word)
		}
	}
	return nil
}

func unwritable(word string) error {
	return fmt.Errorf("the name %.200q of the source tree cannot be written to a Dockerfile: only letters, digits and @._/+:~=,- are supported: rename it, or write the Dockerfile by hand", word)
}

// tidy joins runs of empty lines, which templates leave, and ends the text with one
// line end.
func tidy(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\n")
		if line == "" && (len(lines) == 0 || lines[len(lines)-1] == "") {
			continue
		}
		lines = append(lines, line)
	}
	return strings.TrimSpace(strings.Join(lines, "\n")) + "\n"
}
