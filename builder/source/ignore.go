package source

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// patterns is an ordered list of patterns. The last matching one decides. A nil list
// matches no file.
type patterns struct {
	list []pattern
}

// matched has an element for each pattern: whether it matched a directory or one above.
type matched []bool

// parseIgnore parses the content of an ignore file.
func parseIgnore(content []byte) (*patterns, error) {
	lines, err := ignorefile.ReadAll(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	return newPatterns(lines)
}

// newPatterns compiles patterns after patternmatcher has cleaned and checked them.
func newPatterns(lines []string) (*patterns, error) {
	matcher, err := patternmatcher.New(lines)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPattern(lines), err)
	}
	if len(matcher.Patterns()) == 0 {
		return nil, nil
	}
	out := &patterns{}
	for _, line := range matcher.Patterns() {
		p, err := compile(line.String())
		if err != nil {
			return nil, err
		}
		p.exclusion = line.Exclusion()
		p.splitElements()
		out.list = append(out.list, p)
	}
	return out, nil
}

// errPattern returns an error that names the line that patternmatcher rejects.
func errPattern(lines []string) error {
	for _, line := range lines {
		if _, err := patternmatcher.New([]string{line}); err != nil {
			return fmt.Errorf("pattern %q", line)
		}
	}
	return fmt.Errorf("patterns %q", lines)
}

// splitElements prepares matchesBelow: it compiles the elements up to the first one that
// can match several.
func (p *pattern) splitElements() {
	for element := range strings.SplitSeq(p.text, "/") {
		if strings.Contains(element, "**") || strings.ContainsAny(element, `[]\^`) {
			p.open = true
			return
		}
		e, err := compile(element)
		if err != nil {
			p.open = true
			return
		}
		p.lead = append(p.lead, e)
	}
}

// matchesBelow reports whether the pattern can match a path below dir.
func (p *pattern) matchesBelow(dir string) bool {
	n := 0
	for element := range strings.SplitSeq(dir, "/") {
		if n == len(p.lead) {
			return p.open
		}
		if !p.lead[n].match(element) {
			return false
		}
		n++
	}
	return p.open || n < len(p.lead)
}

// match returns the index of the pattern that excludes a path, -1 for none. parent is the
// state of its directory, nil for the root. If into is not nil, it is set to the state of
// the path itself.
//
// It corresponds to the library's MatchesOrParentMatches. BuildKit's client walks with
// MatchesUsingParentResults instead, which ignores a directory's match by a pattern that
// made no difference for the directory itself. BuildKit then sends an empty file, since it
// opens the file by the former rule.
func (m *patterns) match(path string, parent, into matched) int {
	last := -1
	for i := range m.list {
		p := &m.list[i]
		hit := parent != nil && parent[i]
		if !hit && (into != nil || p.exclusion == (last >= 0)) {
			hit = p.match(path)
		}
		if into != nil {
			into[i] = hit
		}
		if hit && p.exclusion {
			last = -1
		} else if hit && last < 0 {
			last = i
		}
	}
	return last
}

// enter returns the result of match for a directory, and the state for files below it.
func (m *patterns) enter(dir string, parent matched) (int, matched) {
	state := make(matched, len(m.list))
	return m.match(dir, parent, state), state
}

// state computes the state for files below a directory, from the root down.
func (m *patterns) state(dir string) (state matched) {
	if m == nil || dir == "." {
		return nil
	}
	for i := 0; i <= len(dir); i++ {
		if i == len(dir) || dir[i] == '/' {
			_, state = m.enter(dir[:i], state)
		}
	}
	return state
}

// verdict reports whether a path is ignored, and by which pattern.
func (m *patterns) verdict(path string) (pattern string, ignored bool) {
	if m == nil || path == "." {
		return "", false
	}
	parent := "."
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		parent = path[:i]
	}
	if i := m.match(path, m.state(parent), nil); i >= 0 {
		return m.list[i].text, true
	}
	return "", false
}

// prunable reports whether no pattern with the given exclusion can match below dir.
func (m *patterns) prunable(dir string, exclusion bool) bool {
	for i := range m.list {
		if p := &m.list[i]; p.exclusion == exclusion && p.matchesBelow(dir) {
			return false
		}
	}
	return true
}
