package source

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

func ignoreTree() tree {
	tr := tree{}
	for _, p := range []string{
		"Dockerfile", "README.md", "a", "ab", "abc/x", "abc/y.o", "abc/abc/x", ".git/config", ".git/objects/ab/cd",
		"src/main.go", "src/main_test.go", "src/x/x.go", "src/x/y/z.go", "src/vendor/v/v.go", "node_modules/m/index.js",
		"docs/a.md", "docs/b/c.md", "docs/b/d.txt", "docs.d/e", "doc", "new\nline/f.o", "we ird/[x]/y", "é/ü.o", "\xff/\xfe.o",
		"deep/1/2/3/4/5/keep", "deep/1/2/3/4/5/drop",
	} {
		tr[p] = text("")
	}
	tr["empty"] = folder(0o755)
	return tr
}

func TestIgnore(t *testing.T) {
	root := ignoreTree().make(t)
	all := walk(t, open(t, root, "", nil), ".", WalkOptions{})
	for _, c := range []struct {
		name, ignore string
		gone         string // excluded paths, joined by spaces; or, after "only", the others
	}{
		{"nothing", "", ""},
		{"comment and blanks", "# a\n\n  \n", ""},
		{"byte order mark", "\ufeffdoc\n", "doc"},
		{"windows lines", "doc\r\na\r\n", "a doc"},
		{"leading slash and dots", "/doc\n./a\nsrc/../ab", "a ab doc"},
		{"directory", "abc/", "abc abc/abc abc/abc/x abc/x abc/y.o"},
		{"star stays in its element", "abc/*/x", "abc/abc/x"},
		{"question mark", "a?", "ab"},
		{"class", "[a-c]b", "ab"},
		{"double star", "docs/**/*.md", "docs/a.md docs/b/c.md"},
		{"leading double star", "**/x", "abc/abc/x abc/x src/x src/x/x.go src/x/y src/x/y/z.go"},
		{"trailing double star", "docs/**", "docs/a.md docs/b docs/b/c.md docs/b/d.txt"},
		{"last match wins", "doc\n!doc\ndoc", "doc"},
		{"taken back", "doc*\n!docs", "doc docs.d docs.d/e"},
		{"space after !", "doc\n! doc", ""},
		{"file below an excluded directory", "deep\n!deep/1/2/3/4/5/keep", "deep/1/2/3/4/5/drop"},
		{"list of what is let in", "*\n!src/**/*.go\nsrc/vendor", "only . src src/main.go src/main_test.go src/x src/x/x.go src/x/y src/x/y/z.go"},
		{"taken back at any depth", "*\n!**/keep", "only . deep deep/1 deep/1/2 deep/1/2/3 deep/1/2/3/4 deep/1/2/3/4/5 deep/1/2/3/4/5/keep"},
		{"all", "**", "only ."},
		{"the root itself", ".", ""},
		{"excluded empty directory", "empty", "empty"},
		{"no expression", "|*\n{,1}*\nab+*\n(.)?*\n$*", ""},
		{"sorted among siblings", "docs*\n!docs.d/e\n!docs/b/c.md", "docs/a.md docs/b/d.txt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := walk(t, open(t, root, c.ignore, nil), ".", WalkOptions{})
			if only, ok := strings.CutPrefix(c.gone, "only "); ok {
				if diff := cmp.Diff(only, strings.Join(got, " ")); diff != "" {
					t.Error(diff)
				}
				return
			}
			gone := slices.DeleteFunc(slices.Clone(all), func(p string) bool { return slices.Contains(got, p) })
			if diff := cmp.Diff(c.gone, strings.Join(gone, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestIgnoreErrors(t *testing.T) {
	for ignore, want := range map[string]string{
		"ok\n[":                    `read ignore file: pattern "[": syntax error in pattern`,
		"!":                        `read ignore file: pattern "!": illegal exclusion pattern: "!"`,
		"[z-a]x":                   `read ignore file: pattern "[z-a]x": error parsing regexp: invalid character class range: ` + "`z-a`",
		strings.Repeat("x", 1<<17): "read ignore file: bufio.Scanner: token too long",
	} {
		_, err := OpenDir(t.TempDir(), []byte(ignore), nil)
		if err == nil || err.Error() != want {
			t.Errorf("%.20q: %v", ignore, err)
		}
	}
}

func TestOpenDirErrors(t *testing.T) {
	root := tree{"f": text(""), "p": fifo()}.make(t)
	for path, want := range map[string]string{"none": "no such file", "f": "not a directory", "p": "not a directory"} {
		_, err := OpenDir(filepath.Join(root, path), nil, nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// odd reports whether the comparison skips a pattern. The library's scanner drops a byte
// order mark within an expression, and prints NUL and invalid UTF-8 to stderr. It does not
// escape "|", "{" and "}", although that is intended.
func odd(ignore []byte) bool {
	return bytes.ContainsAny(ignore, "|{}") || bytes.Contains(ignore, []byte("\ufeff")) || bytes.Contains(ignore, []byte("\ufffd")) ||
		bytes.ContainsRune(ignore, 0) || !bytes.Equal(bytes.ToValidUTF8(ignore, nil), ignore)
}

func naiveMatcher(ignore []byte) *patternmatcher.PatternMatcher {
	lines, err := ignorefile.ReadAll(bytes.NewReader(ignore))
	if err != nil {
		return nil
	}
	m, err := patternmatcher.New(lines)
	if err != nil {
		return nil
	}
	if _, err := m.MatchesOrParentMatches("x"); err != nil { // patterns are compiled at their first use
		return nil
	}
	return m
}

var ignoreSeeds = []string{
	"*\n!src/**/*.go", "**/*.o\n!abc", "docs/**\n!docs/b/*.txt", "a**\n!ab", "**abc", "abc/***/x", "[^a]*", `\a`, "a^b*", "d*/?/*/3/**/keep",
	"*/*\n!*/*/x", "!*\n*\n!*c", "**/**/x", "é/?.o", "?/*.o", "new?line", "**/line/f.o", "*?*", "*??*", "abc/**\n!abc/abc\nabc/abc/x", "we ird/[[]x]/y",
}

// FuzzPattern compares results with those of the library.
func FuzzPattern(f *testing.F) {
	for _, s := range ignoreSeeds {
		for p := range ignoreTree() {
			f.Add([]byte(s), p)
		}
	}
	f.Fuzz(func(t *testing.T, ignore []byte, p string) {
		if p = clean(p); p == "." || odd(ignore) || len(p) > 200 {
			return
		}
		m := naiveMatcher(ignore)
		mine, err := parseIgnore(ignore)
		if m == nil || err != nil {
			return
		}
		want, err := m.MatchesOrParentMatches(p)
		if err != nil {
			return
		}
		if pattern, got := mine.verdict(p); got != want {
			t.Errorf("%q with %q: %v (%q), want %v", p, ignore, got, pattern, want)
		}
	})
}

// FuzzWalk compares walks, which skip directories, with the result for each path.
func FuzzWalk(f *testing.F) {
	for _, s := range ignoreSeeds {
		f.Add([]byte(s))
	}
	root := ignoreTree().make(f)
	all := walk(f, open(f, root, "", nil), ".", WalkOptions{})
	f.Fuzz(func(t *testing.T, ignore []byte) {
		m := naiveMatcher(ignore)
		if m == nil || odd(ignore) {
			return
		}
		d, err := OpenDir(root, ignore, nil)
		if err != nil {
			return
		}
		defer d.Close()
		if diff := cmp.Diff(naiveWalk(t, m, all), walk(t, d, ".", WalkOptions{})); diff != "" {
			t.Errorf("%q: %s", ignore, diff)
		}
		for _, p := range all {
			_, err := d.Lstat(p)
			if there := slices.Contains(naiveWalk(t, m, all), p); there != (err == nil) {
				t.Errorf("%q: %q: there: %v, lstat: %v", ignore, p, there, err)
			}
		}
	})
}

func naiveWalk(t *testing.T, m *patternmatcher.PatternMatcher, all []string) []string {
	t.Helper()
	in := map[string]bool{".": true}
	for _, p := range all[1:] {
		ignored, err := m.MatchesOrParentMatches(p)
		must(t, err)
		for ; !ignored && p != "."; p = path.Dir(p) {
			in[p] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(p string) bool { return !in[p] })
}

func TestReadIgnore(t *testing.T) {
	outside := tree{"Dockerfile": text(""), "Dockerfile.dockerignore": text("beside outside"), "evil": text("evil"),
		"link": text(""), "link.dockerignore": link("evil")}.make(t)
	root := tree{
		".dockerignore": text("plain"), "Dockerfile": text(""), "build/my.Dockerfile": text(""), "build/my.Dockerfile.dockerignore": text("mine"),
		"linked.dockerignore": link("sub/real"), "sub/real": text("real"), "up.dockerignore": link(filepath.Join("..", filepath.Base(outside), "evil")),
		"abs.dockerignore": link(filepath.Join(outside, "evil")), "fifo.dockerignore": fifo(), "dir.dockerignore": folder(0o755),
		"sub/x.dockerignore": link("../.dockerignore"), "empty.dockerignore": text(""), "lost.dockerignore": link("none"),
		"rooted.dockerignore": link("/sub/real"), "above.dockerignore": link("../../sub/real"), "loop.dockerignore": link("loop.dockerignore"),
		"away": link(outside), "within": link("sub"),
	}.make(t)
	bad := tree{".dockerignore": link("/etc/passwd")}.make(t)
	none := t.TempDir()
	for _, c := range []struct {
		dir, dockerfile string
		content, name   string
		unusable        string
	}{
		{root, "", "plain", ".dockerignore", ""},
		{root, filepath.Join(root, "Dockerfile"), "plain", ".dockerignore", ""},
		{root, filepath.Join(root, "build/my.Dockerfile"), "mine", "my.Dockerfile.dockerignore", ""},
		{root, filepath.Join(outside, "Dockerfile"), "beside outside", "Dockerfile.dockerignore", ""},
		{root, filepath.Join(outside, "link"), "evil", "link.dockerignore", ""},
		{root, filepath.Join(root, "linked"), "real", "linked.dockerignore", ""},
		{root, filepath.Join(root, "sub/x"), "plain", "x.dockerignore", ""},
		{root, filepath.Join(root, "empty"), "", "empty.dockerignore", ""},
		{root, filepath.Join(root, "lost"), "plain", ".dockerignore", "the ignore file lost.dockerignore is a symbolic link to none, which is not a file of the build context: it leaves nothing out"},
		{root, filepath.Join(root, "up"), "plain", ".dockerignore", "up.dockerignore is a symbolic link to ../"},
		{root, filepath.Join(root, "abs"), "plain", ".dockerignore", "abs.dockerignore is a symbolic link to " + outside},
		{root, filepath.Join(root, "rooted"), "real", "rooted.dockerignore", ""},
		{root, filepath.Join(root, "above"), "real", "above.dockerignore", ""},
		{root, filepath.Join(root, "loop"), "plain", ".dockerignore", "loop.dockerignore is a loop of symbolic links"},
		{root, filepath.Join(root, "fifo"), "plain", ".dockerignore", "fifo.dockerignore is not a regular file"},
		{root, filepath.Join(root, "dir"), "plain", ".dockerignore", "dir.dockerignore is not a regular file"},
		{root, filepath.Join(root, "away/Dockerfile"), "beside outside", "Dockerfile.dockerignore", ""},
		{root, filepath.Join(root, "away/link"), "evil", "link.dockerignore", ""},
		{root, filepath.Join(root, "within/x"), "plain", "x.dockerignore", ""},
		{root, filepath.Join(root, "nowhere/x"), "plain", ".dockerignore", ""},
		{bad, "", "", "", ".dockerignore is a symbolic link to /etc/passwd"},
		{none, "", "", "", ""},
		{none, filepath.Join(none, "Dockerfile"), "", "", ""},
	} {
		got, err := ReadIgnore(c.dir, c.dockerfile)
		must(t, err)
		if string(got.Content) != c.content || got.Name != c.name {
			t.Errorf("%s: got %q, %q", c.dockerfile, got.Content, got.Name)
		}
		if reasons := strings.Join(got.Unusable, "\n"); !strings.Contains(reasons, c.unusable) || (reasons == "") != (c.unusable == "") {
			t.Errorf("%s: %s", c.dockerfile, reasons)
		}
		if (got.Content == nil) != (got.Name == "") {
			t.Errorf("%s: content %v, name %q", c.dockerfile, got.Content, got.Name)
		}
	}
}

func TestReadIgnoreRelative(t *testing.T) {
	root := tree{".dockerignore": text("a"), "x/D.dockerignore": text("b")}.make(t)
	t.Chdir(root)
	for dockerfile, want := range map[string]string{"x/D": "b", "./x/../x/D": "b", "y": "a"} {
		if got, err := ReadIgnore(".", dockerfile); err != nil || string(got.Content) != want {
			t.Errorf("%s: %q, %v", dockerfile, got.Content, err)
		}
	}
	must(t, os.Chdir("x"))
	if got, err := ReadIgnore("..", "D"); err != nil || string(got.Content) != "b" {
		t.Errorf("from a folder within: %q, %v", got.Content, err)
	}
}

func TestIgnoresAll(t *testing.T) {
	t.Parallel()
	for ignore, want := range map[string]bool{
		"": false, "*": true, "**": true, "**/*": true, "/*": true, "./*": true, "*/": true, "/**": true, "**/.": true, "a\n*\nb": true, "*\n!a": true,
		".": false, "/": false, "?": false, ".*": false, "*/*": false, "**/**": false, "[.]": false, "*.*": false, "!*": false, "a": false,
	} {
		dir, err := OpenDir(t.TempDir(), []byte(ignore), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := dir.IgnoresAll(); got != want {
			t.Errorf("%q: %v, want %v", ignore, got, want)
		}
		dir.Close()
	}
}
