package policy

import (
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	maxFunction = 80  // lines, with its first and last one
	maxFile     = 500 // lines of code: neither blank nor comment
)

func TestFunctionsAndFilesAreShort(t *testing.T) {
	files := sources(t)
	if len(files) < 50 {
		t.Fatalf("found %d files only", len(files))
	}
	for _, f := range files {
		if ast.IsGenerated(f.ast) {
			continue
		}
		if n := codeLines(f.text); n > maxFile {
			t.Errorf("%s has %d lines of code, more than %d", f.path, n, maxFile)
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			first, last := f.set.Position(fn.Pos()), f.set.Position(fn.End())
			if n := last.Line - first.Line + 1; n > maxFunction {
				t.Errorf("%s:%d: %s has %d lines, more than %d", f.path, first.Line, fn.Name.Name, n, maxFunction)
			}
		}
	}
}

// A package comment begins as godoc expects; directories with only tests need none.
func TestPackageComments(t *testing.T) {
	comments := map[string]string{}
	commands := map[string]bool{}
	for _, f := range sources(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		dir := filepath.Dir(f.path)
		comments[dir] += f.ast.Doc.Text()
		commands[dir] = f.ast.Name.Name == "main"
	}
	for dir, text := range comments {
		want := "Package " + filepath.Base(dir) + " "
		if commands[dir] {
			name := filepath.Base(dir)
			want = strings.ToUpper(name[:1]) + name[1:] + " "
		}
		switch {
		case text == "":
			t.Errorf("%s has no package comment", dir)
		case !strings.HasPrefix(text, want) && !strings.HasPrefix(text, "Command "):
			t.Errorf("the package comment of %s begins with %.30q, not with %q", dir, text, want)
		}
	}
}

// Package names describe a purpose.
func TestPackageNames(t *testing.T) {
	for _, f := range sources(t) {
		if slices.Contains([]string{"util", "utils", "common", "helpers", "misc", "types"}, f.ast.Name.Name) {
			t.Errorf("%s: the name %s does not describe a purpose", f.path, f.ast.Name.Name)
		}
	}
}

// The top level has no other files and directories.
func TestTopLevel(t *testing.T) {
	want := []string{"ARCHITECTURE.md", "LICENSE", "Makefile", "README.md", "builder", "cmd", "examples", "go.mod", "go.sum", "layer", "registry"}
	ignored := []string{"bin", "dist"} // outputs of make build and make release
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(ignored, e.Name()) {
			got = append(got, e.Name())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the top level holds\n%q, want\n%q", got, want)
	}
}

func TestCodeLines(t *testing.T) {
	text := "// Package x is short.\npackage x\n\n/* one\ntwo */\nvar s = `a\n\nb` // three\n"
	if got := codeLines([]byte(text)); got != 4 {
		t.Errorf("codeLines = %d, want 4", got)
	}
}

type source struct {
	path string // from the root of the repository
	text []byte
	set  *token.FileSet
	ast  *ast.File
}

// sources reads the Go files of the tree, including nested modules.
func sources(t *testing.T) []source {
	t.Helper()
	var files []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() != ".." && (d.Name() == "testdata" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parse(path)
		files = append(files, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func parse(path string) (source, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return source{}, err
	}
	f := source{text: text, set: token.NewFileSet()}
	if f.path, err = filepath.Rel(root, path); err != nil {
		return source{}, err
	}
	f.ast, err = parser.ParseFile(f.set, path, text, parser.ParseComments)
	return f, err
}

// codeLines counts the lines with tokens.
func codeLines(text []byte) int {
	set := token.NewFileSet()
	file := set.AddFile("", -1, len(text))
	lines := map[int]bool{}
	var s scanner.Scanner
	s.Init(file, text, nil, 0)
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return len(lines)
		}
		if tok == token.SEMICOLON && lit == "\n" {
			continue // inserted by the scanner
		}
		first := file.Line(pos)
		for i := range strings.Count(lit, "\n") + 1 {
			lines[first+i] = true
		}
	}
}
