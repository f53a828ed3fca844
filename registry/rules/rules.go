// Package rules reads what podman, skopeo and buildah are told of registries:
// registries.conf in its second form, with the files beside it.
//
// A rule covers all images whose name begins with its prefix; of several, the
// longest counts. It says from where such images are pulled: mirrors in order,
// then a location in place of the prefix. Pushes go to where the name says.
// See containers-registries.conf(5).
//
// What short names mean (aliases, unqualified-search-registries) is told by Short,
// and by nothing else: in a Dockerfile they mean Docker Hub, on every machine, unless
// somebody asks for more.
package rules

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

// A Set is all rules of a machine. A nil one has none.
type Set struct {
	rules      map[string]rule // by prefix
	short      short
	searchFile string // which has the registries to search
}

// A Place is one of those that an image may be pulled from.
type Place struct {
	Ref      string // of the image there
	Insecure bool   // plain HTTP and any certificate will do
	Mirror   bool   // there is another place after it
}

// rule is one [[registry]] of a file.
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

// Files are those that rules are kept in, for the user at home: one main file,
// the user's before the machine's, then smaller ones, each of which may
// replace rules. main, if not empty, takes the place of the main file. The last
// are those of aliases that podman's users chose.
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
		more, _ := filepath.Glob(filepath.Join(dir, "*.conf")) // the pattern is a good one
		files = append(files, more...)
	}
	// Root of a user namespace is not podman's root, but can't be told from it here.
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

// chosenAliases is where podman keeps the aliases that a user chose, in a cache
// folder. It may be another user's.
const chosenAliases = "/containers/short-name-aliases.conf"

// Load reads files in order. One that is missing has no rules.
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
			return nil, fmt.Errorf("registries' rules: %w", err)
		}
	}
	return s, nil
}

func (s *Set) add(file, text string) error {
	var content struct {
		Registry   []rule         `toml:"registry"`
		Registries map[string]any `toml:"registries"` // of the first form
		short
	}
	if _, err := toml.Decode(text, &content); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if len(content.Registries) > 0 {
		return fmt.Errorf("%s: [registries.*] is of the form that was given up in 2019; write [[registry]] instead", file)
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

// complete checks a rule and fills in what it leaves out.
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

// find gives the rule for ref and how much of ref its prefix covers.
func (s *Set) find(ref string) (best rule, covered int) {
	if s == nil {
		return rule{}, 0
	}
	for _, prefix := range slices.Sorted(maps.Keys(s.rules)) { // in order, so that equals are settled
		if n := covers(prefix, ref); n > covered || n == covered && n > 0 && len(prefix) > len(best.Prefix) {
			best, covered = s.rules[prefix], n
		}
	}
	return best, covered
}

// covers says how much of ref prefix covers, 0 if it is not for ref.
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
	case ref[n] == ':' && strings.Contains(ref[:n], "/"): // a tag; else it is a port
		return n
	}
	return 0
}

// Pull lists where ref, a reference in full, may be pulled from. That it is
// blocked is an error.
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

// Push says whether plain HTTP and any certificate will do for pushing ref.
// That it is blocked is an error.
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
