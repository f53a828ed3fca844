package git

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestHead(t *testing.T) {
	dir := t.TempDir()
	run := func(at string, args ...string) string {
		t.Helper()
		c := exec.Command("git", append([]string{"-C", at, "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultRefFormat=files"}, args...)...)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := Head(dir); got != "" {
		t.Errorf("without a repository: %q", got)
	}
	repo := filepath.Join(dir, "repo")
	run(dir, "init", "-q", repo)
	if got := Head(repo); got != "" {
		t.Errorf("without a commit: %q", got)
	}
	run(repo, "commit", "-q", "--allow-empty", "-m", "one")
	first := run(repo, "rev-parse", "HEAD")
	sub := filepath.Join(repo, "a/b")
	if err := os.MkdirAll(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{repo, sub} {
		if got := Head(at); got != first {
			t.Errorf("%s: %q, want %s", at, got, first)
		}
	}
	run(repo, "pack-refs", "--all")
	if got := Head(repo); got != first {
		t.Errorf("packed: %q", got)
	}
	run(repo, "commit", "-q", "--allow-empty", "-m", "two")
	second := run(repo, "rev-parse", "HEAD")
	if got := Head(repo); got != second {
		t.Errorf("newer than the packed one: %q", got)
	}
	tree := filepath.Join(dir, "tree")
	run(repo, "worktree", "add", "-q", "-b", "other", tree, first)
	if got := Head(tree); got != first {
		t.Errorf("further working tree: %q", got)
	}
	run(repo, "checkout", "-q", "--detach", first)
	if got := Head(repo); got != first {
		t.Errorf("detached: %q", got)
	}
	for _, text := range []string{"", "ref: ../../secret", "ref: refs/heads/none", "nonsense", "ref: /etc/passwd"} {
		if err := os.WriteFile(filepath.Join(repo, ".git/HEAD"), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := Head(repo); got != "" {
			t.Errorf("HEAD %q: %q", text, got)
		}
	}
}
