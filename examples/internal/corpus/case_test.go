package corpus_test

import (
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// A testcase is one file of the corpus. Its comment has a line "# rows: ID ..." and
// any of these:
//
//	$ COMMAND       run by sh in the context directory once its files exist
//	flags ARG...    for cairn build; @HTTP@ is the server, @DIR@ the case's directory
//	env NAME=VALUE  environment of the build
//	context WHERE   replaces the context directory
//	buildkit URL    context for BuildKit, whose client does not accept archives
//	output ATTRS    list the files of this output: type=local or type=tar, and attributes
//	layers          list the paths of each layer of a COPY, ADD or WORKDIR
//	no-epoch        build without SOURCE_DATE_EPOCH; creation times are masked
//
// The archive's files are those of the context. ../http/F is served as @HTTP@/F; other
// names that start with ../ are beside the context.
type testcase struct {
	*txtar.Archive
	path    string
	name    string
	rows    []string
	shell   []string
	flags   []string
	env     []string
	context string
	url     string // context URL for BuildKit
	noEpoch bool
	layers  bool
	output  string
}

// rowsPrefix starts the first line of a case.
const rowsPrefix = "# rows: "

func readCase(t *testing.T, path string) *testcase {
	t.Helper()
	ar, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := &testcase{Archive: ar, path: path, name: strings.TrimSuffix(filepath.Base(path), ".txtar"), context: "."}
	for line := range strings.Lines(string(ar.Comment)) {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(line, rowsPrefix):
			c.rows = strings.Fields(line[len(rowsPrefix):])
		case word == "$":
			c.shell = append(c.shell, rest)
		case word == "flags":
			c.flags = append(c.flags, split(t, rest)...)
		case word == "env":
			c.env = append(c.env, rest)
		case word == "context":
			c.context = rest
		case word == "buildkit":
			c.url = rest
		case word == "output":
			c.output = rest
		case word == "layers":
			c.layers = true
		case word == "no-epoch":
			c.noEpoch = true
		case line != "" && line[0] != '#':
			t.Fatalf("%s: unknown line %q", path, line)
		}
	}
	if len(c.rows) == 0 {
		t.Fatalf("%s: no line # rows", path)
	}
	return c
}

// split splits s at spaces. A word in double quotes has Go's syntax.
func split(t *testing.T, s string) (words []string) {
	t.Helper()
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if s[0] != '"' {
			word, rest, _ := strings.Cut(s, " ")
			words, s = append(words, word), rest
			continue
		}
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			t.Fatalf("flags %s: %v", s, err)
		}
		word, _ := strconv.Unquote(quoted)
		words, s = append(words, word), s[len(quoted):]
	}
	return words
}

func (c *testcase) section(name string) string {
	for _, f := range c.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

func (c *testcase) set(name, text string) {
	for i := range c.Files {
		if c.Files[i].Name == name {
			c.Files[i].Data = []byte(text)
			return
		}
	}
	c.Files = append(c.Files, txtar.File{Name: name, Data: []byte(text)})
}

func (c *testcase) write(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(c.path, txtar.Format(c.Archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fails starts the description of a failed build.
const fails = "fails"

// checkError compares Cairn's error with section "cairn" and returns the text to compare
// with BuildKit's result: only that both fail.
func (c *testcase) checkError(t *testing.T, got string) string {
	t.Helper()
	if !strings.HasPrefix(got, fails) || !strings.HasPrefix(c.section("want"), fails) {
		return got
	}
	text := strings.TrimPrefix(got, fails+"\n")
	if *update || *errorsToo {
		c.set("cairn", text)
		c.write(t)
	}
	if want := c.section("cairn"); text != want {
		t.Errorf("the error is:\n%s\nwant:\n%s", text, want)
	}
	return c.section("want")
}

// prepare creates the directory of a case, with the context in ctx.
func (c *testcase) prepare(t *testing.T, r *strings.Replacer) (dir string) {
	t.Helper()
	dir = t.TempDir()
	ctx := filepath.Join(dir, "ctx")
	for _, f := range c.Files {
		if f.Name != "want" && f.Name != "cairn" {
			put(t, filepath.Join(ctx, f.Name), r.Replace(string(f.Data)))
		}
	}
	c.age(t, dir)
	for _, line := range c.shell {
		cmd := exec.Command("sh", "-euc", line)
		cmd.Dir, cmd.Env = ctx, append(os.Environ(), shellEnv...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	c.age(t, dir)
	return dir
}

// shellEnv makes git and tar reproducible.
var shellEnv = []string{
	"LC_ALL=C", "TZ=UTC", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
	"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_AUTHOR_DATE=1600000000 +0000",
	"GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@example.org", "GIT_COMMITTER_DATE=1600000000 +0000",
}

// old returns the modification time of a case's files. It is before the epoch, so that
// it shows in results. It differs between cases because BuildKit treats files of
// different contexts as identical if name, size and time are.
func (c *testcase) old() time.Time {
	return time.Unix(epoch-1000-int64(crc32.ChecksumIEEE([]byte(c.name))%10_000_000), 0)
}

// age sets the modification time of new files to old.
func (c *testcase) age(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err != nil || e.Type()&os.ModeSymlink != 0 {
			return err
		}
		fi, err := e.Info()
		if err != nil || fi.ModTime().Unix() < epoch {
			return err
		}
		return os.Chtimes(p, c.old(), c.old())
	})
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, path, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}
