package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/cairn-build/cairn/examples/internal/bases"
)

// newUser is a home directory without files of Cairn, in which commands of the
// documentation are run as they are there, except for the port of the registry.
type newUser struct {
	home string
	env  []string
	port string // of the registry
}

func (l *lab) newUser(t *testing.T) *newUser {
	home := t.TempDir()
	rules := filepath.Join(home, "registries.conf")
	mirror := "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"" + l.registry + "\"\ninsecure = true\n"
	if err := os.WriteFile(rules, []byte(mirror), 0o644); err != nil {
		t.Fatal(err)
	}
	return &newUser{home: home, port: freePort(t), env: append(os.Environ(),
		"HOME="+home, "PATH="+filepath.Dir(l.cairn)+":"+os.Getenv("PATH"), "CAIRN_ROOT="+home+"/store", "CONTAINERS_REGISTRIES_CONF="+rules)}
}

// shell runs lines of a shell in a directory, and returns their output. It waits until the
// registry that the lines start answers.
func (u *newUser) shell(t *testing.T, dir string, lines ...string) string {
	t.Helper()
	script := strings.ReplaceAll(strings.Join(lines, "\n"), "localhost:5000", "localhost:"+u.port)
	const serve = "cairn registry serve --dir ~/registry &"
	script = strings.ReplaceAll(script, serve, "cairn registry serve --addr 127.0.0.1:"+u.port+" --dir ~/registry >~/served 2>&1 & served=$!\n"+
		"until grep -q 127.0.0.1 ~/served; do kill -0 $served; sleep 0.05; done")
	cmd := command("sh", "-euc", "served=\ntrap '[ -z \"$served\" ] || kill $served' EXIT\nexec 2>&1\n"+script)
	cmd.Dir, cmd.Env = dir, u.env
	return must(t, cmd)
}

// readme runs the commands of the README, and looks for the output that it shows.
func (l *lab) readme(t *testing.T) {
	l.base(t, "debian")
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	u := l.newUser(t)
	dir := filepath.Join(u.home, "hello")
	writeTo(t, filepath.Join(dir, "hello.sh"), block(t, string(text), "sh"))
	writeTo(t, filepath.Join(dir, "Dockerfile"), block(t, string(text), "dockerfile"))
	var commands, expected []string
	for line := range strings.Lines(block(t, string(text), "console")) {
		line = strings.TrimSuffix(line, "\n")
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			commands = append(commands, command)
		} else {
			expected = append(expected, line)
		}
	}
	got := masked(strings.ReplaceAll(u.shell(t, dir, commands...), u.port, "5000"))
	for _, line := range expected {
		if !slices.Contains(got, masked(line)[0]) {
			t.Errorf("the README shows %q; the output is\n%s", line, strings.Join(got, "\n"))
		}
	}
}

// block returns the first block of a document with a language.
func block(t *testing.T, text, language string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "\n```"+language+"\n")
	content, _, ended := strings.Cut(rest, "\n```\n")
	if !ok || !ended {
		t.Fatalf("there is no block %s", language)
	}
	return content + "\n"
}

var varying = regexp.MustCompile(`(?m)^#[0-9]+|sha256:[0-9a-f]{64}|[0-9]+\.[0-9]+s|[0-9.]+ [kM]B|linux/[a-z0-9]+`)

// masked returns the lines of a text without digests, times and sizes, and without the
// numbers of vertices: an upload may begin before or after a step.
func masked(text string) []string {
	return strings.Split(varying.ReplaceAllString(text, "…"), "\n")
}

// initPath follows the lines that cairn init ends with: build, run and push.
func (l *lab) initPath(t *testing.T) {
	l.base(t, "node")
	archive, err := txtar.ParseFile("../builder/generate/testdata/node-nolock.txtar")
	if err != nil {
		t.Fatal(err)
	}
	u, port := l.newUser(t), freePort(t)
	dir := filepath.Join(u.home, "shop")
	for _, f := range archive.Files {
		if !strings.HasPrefix(f.Name, "want/") {
			writeTo(t, filepath.Join(dir, f.Name), strings.ReplaceAll(string(f.Data), "3000", port))
		}
	}
	const official = "library/node:22-bookworm-slim"
	u.shell(t, dir, "cairn pull -q "+bases.Reference("node"), "cairn tag "+bases.Reference("node")+" "+l.registry+"/"+official,
		"cairn push -q --insecure-registry "+l.registry+" "+l.registry+"/"+official, "cairn prune --all --force")
	out := u.shell(t, dir, "cairn init")
	_, next, ok := strings.Cut(out, "next: ")
	lines := strings.Split(strings.TrimSpace(next), "\n")
	if !ok || len(lines) != 3 {
		t.Fatalf("cairn init prints\n%s", out)
	}
	u.shell(t, dir, lines[0])
	cmd := command("sh", "-euc", "exec "+strings.TrimSpace(lines[1]))
	cmd.Dir, cmd.Env = dir, u.env
	p := start(t, cmd)
	if got := p.get(t, "http://127.0.0.1:"+port+"/"); got != "hello from node\n" {
		t.Errorf("the program answers %q", got)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.done
	push := strings.ReplaceAll(lines[2], "REGISTRY", "localhost:5000")
	got := u.shell(t, dir, "cairn registry serve --dir ~/registry &", push, "cairn rmi hello localhost:5000/hello", "cairn pull -q localhost:5000/hello", "cairn images")
	if !strings.Contains(got, "pushed localhost:") || !regexp.MustCompile(`localhost:\d+/hello +latest`).MatchString(got) {
		t.Errorf("the push prints\n%s", got)
	}
}

func writeTo(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
