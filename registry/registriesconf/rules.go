// Package registriesconf reads the registry configuration of podman, skopeo and
// buildah: registries.conf, version 2, and its drop-in files. See
// containers-registries.conf(5).
//
// A rule applies to images whose name begins with its prefix; the longest prefix
// wins. Images are pulled from the mirrors of the rule in order, then from its
// location, which replaces the prefix. Pushes use the name as it is.
//
// Aliases and unqualified-search-registries apply to [Set.Short] only. In a
// Dockerfile, short names refer to Docker Hub on all machines by default.
package registriesconf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Set is the configuration of a machine. A nil Set has no rules.
type Set struct {
	rules      map[string]rule // by prefix
	short      short
	searchFile string // the file with the registries to search
}

// Place is a location to pull an image from.
type Place struct {
	Ref      string // the image's reference at this place
	Insecure bool   // allow plain HTTP and any certificate
	Mirror   bool   // not the last place
}

// rule is one [[registry]] table of a file.
type rule struct {
	Prefix             string   `toml:"prefix"`
	Location           string   `toml:"location"`
	Insecure           bool     `toml:"insecure"`
	Blocked            bool     `toml:"blocked"`
	MirrorByDigestOnly bool     `toml:"mirror-by-digest-only"`
	Mirrors            []mirror `toml:"mirror"`

	file string
}

type mirror struct {
	Location string `toml:"location"`
	Insecure bool   `toml:"insecure"`
	PullFrom string `toml:"pull-from-mirror"`
}

// Files returns the configuration files for the user with this home directory:
// the main file, which is the user's or else the system's, and its drop-in files,
// each of which may replace rules. A non-empty main replaces the main file. The
// last files have the aliases that podman's users chose.
func Files(main, home string) []string {
	const system = "/etc/containers/registries.conf"
	user := filepath.Join(home, ".config/containers/registries.conf")
	if main == "" {
		main = system
		if _, err := os.Stat(user); home != "" && err == nil {
			main = user
		}
	}
	files := []string{main}
	dirs := []string{system + ".d"}
	if home != "" {
		dirs = append(dirs, user+".d")
	}
	for _, dir := range dirs {
		more, _ := filepath.Glob(filepath.Join(dir, "*.conf")) // the pattern is valid
		files = append(files, more...)
	}
	// Root of a user namespace cannot be distinguished from podman's root here.
	if os.Geteuid() == 0 {
		files = append(files, "/var/cache"+chosenAliases)
	}
	if cache := os.Getenv("XDG_CACHE_HOME"); cache != "" {
		return append(files, cache+chosenAliases)
	} else if home != "" {
		return append(files, filepath.Join(home, ".cache")+chosenAliases)
	}
	return files
}

// chosenAliases is podman's file with the aliases that a user chose, below a cache
// directory. It may belong to another user.
const chosenAliases = "/containers/short-name-aliases.conf"

// Load reads files in order. Missing files are ignored.
func Load(files []string) (*Set, error) {
	s := &Set{rules: map[string]rule{}}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && strings.HasSuffix(file, chosenAliases) {
			continue
		}
		if err == nil {
			err = s.add(file, string(b))
		}
		if err != nil {
			return nil, fmt.Errorf("read registries.conf: %w", err)
		}
	}
	return s, nil
}

func (s *Set) add(file, text string) error {
	var content struct {
		Registry   []rule         `toml:"registry"`
		Registries map[string]any `toml:"registries"` // of version 1
		short
	}
	if _, err := toml.Decode(text, &content); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if len(content.Registries) > 0 {
		return fmt.Errorf("%s: [registries.*] is registries.conf version 1, which is not supported; use [[registry]] tables", file)
	}
	if err := content.checkAliases(); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := s.mergeShort(file, content.short); err != nil {
		return err
	}
	for _, r := range content.Registry {
		r.file = file
		if err := r.complete(); err != nil {
			return fmt.Errorf("%s: [[registry]] %s%w", file, r.Prefix, err)
		}
		s.rules[r.Prefix] = r
	}
	return nil
}

