// Package release knows the released versions of languages and chooses one of them for
// the requirement of a project.
package release

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/Masterminds/semver/v3"
)

// Date is the day for which the tables are right. Versions whose support ended before
// it are old.
const Date = "2026-12-01"

// Language is a language with its versions as image tags name them.
type Language struct {
	Name      string
	Supported []string // ascending
	Old       []string // ascending, without support
	Default   string
}

// The versions of languages.
var (
	Go     = Language{"Go", []string{"1.25", "1.26"}, numbered("1.", 16, 24), "1.26"}
	Node   = Language{"Node.js", []string{"22", "24", "26"}, []string{"12", "14", "16", "18", "20", "21", "23", "25"}, "24"}
	Python = Language{"Python", []string{"3.11", "3.12", "3.13", "3.14"}, numbered("3.", 6, 10), "3.14"}
	Java   = Language{"Java", []string{"8", "11", "17", "21", "25"}, nil, "21"}
	Rust   = Language{"Rust", []string{"1"}, nil, "1"}
	DotNet = Language{".NET", []string{"10.0"}, []string{"6.0", "7.0", "8.0", "9.0"}, "10.0"}
	PHP    = Language{"PHP", []string{"8.2", "8.3", "8.4", "8.5"}, []string{"7.4", "8.0", "8.1"}, "8.4"}
	Ruby   = Language{"Ruby", []string{"3.3", "3.4", "4.0"}, []string{"2.7", "3.0", "3.1", "3.2"}, "3.4"}
	Deno   = Language{"Deno", []string{"2"}, []string{"1"}, "2"}
	Bun    = Language{"Bun", []string{"1"}, nil, "1"}
)

func numbered(prefix string, first, last int) (list []string) {
	for i := first; i <= last; i++ {
		list = append(list, prefix+strconv.Itoa(i))
	}
	return list
}

// Choice is the version that was chosen.
type Choice struct {
	Version string // a tag of the language's images
	Old     bool   // it has no support any more
	Raised  bool   // a newer one than asked for
	Unknown bool   // the requirement was not understood: it is the default
}

var exact = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[vV=]*(\d+)(?:\.(\d+|[xX*]))?(?:\.(\d+|[xX*]))?(?:[-+][0-9A-Za-z.+-]*)?$`)
})

// parts returns the numbers at the front of a version such as v22.3.0: at most n. It
// returns nil for anything else, such as a range.
func parts(version string, n int) (list []string) {
	m := exact().FindStringSubmatch(version)
	if m == nil {
		return nil
	}
	for _, part := range m[1 : n+1] {
		if _, err := strconv.ParseUint(part, 10, 16); err != nil {
			break
		}
		list = append(list, part)
	}
	return list
}

// Exact chooses the version that a file pins, at the precision of the language's tags.
func (l Language) Exact(version string) Choice {
	n := strings.Count(l.Default, ".") + 1
	list := parts(version, n)
	if len(list) == 0 {
		return Choice{Version: l.Default, Unknown: true}
	}
	tag := strings.Join(list, ".")
	if len(list) < n { // "3" of Python: its newest
		return l.Newest(tag)
	}
	return Choice{Version: tag, Old: slices.Contains(l.Old, tag) || l.before(tag)}
}

// before reports whether a tag is older than all known versions.
func (l Language) before(tag string) bool {
	return compare(tag, slices.Concat(l.Old, l.Supported)[0]) < 0
}

// Lowest chooses the lowest supported version that satisfies a requirement, or else the
// highest old one.
func (l Language) Lowest(requirement string) Choice { return l.satisfying(requirement, false) }

// Newest chooses the newest version that satisfies a requirement, but not one after the
// default version if that satisfies it.
func (l Language) Newest(requirement string) Choice { return l.satisfying(requirement, true) }

func (l Language) satisfying(requirement string, newest bool) Choice {
	satisfied := l.constraint(requirement)
	if satisfied == nil {
		return Choice{Version: l.Default, Unknown: true}
	}
	if newest && satisfied(l.Default) {
		return Choice{Version: l.Default}
	}
	supported := slices.Clone(l.Supported)
	if newest {
		slices.Reverse(supported)
	}
	for _, v := range supported {
		if satisfied(v) {
			return Choice{Version: v}
		}
	}
	for _, v := range slices.Backward(l.Old) {
		if satisfied(v) {
			return Choice{Version: v, Old: true}
		}
	}
	return Choice{Version: l.Default, Unknown: true}
}

// Minimum chooses a version for a minimum that later versions are compatible with: the
// minimum itself, or the lowest supported version if that is newer.
func (l Language) Minimum(version string) Choice {
	c := l.Exact(version)
	if c.Old && !c.Unknown {
		return Choice{Version: l.Supported[0], Raised: true}
	}
	return c
}

func compare(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		m, _ := strconv.Atoi(x[i])
		n, _ := strconv.Atoi(y[i])
		if m != n {
			return m - n
		}
	}
	return len(x) - len(y)
}

// constraint returns a function that reports whether some patch release of a version
// satisfies a requirement in the syntax of npm, composer, pip, poetry or bundler. It
// returns nil if the requirement is not understood.
func (l Language) constraint(requirement string) func(version string) bool {
	if len(requirement) > 200 {
		return nil
	}
	c, err := semver.NewConstraint(l.translate(requirement))
	if err != nil {
		return nil
	}
	return func(version string) bool {
		return slices.ContainsFunc(candidates(version), func(v string) bool {
			parsed, err := semver.NewVersion(v)
			return err == nil && c.Check(parsed)
		})
	}
}

// candidates returns releases of a major or minor version.
func candidates(version string) (list []string) {
	if !strings.Contains(version, ".") {
		for i := range 40 {
			list = append(list, fmt.Sprintf("%s.%d.0", version, i), fmt.Sprintf("%s.%d.99", version, i))
		}
		return list
	}
	for i := range 40 {
		list = append(list, fmt.Sprintf("%s.%d", version, i))
	}
	return list
}

var (
	compatible  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`~[=>]\s*(\d+)\.(\d+)(?:\.\d+)?`) })
	compatibleN = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`~[=>]\s*(\d+)\.(\d+)\.(\d+)`) })
	tilde       = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(^|[\s|,])~(\d+)\.(\d+)($|[\s|,])`) })
	spaced      = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`([<>=!~^])\s+`) })
)

// translate turns a requirement into one that package semver reads: "==3.11.*" and
// "~=3.11" of Python, "~> 3.2" of Ruby, "8.1.*|8.2.*" and "~8.1" of PHP, where the last
// allows 8.2.
func (l Language) translate(r string) string {
	r = strings.ReplaceAll(r, "===", "=")
	r = strings.ReplaceAll(r, "==", "=")
	r = compatibleN().ReplaceAllString(r, "~$1.$2.$3")
	r = compatible().ReplaceAllString(r, "^$1.$2")
	if l.Name == PHP.Name {
		r = tilde().ReplaceAllString(r, "$1^$2.$3$4")
	}
	r = strings.ReplaceAll(strings.ReplaceAll(r, "||", "|"), "|", "||")
	return spaced().ReplaceAllString(strings.TrimSpace(r), "$1")
}
