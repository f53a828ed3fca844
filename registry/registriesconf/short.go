package registriesconf

import (
	"errors"
	"fmt"
	"strings"
)

// short is the configuration of names without a registry.
type short struct {
	Search  []string          `toml:"unqualified-search-registries"`
	Mode    string            `toml:"short-name-mode"`
	Aliases map[string]string `toml:"aliases"`
}

// The modes of short names. In enforcing mode it is an error if there are several
// registries to search; in the others they are searched in order.
const (
	enforcing  = "enforcing"
	permissive = "permissive"
	disabled   = "disabled"
)

// mergeShort adds the configuration of a later file. Its list, mode and aliases
// replace those of earlier files; an empty alias removes an earlier one.
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

// Short returns the references that a short name may stand for when it is pulled,
// in the order of preference: its alias, or else the name in each of the registries
// to search. It returns none for names with a registry and for names without a
// configuration. Several references are an error in enforcing mode.
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
		return nil, fmt.Errorf("short name %s is ambiguous: it may refer to %s, by the unqualified-search-registries in %s; use one of these, or set short-name-mode to %s", name, list(full), s.searchFile, permissive)
	}
	return full, nil
}

func list(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// isShort reports whether a name has no registry: its first part has neither dot
// nor port, and is not localhost.
func isShort(name string) bool {
	domain, _, ok := strings.Cut(name, "/")
	return name != "" && (!ok || !strings.ContainsAny(domain, ".:") && domain != "localhost")
}

// splitTag splits a name without a registry before its tag or digest.
func splitTag(name string) (bare, rest string) {
	if i := strings.IndexAny(name, ":@"); i >= 0 {
		return name[:i], name[i:]
	}
	return name, ""
}

// checkAliases returns an error for an alias without a registry.
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
