package compose

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/tree"
	"go.yaml.in/yaml/v4"

	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/dockerfile"
)

// named reports whether a file has a name for the project.
func (s *sources) named() bool {
	for _, f := range s.ConfigFiles {
		var n struct {
			Name string `yaml:"name"`
		}
		if yaml.Unmarshal(f.Content, &n) == nil && n.Name != "" {
			return true
		}
	}
	return false
}

// explain turns an error of the loader into problems with their places. compose-go
// reports the first wrong key only; explain finds the others by leaving out each
// reported key and loading again.
func (p *places) explain(ctx context.Context, err error, s *sources) error {
	if err == nil {
		return nil
	}
	if known, ok := errors.AsType[bake.Problems](err); ok {
		return known
	}
	var all bake.Problems
	const most = 20
	for {
		problems, wrong := p.locate(err)
		for _, problem := range problems {
			if !slices.Contains(all, problem) {
				all = append(all, problem)
			}
		}
		sortProblems(all)
		if len(wrong) == 0 || len(all) >= most || s == nil || !p.leaveOut(wrong, s) {
			return all
		}
		if s.check != nil {
			err = s.check(s)
		} else {
			_, err = s.loadModel(ctx)
		}
		if err == nil {
			return all
		}
	}
}

// sortProblems sorts problems by their places.
func sortProblems(list bake.Problems) {
	slices.SortStableFunc(list, func(a, b bake.Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// The forms of compose-go's errors.
var (
	inFile      = regexp.MustCompile(`^(?:failed to parse|validating) (\S+?): `)
	yamlPrefix  = regexp.MustCompile(`^yaml: (?:construct errors:\s*)?(?:line 1: (line ))?`)
	lineNumber  = regexp.MustCompile(`(?:\bat )?\bline (\d+)(?:, column (\d+))?:? ?`)
	unknownKey  = regexp.MustCompile(`^(\S+)\.([^.\s]+) false schema$`)
	unknownKeys = regexp.MustCompile(`^(\S*) ?additional properties (.*) not allowed$`)
	quoted      = regexp.MustCompile(`'([^']*)'`)
	leadingPath = regexp.MustCompile(`^(?:(?:service volume|service device|service ports|cannot override) )?((?:services|secrets|networks|volumes|configs|include|name|models|jobs)\b[\w./\[\]-]*)`)
	ofTemplate  = regexp.MustCompile(`^(?:invalid interpolation format for|error while interpolating) ([^\s:]+?)[.:](?:\s|$)`)
	ofField     = regexp.MustCompile(`(?m)^'([^']+)' .*$`)
	ofPlatform  = regexp.MustCompile(`service\.platform "([^"]+)"`)
	ofRing      = regexp.MustCompile(`^Circular reference:\s+(\S+) in `)
	ofNeed      = regexp.MustCompile(`^dependency cycle detected: (\S+) -> `)
	ofMissing   = regexp.MustCompile(`^(?:open|stat) (.+): no such file or directory$`)
	ofService   = regexp.MustCompile(`service "([^"]+)"`)
)

// locate returns the problems that an error of compose-go consists of, and the keys
// that the files must not have.
func (p *places) locate(err error) (problems bake.Problems, wrong []found) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			list, keys := p.locate(e)
			problems, wrong = append(problems, list...), append(wrong, keys...)
		}
		return problems, wrong
	}
	if list, ok := strings.CutPrefix(err.Error(), "decoding failed due to the following error(s):"); ok {
		for _, m := range ofField.FindAllStringSubmatch(list, -1) {
			f := p.find(m[1])
			problems = append(problems, bake.Problem{Position: f.position(), Text: strings.TrimSpace(m[0])})
		}
		return problems, nil
	}
	text, at := err.Error(), bake.Position{}
	if m := inFile.FindStringSubmatch(text); m != nil {
		at.File, text = shownName(m[1]), text[len(m[0]):]
	}
	if m := unknownKeys.FindStringSubmatch(text); m != nil {
		return p.locateUnknown(m[1], m[2], at)
	}
	if m := unknownKey.FindStringSubmatch(text); m != nil {
		return p.locateUnknown(m[1], "'"+m[2]+"'", at)
	}
	text = yamlPrefix.ReplaceAllString(text, "$1")
	var path string
	if m := lineNumber.FindStringSubmatchIndex(text); m != nil && at.File != "" {
		at.Line, _ = strconv.Atoi(text[m[2]:m[3]])
		if m[4] >= 0 {
			at.Column, _ = strconv.Atoi(text[m[4]:m[5]])
		}
		text = text[:m[0]] + strings.TrimLeft(text[m[1]:], ": ")
	} else if m := ofTemplate.FindStringSubmatch(text); m != nil {
		path = m[1]
	} else if m := leadingPath.FindStringSubmatch(text); m != nil {
		path = strings.TrimRight(m[1], ".")
		if f := p.find(path); f.key != nil && (at.File != "" || strings.Contains(text, " must be ")) {
			wrong = append(wrong, f)
		}
	} else if m := ofPlatform.FindStringSubmatch(text); m != nil {
		path = p.withPlatform(m[1])
	} else if m := ofRing.FindStringSubmatch(text); m != nil {
		path = "services." + m[1] + ".extends"
	} else if m := ofNeed.FindStringSubmatch(text); m != nil {
		path = "services." + m[1] + ".depends_on"
	} else if m := ofMissing.FindStringSubmatch(text); m != nil {
		at = p.withReference(m[1], at)
	} else if m := ofService.FindStringSubmatch(text); m != nil {
		path = "services." + m[1]
	}
	if path != "" {
		if f := p.find(path); f.key != nil {
			at = f.position()
		}
	}
	if at.File == "" && len(p.files) == 1 {
		at.File = p.files[0].shown
	}
	return bake.Problems{{Position: at, Text: strings.Join(strings.Fields(text), " ")}}, wrong
}

