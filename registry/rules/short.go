package rules

import (
	"errors"
	"fmt"
	"strings"
)

// short is what a file says of names without a registry.
type short struct {
	Search  []string          `toml:"unqualified-search-registries"`
	Mode    string            `toml:"short-name-mode"`
	Aliases map[string]string `toml:"aliases"`
}

// The modes of short names: by the first, several registries to search are an
// error; by the others they are asked in order.
const (
	enforcing  = "enforcing"
	permissive = "permissive"
	disabled   = "disabled"
)

// mergeShort adds what a later file says: its list and mode replace those of
// earlier files, and an alias of theirs goes that has no value.
func (s *Set) mergeShort(file string, add short) error {
	switch add.Mode {
	case "":
	case enforcing, permissive, disabled:
		s.short.Mode = add.Mode
	default:
		return fmt.Errorf("%s: short-name-mode %q: want %s, %s or %s", file, add.Mode, enforcing, permissive, disabled)
	}
	if add.Search != nil {
		s.short.Search, s.searchFile = add.Search, file
	}
	for name, full := range add.Aliases {
		if s.short.Aliases == nil {
			s.short.Aliases = map[string]string{}
		}
		if s.short.Aliases[name] = full; full == "" {
			delete(s.short.Aliases, name)
		}
	}
	return nil
}

// Short lists what a name means that is to be pulled, in the order in which the
// registries are to be asked: its alias, else the name in each of the registries to
// search. It is empty for names with a registry, and for those of which no file
// says anything. That there are several, and that no order may be followed, is an
// error.
func (s *Set) Short(name string) ([]string, error) {
	if s == nil || !isShort(name) {
		return nil, nil
	}
	bare, rest := splitTag(name)
	if full, ok := s.short.Aliases[bare]; ok {
		return []string{full + rest}, nil
	}
	var full []string
	for _, at := range s.short.Search {
		full = append(full, strings.TrimRight(at, "/")+"/"+name)
	}
	if len(full) > 1 && (s.short.Mode == "" || s.short.Mode == enforcing) {
		return nil, fmt.Errorf("%s may mean %s, by the unqualified-search-registries in %s: write which, or set short-name-mode to %s", name, list(full), s.searchFile, permissive)
	}
	return full, nil
}

func list(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// isShort tells whether a name names no registry: its first part has neither dot
// nor port, and is not localhost.
func isShort(name string) bool {
	domain, _, ok := strings.Cut(name, "/")
	return name != "" && (!ok || !strings.ContainsAny(domain, ".:") && domain != "localhost")
}

// splitTag takes the tag and digest off a name without a registry.
func splitTag(name string) (bare, rest string) {
	if i := strings.IndexAny(name, ":@"); i >= 0 {
		return name[:i], name[i:]
	}
	return name, ""
}

// checkAliases refuses aliases that lead to no registry.
func (add short) checkAliases() error {
	for name, full := range add.Aliases {
		if full == "" {
			continue
		}
		if bare, rest := splitTag(name); !isShort(name) || rest != "" {
			return fmt.Errorf("[aliases] %s: want a name without registry and tag, as in %s", name, bare)
		}
		if isShort(full) {
			return errors.New("[aliases] " + name + " = " + full + ": want a name with its registry")
		}
	}
	return nil
}
