package policy

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const topics = "cmd/cairn/docs"

// documents reads every Markdown file of the tree but the generated reference,
// by its path from the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata" || d.Name() == "node_modules" || rel == topics+"/reference") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		texts[filepath.ToSlash(rel)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(texts) < 20 {
		t.Fatalf("found %d documents only", len(texts))
	}
	return texts
}

var (
	link = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	// named matches a code span that names a file or a package of the tree.
	named = regexp.MustCompile("`((?:builder|layer|registry|cmd|examples|\\.ci|\\.github)(?:/[A-Za-z0-9_.-]+)*)/?`")
	fence = regexp.MustCompile("(?ms)^```.*?^```$")
)

// Links lead to files and headings that exist, and the files and packages that
// documents name exist.
func TestDocumentsNameExistingFiles(t *testing.T) {
	texts := documents(t)
	for name, text := range texts {
		text = fence.ReplaceAllString(text, "")
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			if !exists(m[1]) {
				t.Errorf("%s names %s, which does not exist", name, m[1])
			}
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			if !exists(target) {
				t.Errorf("%s links to %s, which does not exist", name, target)
			} else if other, ok := texts[target]; anchor != "" && ok && !slices.Contains(anchors(other), anchor) {
				t.Errorf("%s links to #%s, which is not a heading of %s", name, anchor, target)
			}
		}
	}
}

// exists reports whether the tree has a file. The generated reference is checked
// once it is there.
func exists(name string) bool {
	if dir := path.Join(topics, "reference"); strings.HasPrefix(name, dir+"/") {
		if _, err := os.Stat(filepath.Join(root, dir)); err != nil {
			return true
		}
	}
	_, err := os.Stat(filepath.Join(root, name))
	return err == nil
}

// anchors returns the names that GitHub gives to the headings of a text.
func anchors(text string) []string {
	var all []string
	for line := range strings.Lines(fence.ReplaceAllString(text, "")) {
		if title := strings.TrimLeft(line, "#"); title != line && strings.HasPrefix(title, " ") {
			all = append(all, strings.Map(func(r rune) rune {
				switch {
				case r == ' ':
					return '-'
				case r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z':
					return r
				}
				return -1
			}, strings.ToLower(strings.TrimSpace(title))))
		}
	}
	return all
}

// A topic begins with its title and one line that describes it, and the README
// links to each.
func TestTopics(t *testing.T) {
	texts := documents(t)
	for name, text := range texts {
		if path.Dir(name) != topics {
			continue
		}
		lines := strings.SplitN(text, "\n", 5)
		if len(lines) < 5 || !strings.HasPrefix(lines[0], "# ") || lines[1] != "" || lines[2] == "" || lines[3] != "" {
			t.Errorf("%s does not begin with # Title and a paragraph of one line", name)
		}
		if !strings.Contains(texts["README.md"], "]("+name+")") {
			t.Errorf("README.md has no link to %s", name)
		}
	}
}

var (
	word = regexp.MustCompile(`[A-Za-z]+`)
	// vague matches words that often stand in for a noun.
	vague = regexp.MustCompile(`(?i)\b(?:what|who|whoever|nobody|somebody)\b`)
)

// Documents name things by their nouns: of 1,000 words at most one is vague.
func TestDocumentsUseNouns(t *testing.T) {
	words, found := 0, 0
	var places []string
	for name, text := range documents(t) {
		text = fence.ReplaceAllString(text, "")
		if m := whether.FindString(text); m != "" {
			t.Errorf("%s: %q: want \"shows whether\"", name, m)
		}
		words += len(word.FindAllString(text, -1))
		if n := len(vague.FindAllString(text, -1)); n > 0 {
			found += n
			places = append(places, name)
		}
	}
	if found*1000 > words {
		t.Errorf("%d of %d words are vague (%s), in %q", found, words, vague, places)
	}
}

// Each example for users has a README that is short.
func TestExamplesAreDescribed(t *testing.T) {
	texts := documents(t)
	entries, err := os.ReadDir(root + "/examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() || e.Name() == "internal" || e.Name() == "testdata" {
			continue
		}
		name := "examples/" + e.Name() + "/README.md"
		if n := strings.Count(texts[name], "\n"); n < 8 || n > 30 {
			t.Errorf("%s has %d lines, want 8 to 30", name, n)
		}
	}
}

