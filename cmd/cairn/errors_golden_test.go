package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// unseen are texts of errors that no Dockerfile can bring about: they are of the
// base image, of other parts of the program, or tested where they are made.
var unseen = []string{
	"instruction %s is not known",
	"onbuild trigger should be a single expression",
	"parsing produced an invalid run command: %v",
	"ONBUILD triggers still name new images after %d rounds",
	"%s: image config: %w",
	"step %.40q: %w", "step of unknown kind: %.40q", "what goes with step %.40q: %w", "selection %.40q: %w",
	"there is nothing to ask for its time",
	"network %q: want default, none or host", // the flag says so first
}

// Every error that the rooms of the Dockerfile can give is in a golden text, as
// people see it.
func TestErrorsAreShown(t *testing.T) {
	golden := texts(t, "testdata/script/*.txtar") + texts(t, "../../builder/plan/testdata/*.txtar")
	found := 0
	for _, dir := range []string{"../../builder/dockerfile", "../../builder/plan"} {
		for _, text := range errorTexts(t, dir) {
			found++
			if static := longest(text); !strings.Contains(golden, static) && !contains(unseen, text) {
				t.Errorf("%s: the error %q is in no golden text (testdata/script/errors_*.txtar)", dir, text)
			}
		}
	}
	if found < 50 {
		t.Errorf("found only %d errors", found)
	}
}

func contains(list []string, s string) bool {
	for _, one := range list {
		if one == s {
			return true
		}
	}
	return false
}

func texts(t *testing.T, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no file is %s: %v", pattern, err)
	}
	var all strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// errorTexts gives what errors.New, fmt.Errorf and notYet are called with.
func errorTexts(t *testing.T, dir string) (out []string) {
	t.Helper()
	names, err := filepath.Glob(dir + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && makesError(call) {
				out = append(out, literal(call.Args[0])...)
			}
			return true
		})
	}
	return out
}

func makesError(call *ast.CallExpr) bool {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name == "notYet"
	case *ast.SelectorExpr:
		pkg, ok := f.X.(*ast.Ident)
		return ok && (pkg.Name == "errors" && f.Sel.Name == "New" || pkg.Name == "fmt" && f.Sel.Name == "Errorf")
	}
	return false
}

func literal(e ast.Expr) []string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return nil
	}
	text, err := strconv.Unquote(lit.Value)
	if err != nil {
		return nil
	}
	return []string{text}
}

var verb = regexp.MustCompile(`%[-+#.0-9]*[a-z]`)

// longest is the longest part of a format that stays as it is.
func longest(format string) (best string) {
	for _, part := range verb.Split(format, -1) {
		if len(part) > len(best) {
			best = part
		}
	}
	return best
}
