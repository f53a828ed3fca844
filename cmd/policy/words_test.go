package policy

import (
	"go/ast"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// whether matches phrases for which Go's comments have "reports whether".
var whether = regexp.MustCompile(`(?i)\b(?:tells|says) whether\b`)

// maxVague is the rate of vague words in comments, in 1,000 words. Above it a text
// usually has relative clauses where it should have nouns.
const maxVague = 3

// Comments use nouns instead of relative clauses.
func TestCommentsUseNouns(t *testing.T) {
	words, vagues := 0, 0
	for _, f := range sources(t) {
		for _, group := range f.ast.Comments {
			text := group.Text()
			words += len(word.FindAllString(text, -1))
			vagues += len(vague.FindAllString(text, -1))
			if m := whether.FindString(text); m != "" {
				t.Errorf("%s:%d: %q: want \"reports whether\"", f.path, f.set.Position(group.Pos()).Line, m)
			}
		}
	}
	t.Logf("%d of %d words are vague: %.1f in 1,000", vagues, words, float64(vagues)*1000/float64(words))
	if vagues*1000 > words*maxVague {
		t.Errorf("%d of %d words in comments are vague (%s), more than %d in 1,000", vagues, words, vague, maxVague)
	}
}

const (
	maxMethods = 40
	maxPackage = 3000 // lines, with comments and without tests
)

// manyMethods lists the types with more methods than maxMethods, with their limit.
var manyMethods = map[string]int{}

// largePackages lists the packages with more lines than maxPackage, with the reason.
var largePackages = map[string]string{
	"builder":           "targets, their graph and the attempts to solve it share the state of a session",
	"builder/plan":      "one pure pass over a Dockerfile, with a file for each instruction",
	"cmd/cairn/command": "one file for each command, which share flags and output only",
	"layer/store":       "the layout of the store on disk, its locks and their check belong together",
}

func TestTypesAndPackagesAreSmall(t *testing.T) {
	methods, lines := map[string]int{}, map[string]int{}
	for _, f := range sources(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		dir := filepath.ToSlash(filepath.Dir(f.path))
		lines[dir] += f.set.File(f.ast.Pos()).LineCount()
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv != nil {
				methods[dir+"."+receiver(fn.Recv.List[0].Type)]++
			}
		}
	}
	for name, n := range methods {
		if n > max(maxMethods, manyMethods[name]) {
			t.Errorf("type %s has %d methods, more than %d", name, n, max(maxMethods, manyMethods[name]))
		}
	}
	for dir, n := range lines {
		if _, ok := largePackages[dir]; n > maxPackage && !ok {
			t.Errorf("package %s has %d lines, more than %d: split it, or add a reason to the table", dir, n, maxPackage)
		}
	}
	for name := range manyMethods {
		if methods[name] <= maxMethods {
			t.Errorf("type %s has %d methods: remove it from the table", name, methods[name])
		}
	}
	for dir := range largePackages {
		if lines[dir] <= maxPackage {
			t.Errorf("package %s has %d lines: remove it from the table", dir, lines[dir])
		}
	}
}

// receiver returns the name of the type of a receiver.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
