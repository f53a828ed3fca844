package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Two clones in different directories make the same release. One architecture is
// enough to show it.
func TestRelease(t *testing.T) {
	t.Parallel()
	need(t, "git")
	if _, err := os.Stat("/etc/ssl/certs/ca-certificates.crt"); err != nil {
		t.Skip("needs the package ca-certificates: ", err)
	}
	repo := workingTree(t)
	var sums []string
	for _, name := range []string{"one", "another/directory"} {
		clone := filepath.Join(t.TempDir(), name)
		must(t, command("git", "clone", "--quiet", repo, clone))
		cmd := command("make", "-C", clone, "release")
		cmd.Env = append(cmd.Env, "ARCHS="+runtime.GOARCH)
		must(t, cmd)
		text, err := os.ReadFile(filepath.Join(clone, "dist/SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{" cairn-linux-" + runtime.GOARCH, " cairn-gvisor-linux-" + runtime.GOARCH, " cairn-image.tar"} {
			if !strings.Contains(string(text), file+"\n") {
				t.Errorf("SHA256SUMS lacks%s:\n%s", file, text)
			}
		}
		check := command("sha256sum", "--check", "--quiet", "SHA256SUMS")
		check.Dir = filepath.Join(clone, "dist")
		must(t, check)
		if status := must(t, command("git", "-C", clone, "status", "--porcelain")); status != "" {
			t.Errorf("the release leaves files that git sees:\n%s", status)
		}
		sums = append(sums, string(text))
	}
	if sums[0] != sums[1] {
		t.Errorf("two clones make different releases:\n%s\n%s", sums[0], sums[1])
	}
}

// workingTree commits the files of the working tree to a new repository.
func workingTree(t *testing.T) string {
	t.Helper()
	files, err := exec.Command("git", "-C", "..", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Skip("not a git repository: ", err)
	}
	repo := t.TempDir()
	for name := range strings.SplitSeq(strings.TrimRight(string(files), "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join("..", name))
		if os.IsNotExist(err) {
			continue // deleted, not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(repo, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if info.Mode()&os.ModeSymlink != 0 {
			link, err := os.Readlink(filepath.Join("..", name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(link, target); err != nil {
				t.Fatal(err)
			}
			continue
		}
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, text, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"init", "--quiet"}, {"add", "--all"},
		{"-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "--message", "release"},
	} {
		must(t, command("git", append([]string{"-C", repo}, args...)...))
	}
	return repo
}
