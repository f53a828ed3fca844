// Package option parses the text of build options, such as the values of
// --output, --cache-to and --secret, into plain data.
//
// The results do not depend on the builder: callers convert them. Parsing reads
// no files and asks no registry.
package option

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"
)

// AttributeError reports an attribute of a key=value,... list that is unknown,
// repeated, without a value, or of another type.
type AttributeError struct {
	Key     string
	Problem string // completes the sentence that begins with the attribute
}

func (e *AttributeError) Error() string {
	return fmt.Sprintf("attribute %q %s", e.Key, e.Problem)
}

// attribute is an entry in the table of keys that a list may have.
type attribute[T any] struct {
	key     string   // in lower case, as it is documented
	aliases []string // other spellings
	types   string   // values of "type" that the attribute applies to, separated by spaces; "": all
	ignored bool     // accepted for the sake of other builders' users, and in no list of keys
	// matches reports whether a key belongs to this attribute, for attributes
	// whose key contains a name. Such attributes may be repeated.
	matches func(key string) bool
	set     func(to *T, key, value string) error
}

// table lists the attributes that a list may have.
type table[T any] []attribute[T]

// splitList splits a key=value,... list, which is a line of CSV.
func splitList(text string) ([]string, error) {
	if text == "" {
		return []string{""}, nil
	}
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return nil, fmt.Errorf("parsing the list of attributes: %w", err)
	}
	return fields, nil
}

// parse calls the set function of each field's attribute: that of "type" first, the
// others in order. It returns the documented keys that occurred.
func (known table[T]) parse(to *T, fields []string) (keys []string, err error) {
	kind := ""
	if i := slices.IndexFunc(fields, isType); i >= 0 {
		_, kind, _ = strings.Cut(fields[i], "=")
		fields = slices.Insert(slices.Delete(slices.Clone(fields), i, i+1), 0, fields[i])
	}
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		key = strings.TrimSpace(key)
		if !ok {
			return keys, &AttributeError{key, "has no value: want key=value"}
		}
		a := known.find(key)
		if a == nil {
			return keys, &AttributeError{key, "is not supported: want one of " + strings.Join(known.keys(kind), ", ")}
		}
		if a.matches == nil && slices.Contains(keys, a.key) {
			return keys, &AttributeError{a.key, "is given twice"}
		}
		keys = append(keys, a.key)
		if err := a.set(to, key, value); err != nil {
			return keys, err
		}
	}
	return keys, nil
}

// isType reports whether a field is the attribute "type".
func isType(field string) bool {
	key, _, ok := strings.Cut(field, "=")
	return ok && strings.EqualFold(strings.TrimSpace(key), "type")
}

func (known table[T]) find(key string) *attribute[T] {
	lower := strings.ToLower(key)
	for i, a := range known {
		if a.matches != nil && a.matches(key) || a.key == lower || slices.Contains(a.aliases, lower) {
			return &known[i]
		}
	}
	return nil
}

// keys lists the documented keys that apply to a type; "" is any.
func (known table[T]) keys(kind string) []string {
	var list []string
	for _, a := range known {
		if !a.ignored && (kind == "" || a.applies(kind)) {
			list = append(list, a.key)
		}
	}
	return list
}

// applies reports whether the attribute applies to a type.
func (a *attribute[T]) applies(kind string) bool {
	return a.types == "" || slices.Contains(strings.Fields(a.types), kind)
}

// checkType returns an error if one of the keys does not apply to the type.
func (known table[T]) checkType(keys []string, kind string) error {
	for _, key := range keys {
		if a := known.find(key); a != nil && !a.applies(kind) {
			return &AttributeError{key, "does not apply to type=" + kind}
		}
	}
	return nil
}

func parseBool(key, value string) (bool, error) {
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("%s=%s: want true or false", key, value)
	}
	return b, nil
}

// setBool returns a set function that parses a boolean into a field.
func setBool[T any](field func(*T) *bool) func(*T, string, string) error {
	return func(to *T, key, value string) (err error) {
		*field(to), err = parseBool(key, value)
		return err
	}
}

// ignoreBool and ignoreText are set functions of attributes without a meaning here.
func ignoreBool[T any](_ *T, key, value string) error {
	_, err := parseBool(key, value)
	return err
}

func ignoreText[T any](*T, string, string) error { return nil }

// onlyBool returns a set function of an attribute that has one possible value.
func onlyBool(want bool, reason string) func(*Output, string, string) error {
	return func(_ *Output, key, value string) error {
		got, err := parseBool(key, value)
		if err == nil && got != want {
			err = fmt.Errorf("%s=%s is not supported: %s", key, value, reason)
		}
		return err
	}
}

// setText returns a set function that keeps the value in a field.
func setText[T any](field func(*T) *string) func(*T, string, string) error {
	return func(to *T, _, value string) error {
		*field(to) = value
		return nil
	}
}