const differencesEnd = "<!-- /differences -->"

var differencesBegin = regexp.MustCompile(`(?m)^<!-- differences.* -->$`)

// The intended differences from BuildKit, and those of isolation mode gvisor, are
// documented as the corpus has them.
func TestDifferencesAreDocumented(t *testing.T) {
	for topic, file := range map[string]string{"dockerfile.md": "differences.txtar", "kubernetes.md": "isolation.txtar"} {
		documentDifferences(t, root+"/"+topics+"/"+topic, root+"/examples/internal/corpus/"+file)
	}
}

func documentDifferences(t *testing.T, name, file string) {
	t.Helper()
	corpus, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	begin := differencesBegin.FindIndex(page)
	end := strings.Index(string(page), differencesEnd)
	if begin == nil || end < begin[1] {
		t.Fatalf("%s has no place for the differences", name)
	}
	want := string(page[:begin[1]]) + "\n\n" + differences(string(corpus)) + "\n" + string(page[end:])
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(page) {
		t.Errorf("%s does not have the differences of %s: go test ./cmd/policy -update writes them", name, file)
	}
}

// differences lists the reasons of a txtar file as Markdown, each once, with the
// cases that it explains.
func differences(txtar string) string {
	var reasons []string
	cases := map[string][]string{}
	for section := range strings.SplitSeq("\n"+txtar, "\n-- ") {
		name, body, ok := strings.Cut(section, " --\n")
		if !ok {
			continue // the comment at the beginning
		}
		var words []string
		for line := range strings.Lines(body) {
			if line[0] == '-' || line[0] == '+' {
				break
			}
			words = append(words, strings.Fields(line)...)
		}
		reason := strings.Join(words, " ")
		if cases[reason] == nil {
			reasons = append(reasons, reason)
		}
		cases[reason] = append(cases[reason], "`"+name+"`")
	}
	var text strings.Builder
	for _, reason := range reasons {
		text.WriteString("- " + reason + " (" + strings.Join(cases[reason], ", ") + ")\n")
	}
	return text.String()
}

func TestDifferences(t *testing.T) {
	got := differences("comment\n-- a --\nOne\nreason.\n-x\n+y\n-- b --\nOther.\n+z\n-- c --\nOne reason.\n-x\n")
	if want := "- One reason. (`a`, `c`)\n- Other. (`b`)\n"; got != want {
		t.Errorf("differences: got\n%s\nwant\n%s", got, want)
	}
}

// readsVariable matches a variable of the environment that code reads by name.
var readsVariable = regexp.MustCompile(`(?:Getenv|LookupEnv)\("([A-Z_]+)"\)`)

// Each variable that the program reads is documented.
func TestVariablesAreDocumented(t *testing.T) {
	page, err := os.ReadFile(root + "/" + topics + "/environment.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range sources(t) {
		if strings.HasSuffix(f.path, "_test.go") || strings.HasPrefix(f.path, "examples/") {
			continue
		}
		for _, m := range readsVariable.FindAllStringSubmatch(string(f.text), -1) {
			found++
			if !strings.Contains(string(page), "`"+m[1]+"`") {
				t.Errorf("%s reads $%s, which environment.md does not have", f.path, m[1])
			}
		}
	}
	if found < 10 {
		t.Errorf("found %d variables only", found)
	}
}

// message matches the first cell of a row that quotes an error alone.
var message = regexp.MustCompile("(?m)^\\| `([^`|]+)` \\|")

// The errors that troubleshooting.md quotes are those of the program.
func TestQuotedErrorsExist(t *testing.T) {
	page, err := os.ReadFile(root + "/" + topics + "/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := message.FindAllStringSubmatch(string(page), -1)
	if len(quoted) < 8 {
		t.Fatalf("found %d errors only", len(quoted))
	}
	var code strings.Builder
	for _, f := range sources(t) {
		if !strings.HasSuffix(f.path, "_test.go") {
			code.Write(f.text)
		}
	}
	for _, m := range quoted {
		if m[1] != "exec format error" && !strings.Contains(code.String(), m[1]) { // the kernel's
			t.Errorf("troubleshooting.md quotes %q, which is in no code", m[1])
		}
	}
}
