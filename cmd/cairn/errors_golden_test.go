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

// unseen lists errors that no Dockerfile causes: they are about the base image, other
// parts of the program, or tested in their package.
var unseen = []string{
	"unknown instruction %s",
	"onbuild trigger should be a single expression",
	"parsing produced an invalid run command: %v",
	"ONBUILD triggers still name new images after %d rounds",
	"%s: image config: %w",
	"step %.40q: %w", "step of unknown kind: %.40q", "extra data of step %.40q: %w", "selection %.40q: %w",
	"the time of a source is not available here",
	"network %q: want default, none or host", // reported by the flag
}

// Every error of the packages for Dockerfiles is in a golden text.
func TestErrorsAreShown(t *testing.T) {
	golden := texts(t, "testdata/script/*.txtar") + texts(t, "../../builder/plan/testdata/*.txtar")
	found := 0
	for _, dir := range []string{"../../builder/dockerfile", "../../builder/plan", "../../builder/plan/op"} {
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

// errorTexts returns the first arguments of errors.New, fmt.Errorf and notYet.
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

// longest returns the longest part of a format without verbs.
func longest(format string) (best string) {
	for _, part := range verb.Split(format, -1) {
		if len(part) > len(best) {
			best = part
		}
	}
	return best
}