// complete validates a rule and sets its defaults.
func (r *rule) complete() error {
	for _, at := range []*string{&r.Prefix, &r.Location} {
		*at = strings.TrimRight(*at, "/")
	}
	if r.Prefix == "" {
		r.Prefix = r.Location
	}
	wild := strings.HasPrefix(r.Prefix, "*.")
	if r.Location == "" && !wild {
		r.Location = r.Prefix
	}
	switch {
	case r.Prefix == "":
		return errors.New("has neither prefix nor location")
	case strings.ContainsAny(strings.TrimPrefix(r.Prefix, "*."), "* \t"), strings.Contains(r.Prefix, "://"):
		return errors.New(": want a prefix such as registry.example/team or *.example")
	case strings.Contains(r.Location, "://"):
		return fmt.Errorf(": location %q: leave out the scheme", r.Location)
	}
	for i := range r.Mirrors {
		m := &r.Mirrors[i]
		m.Location = strings.TrimRight(m.Location, "/")
		switch {
		case m.Location == "" || strings.Contains(m.Location, "://"):
			return fmt.Errorf(": mirror %q: want a location without a scheme", m.Location)
		case r.MirrorByDigestOnly && m.PullFrom == "":
			m.PullFrom = "digest-only"
		case !slices.Contains([]string{"", "all", "digest-only", "tag-only"}, m.PullFrom):
			return fmt.Errorf(": mirror %s: pull-from-mirror %q: want all, digest-only or tag-only", m.Location, m.PullFrom)
		}
	}
	return nil
}

// find returns the rule for ref and the number of bytes of ref that its prefix
// covers, 0 if there is no rule.
func (s *Set) find(ref string) (best rule, covered int) {
	if s == nil {
		return rule{}, 0
	}
	for _, prefix := range slices.Sorted(maps.Keys(s.rules)) { // sorted, so that ties have one result
		if n := covers(prefix, ref); n > covered || n == covered && n > 0 && len(prefix) > len(best.Prefix) {
			best, covered = s.rules[prefix], n
		}
	}
	return best, covered
}

// covers returns the number of bytes of ref that prefix covers, 0 if it does not
// apply to ref.
func covers(prefix, ref string) int {
	n := len(prefix)
	if rest, wild := strings.CutPrefix(prefix, "*"); wild {
		domain, _, _ := strings.Cut(ref, "/")
		if n = strings.LastIndex(domain, rest) + len(rest); n <= len(rest) {
			return 0
		}
	} else if !strings.HasPrefix(ref, prefix) {
		return 0
	}
	switch {
	case n == len(ref), ref[n] == '/', ref[n] == '@':
		return n
	case ref[n] == ':' && strings.Contains(ref[:n], "/"): // a tag, not a port
		return n
	}
	return 0
}

// Pull returns the places to pull ref, a normalized reference, from. It is an
// error if ref is blocked.
func (s *Set) Pull(ref string) ([]Place, error) {
	r, n := s.find(ref)
	if n == 0 {
		return []Place{{Ref: ref}}, nil
	}
	if err := r.blocked(ref); err != nil {
		return nil, err
	}
	var places []Place
	byDigest := strings.Contains(ref, "@")
	for _, m := range r.Mirrors {
		if m.PullFrom == "digest-only" && !byDigest || m.PullFrom == "tag-only" && byDigest {
			continue
		}
		places = append(places, Place{m.Location + ref[n:], m.Insecure, true})
	}
	last := Place{Ref: ref, Insecure: r.Insecure}
	if r.Location != "" {
		last.Ref = r.Location + ref[n:]
	}
	return append(places, last), nil
}

// Push reports whether plain HTTP and any certificate are allowed for pushing ref.
// It is an error if ref is blocked.
func (s *Set) Push(ref string) (insecure bool, err error) {
	r, n := s.find(ref)
	if n == 0 {
		return false, nil
	}
	return r.Insecure, r.blocked(ref)
}

func (r rule) blocked(ref string) error {
	if !r.Blocked {
		return nil
	}
	return fmt.Errorf("%s is blocked, by [[registry]] %s in %s", ref, r.Prefix, r.file)
}