// withReference returns the place of a name of a file in include or extends, or else at.
func (p *places) withReference(name string, at bake.Position) bake.Position {
	for _, f := range slices.Concat(p.files, p.extra) {
		for _, n := range f.references() {
			if name == n.Value || strings.HasSuffix(name, "/"+filepath.Clean(n.Value)) {
				return found{file: f, key: n}.position()
			}
		}
	}
	return at
}

// withPlatform returns the path of the first attribute platform with a value, or "".
func (p *places) withPlatform(value string) (path string) {
	for _, f := range p.files {
		for _, d := range f.documents {
			eachPair(follow(child(follow(d), "services")), func(name, service *yaml.Node) {
				if n := follow(child(follow(service), "platform")); path == "" && n != nil && n.Value == value {
					path = "services." + name.Value + ".platform"
				}
			})
		}
	}
	return path
}

// locateUnknown returns a problem for each of the quoted keys, which the mapping at
// path must not have.
func (p *places) locateUnknown(path, keys string, at bake.Position) (problems bake.Problems, wrong []found) {
	known := knownKeys(path)
	for _, m := range quoted.FindAllStringSubmatch(keys, -1) {
		f := p.find(strings.TrimPrefix(path+"."+m[1], "."))
		here := at
		if f.key != nil {
			here = f.position()
			if f.key.Value == m[1] {
				wrong = append(wrong, f)
			}
		}
		text := strings.TrimSpace(path + " additional properties '" + m[1] + "' not allowed")
		if s := dockerfile.Suggest(m[1], known); s != "" {
			text += " (did you mean " + s + "?)"
		}
		problems = append(problems, bake.Problem{Position: here, Text: text})
	}
	return problems, wrong
}

// knownKeys returns the keys of the mapping at a path.
func knownKeys(path string) (keys []string) {
	at := tree.Path(path)
	for _, known := range schema.AttributePaths() {
		if known.Parent() == "" && path == "" || known.Parent() != "" && at.Matches(known.Parent()) {
			keys = append(keys, known.Last())
		}
	}
	return keys
}

// leaveOut removes keys from the files and reports whether it could.
func (p *places) leaveOut(keys []found, s *sources) bool {
	for _, f := range keys {
		i := slices.Index(p.files, f.file)
		if i < 0 || !removeKey(f.parent, f.key) {
			return false
		}
		var content bytes.Buffer
		e := yaml.NewEncoder(&content)
		for _, d := range f.file.documents {
			if e.Encode(d) != nil {
				return false
			}
		}
		s.ConfigFiles[i].Content = content.Bytes()
	}
	return true
}

// removeKey removes a key with its value from a mapping, or an item from a list. The
// key may be in a mapping that is merged into n.
func removeKey(n, key *yaml.Node) bool {
	step := 2
	if n.Kind == yaml.SequenceNode {
		step = 1
	}
	for i := 0; i < len(n.Content); i += step {
		if n.Content[i] == key {
			n.Content = slices.Delete(n.Content, i, i+step)
			return true
		}
	}
	return false
}
