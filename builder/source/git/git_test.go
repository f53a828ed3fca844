package git

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// All forms of references, with the files that are checked out for each.
func TestRefs(t *testing.T) {
	l := newLab(t)
	l.repo("a.git")
	one := l.commit("a.git", map[string]string{"f": "one", "dir/g": "+x two", "link": "-> /etc/passwd"})
	l.git("a.git", "tag", "v1")
	l.git("a.git", "tag", "-a", "-m", "m", "v1-annotated")
	l.git("a.git", "branch", "both")
	two := l.commit("a.git", map[string]string{"f": "two"})
	l.git("a.git", "tag", "both")
	l.git("a.git", "branch", "release/1.2")
	three := l.commit("a.git", map[string]string{"f": "three"})
	tag := l.git("a.git", "rev-parse", "v1-annotated")
	st := newStore(t)
	for _, test := range []struct {
		url, ref, object, commit string
	}{
		{"", "refs/heads/main", three, ""},
		{"#main", "refs/heads/main", three, ""},
		{"#v1", "refs/tags/v1", one, ""},
		{"#v1-annotated", "refs/tags/v1-annotated", tag, one},
		{"?tag=v1", "refs/tags/v1", one, ""},
		{"?branch=release/1.2", "refs/heads/release/1.2", two, ""},
		{"#both", "refs/heads/both", one, ""},
		{"?tag=both", "refs/tags/both", two, ""},
		{"#tags/both", "refs/tags/both", two, ""},
		{"#" + two, "", two, ""},
		{"?checksum=" + one[:7] + "#v1", "refs/tags/v1", one, ""},
		{"?commit=" + one[:7] + "#v1-annotated", "refs/tags/v1-annotated", tag, one},
		{"?checksum=" + strings.ToUpper(tag[:8]) + "#v1-annotated", "refs/tags/v1-annotated", tag, one},
		{"?fetch-by-commit&checksum=" + one + "#main", "refs/heads/main", one, ""},
	} {
		t.Run(test.url, func(t *testing.T) {
			dir, p, err := l.checkout(Options{Store: st}, l.URL+"/a.git/.git"+test.url)
			if err != nil {
				t.Fatal(err)
			}
			if want := (Pin{test.ref, test.object, test.commit}); p != want {
				t.Errorf("pinned %+v, want %+v", p, want)
			}
			text := map[string]string{one: "one", two: "two", three: "three"}[test.object]
			if test.commit == one {
				text = "one"
			}
			wantList(t, dir, "-rw-r--r-- f "+text, "drwxr-xr-x dir", "-rwxr-xr-x dir/g two", "link -> /etc/passwd")
		})
	}
}

// Unchanged references cost one request, pinned ones none.
func TestRequests(t *testing.T) {
	l := newLab(t)
	l.repo("a.git")
	one := l.commit("a.git", map[string]string{"f": "one"})
	st := newStore(t)
	at := l.URL + "/a.git/.git"
	if _, _, err := l.checkout(Options{Store: st}, at); err != nil {
		t.Fatal(err)
	}
	l.asked()
	// For HEAD only: version 2 of the protocol needs two requests.
	if _, _, err := l.checkout(Options{Store: st}, at); err != nil {
		t.Fatal(err)
	}
	if asked := l.asked(); len(asked) != 2 {
		t.Errorf("asked %q", asked)
	}
	if _, _, err := l.checkout(Options{Store: st}, at+"#"+one); err != nil {
		t.Fatal(err)
	}
	if asked := l.asked(); len(asked) != 0 {
		t.Errorf("asked %q for a commit that is here", asked)
	}
	s, r := New(Options{Store: st}), Request{Remote: at}
	for range 2 {
		if _, err := s.Resolve(context.Background(), r, nil); err != nil {
			t.Fatal(err)
		}
		r.Subdir = "x"
	}
	if asked := l.asked(); len(asked) != 2 {
		t.Errorf("one build asked %q", asked)
	}
}

// Old servers do not send a commit by its name.
func TestOldServers(t *testing.T) {
	l := newLab(t)
	l.protocol = false
	l.repo("a.git")
	one := l.commit("a.git", map[string]string{"f": "one"})
	l.commit("a.git", map[string]string{"f": "two"})
	st := newStore(t)
	at := l.URL + "/a.git/.git"
	for range 2 { // the second time from a repository that has the rest
		for url, want := range map[string]string{"#main": "two", "#" + one: "one"} {
			dir, _, err := l.checkout(Options{Store: st}, at+url)
			if err != nil {
				t.Fatalf("%s: %v", url, err)
			}
			wantList(t, dir, "-rw-r--r-- f "+want)
		}
		l.commit("a.git", map[string]string{"f": "two"})
	}
}

func TestSubmodules(t *testing.T) {
	l := newLab(t)
	for _, r := range []struct{ name, sub, in string }{{"inner.git", "", ""}, {"sub.git", "in", "inner.git"}, {"a.git", "lib/sub", "sub.git"}} {
		l.repo(r.name)
		files := map[string]string{"f": r.name}
		if r.sub != "" {
			files[".gitmodules"] = gitmodules(r.sub, r.in)
		}
		l.commit(r.name, files)
		if r.sub != "" {
			l.git(r.name, "update-index", "--add", "--cacheinfo", "160000,"+l.git(r.in, "rev-parse", "HEAD")+","+r.sub)
			l.git(r.name, "commit", "-q", "-m", "m")
		}
	}
	at := l.URL + "/a.git/.git"
	st := newStore(t)
	modules := "-rw-r--r-- .gitmodules " + gitmodules("lib/sub", "sub.git")
	inner := "-rw-r--r-- lib/sub/.gitmodules " + gitmodules("in", "inner.git")
	all := []string{modules, inner, "-rw-r--r-- f a.git", "-rw-r--r-- lib/sub/in/f inner.git", "-rw-r--r-- lib/sub/f sub.git", "drwxr-xr-x lib", "drwxr-xr-x lib/sub", "drwxr-xr-x lib/sub/in"}
	dir, _, err := l.checkout(Options{Store: st}, at)
	if err != nil {
		t.Fatal(err)
	}
	wantList(t, dir, all...)
	if dir, _, err = l.checkout(Options{Store: st}, at+"?submodules=false"); err != nil {
		t.Fatal(err)
	}
	wantList(t, dir, modules, "-rw-r--r-- f a.git", "drwxr-xr-x lib", "drwxr-xr-x lib/sub")
	if dir, _, err = l.checkout(Options{Store: st}, at+"#:lib/sub/in"); err != nil {
		t.Fatal(err)
	}
	wantList(t, dir, "-rw-r--r-- f inner.git")
}

func gitmodules(at, repo string) string {
	return "[submodule \"m\"]\n\tpath = " + at + "\n\turl = ../../" + repo + "/.git\n"
}

func TestSubdir(t *testing.T) {
	l := newLab(t)
	l.repo("a.git")
	l.commit("a.git", map[string]string{"a/b/f": "one", "a/b/.hidden": "two", "out": "-> /etc", "up": "-> a", "file": "x"})
	at, st := l.URL+"/a.git/.git", newStore(t)
	for _, sub := range []string{"a/b", "/a//b/", "../../a/b", "a/./b", "a/x/../b"} {
		dir, _, err := l.checkout(Options{Store: st}, at+"#:"+sub)
		if err != nil {
			t.Fatalf("%s: %v", sub, err)
		}
		wantList(t, dir, "-rw-r--r-- f one", "-rw-r--r-- .hidden two")
	}
	for sub, want := range map[string]string{
		"out":   "out of the repository is not a directory, or one of its parents is not",
		"up/b":  "up/b of the repository is not a directory, or one of its parents is not",
		"file":  "file of the repository is not a directory, or one of its parents is not",
		"none":  "the repository has no directory none",
		"../..": "",
	} {
		_, _, err := l.checkout(Options{Store: st}, at+"#:"+sub)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%s: error %v, want %s", sub, err, want)
		}
	}
}

// A kept .git is independent, and always the same except for its pack.
func TestKeepGitDir(t *testing.T) {
	l := newLab(t)
	l.repo("a.git")
	one := l.commit("a.git", map[string]string{"f": "one"})
	l.git("a.git", "tag", "-a", "-m", "m", "v1")
	l.commit("a.git", map[string]string{"f": "two"})
	at := strings.Replace(l.URL, "://", "://me:secret@", 1) + "/a.git/.git?keep-git-dir"
	var indexes [2]string
	for i := range indexes {
		dir, _, err := l.checkout(Options{Store: newStore(t)}, at+"&commit="+one+"#v1")
		if err != nil {
			t.Fatal(err)
		}
		wantList(t, dir, "-rw-r--r-- f one", "drwxr-xr-x .git")
		run := func(args ...string) string {
			cmd := exec.Command("git", append([]string{"-c", "safe.directory=*", "-C", dir}, args...)...)
			cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("git %q: %v\n%s", args, err, out)
			}
			return strings.TrimSpace(string(out))
		}
		b, _ := os.ReadFile(filepath.Join(dir, ".git", "index"))
		indexes[i] = string(b)
		if got := run("rev-parse", "HEAD"); got != one {
			t.Errorf("HEAD is %s, want %s", got, one)
		}
		if got := run("describe", "--tags"); got != "v1" {
			t.Errorf("it is %s", got)
		}
		if got := run("remote", "get-url", "origin"); got != l.URL+"/a.git/.git" {
			t.Errorf("it comes from %s", got)
		}
		if got := run("status", "--porcelain"); got != "" {
			t.Errorf("status: %s", got)
		}
		run("fsck")
		out, err := exec.Command("grep", "-rlaE", "secret|"+regexp.QuoteMeta(filepath.Dir(filepath.Dir(dir))), dir).CombinedOutput()
		if len(out) > 0 {
			t.Errorf("these have a password or a path of the store: %s, %v", out, err)
		}
	}
	if indexes[0] != indexes[1] {
		t.Error("two checkouts have two indexes")
	}
}

func TestCommitTime(t *testing.T) {
	l := newLab(t)
	l.repo("a.git")
	l.commit("a.git", map[string]string{"d/f": "one", "l": "-> nowhere"})
	dir, _, err := l.checkout(Options{Store: newStore(t)}, l.URL+"/a.git/.git?mtime=commit")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "d", "d/f", "l"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil || st.Mtim.Sec != 1700000000 {
			t.Errorf("%q is of %d, %v", name, st.Mtim.Sec, err)
		}
	}
}

func TestErrors(t *testing.T) {
	l := newLab(t)
	l.repo("a.git")
	one := l.commit("a.git", map[string]string{"f": "one"})
	l.git("a.git", "tag", "-a", "-m", "m", "v1")
	tag := l.git("a.git", "rev-parse", "v1")
	l.repo("empty.git")
	st := newStore(t)
	at := strings.Replace(l.URL, "://", "://me:secret@", 1)
	none := strings.Repeat("0123", 10)
	for url, want := range map[string]string{
		"/a.git/.git#nope":                          "/a.git/.git: the repository does not contain ref nope",
		"/a.git/.git#HEAD":                          "/a.git/.git: the repository does not contain ref HEAD",
		"/a.git/.git#" + one[:8]:                    "/a.git/.git: the repository does not contain ref " + one[:8],
		"/a.git/.git#" + none:                       "/a.git/.git: commit " + none + " is not in the repository",
		"/a.git/.git?checksum=0123#main":            "/a.git/.git: expected checksum to match 0123, got " + one,
		"/a.git/.git?checksum=0123#v1":              "/a.git/.git: expected checksum to match 0123, got " + tag + " or " + one,
		"/a.git/.git?checksum=0123#" + one:          "/a.git/.git: expected checksum to match 0123, got " + one,
		"/a.git/.git?fetch-by-commit#main":          "fetch-by-commit requires a checksum or a commit SHA ref",
		"/a.git/.git?fetch-by-commit&checksum=0123": `fetch-by-commit requires a full commit SHA checksum, got "0123"`,
		"/empty.git/.git":                           "/empty.git/.git: the repository has no default branch: name one after #",
		"/missing.git":                              "/missing.git: git: fatal: repository 'URL/missing.git/' not found",
	} {
		_, _, err := l.checkout(Options{Store: st}, at+url)
		if err == nil || !strings.HasSuffix(strings.ReplaceAll(err.Error(), l.URL, "URL"), want) {
			t.Errorf("%s: error %v, want %s", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error has the password: %v", url, err)
		}
	}
}

// Repositories that try to do more than is allowed.
func TestHostile(t *testing.T) {
	l := newLab(t)
	local := t.TempDir()
	l.repo("victim.git")
	l.commit("victim.git", map[string]string{"private": "key"})
	for name, url := range map[string]string{
		"file":     "file://" + l.dir + "/victim.git",
		"path":     l.dir + "/victim.git",
		"relative": "./victim",
		"ext":      "ext::sh -c touch% " + local + "/pwned",
		"option":   "-u./evil",
		"ssh":      "ssh://-oProxyCommand=touch%20" + local + "/pwned/x",
		"update":   "../../victim.git/.git\"\n\tupdate = \"!touch " + local + "/pwned",
	} {
		t.Run("submodule by "+name, func(t *testing.T) {
			repo := name + ".git"
			l.repo(repo)
			l.commit(repo, map[string]string{".gitmodules": "[submodule \"m\"]\n\tpath = m\n\turl = \"" + url + "\"\n"})
			l.git(repo, "update-index", "--add", "--cacheinfo", "160000,"+l.git("victim.git", "rev-parse", "HEAD")+",m")
			l.git(repo, "commit", "-q", "-m", "m")
			dir, _, err := l.checkout(Options{Store: newStore(t)}, l.URL+"/"+repo+"/.git")
			if err == nil {
				t.Errorf("it was checked out:\n%s", list(t, dir))
			}
			if names, _ := os.ReadDir(local); len(names) > 0 {
				t.Errorf("it ran a command: %v", names)
			}
		})
	}
	for _, url := range []string{"git@127.0.0.1:a.git", "ssh://127.0.0.1/a.git"} {
		_, _, err := l.checkout(Options{Store: newStore(t)}, url)
		if err == nil || !strings.HasSuffix(err.Error(), ": fetching over ssh needs a key: pass on an ssh agent with --ssh default") {
			t.Errorf("%s: error %v", url, err)
		}
	}
}

// Credentials are sent to the server, and not to another host or a command line.
func TestAuthorization(t *testing.T) {
	l := newLab(t)
	l.repo("a.git")
	l.commit("a.git", map[string]string{"f": "one"})
	u := strings.TrimPrefix(l.URL, "http://")
	seen := spy(t)
	user, token := basic("me", "hunter2"), basic("x-access-token", "hunter2")
	for i, test := range []struct {
		user, want string
		secrets    secrets
	}{
		{"me:hunter2@", user, nil},
		{"", token, secrets{"GIT_AUTH_TOKEN": "hunter2\n"}},
		{"", token, secrets{"GIT_AUTH_TOKEN." + u: "hunter2", "GIT_AUTH_HEADER": "no"}},
		{"", "bearer hunter2", secrets{"GIT_AUTH_HEADER": "bearer hunter2", "GIT_AUTH_TOKEN": "no"}},
		{"", "bearer hunter2", secrets{"GIT_AUTH_HEADER." + u: "bearer hunter2", "GIT_AUTH_TOKEN." + u: "no"}},
		{"no:no@", "bearer hunter2", secrets{"GIT_AUTH_HEADER": "bearer hunter2"}},
		{"", "", secrets{"GIT_AUTH_TOKEN.example.com": "hunter2"}},
		{"", "", secrets{"GIT_AUTH_HEADER": "a\r\nb"}},
	} {
		l.mu.Lock()
		l.auth = test.want
		if test.want == "" {
			l.auth = "something else"
		}
		l.mu.Unlock()
		at, o := "http://"+test.user+u+"/a.git/.git", Options{Store: newStore(t), Secrets: test.secrets}
		_, err := New(o).Resolve(context.Background(), Request{Remote: at}, nil)
		if i == 0 && err == nil { // fetch and submodules have the same environment
			_, _, err = l.checkout(o, at)
		}
		if (test.want == "") != (err != nil) {
			t.Errorf("%s with %v: error %v", at, test.secrets, err)
		}
	}
	b, err := os.ReadFile(seen)
	if err != nil || !strings.Contains(string(b), "ls-remote") || !strings.Contains(string(b), "fetch") {
		t.Fatalf("the spy saw %q, %v", b, err)
	}
	for _, hidden := range []string{"hunter2", user[6:], token[6:]} {
		if strings.Contains(string(b), hidden) {
			t.Errorf("a command line has %q:\n%s", hidden, b)
		}
	}
}

// Credentials are not sent after a redirect to another host.
func TestRedirectDropsCredentials(t *testing.T) {
	l := newLab(t)
	l.repo("a.git")
	l.commit("a.git", map[string]string{"f": "one"})
	var sent atomic.Int32
	at := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, l.URL+r.URL.RequestURI(), http.StatusFound)
	})
	there := l.Config.Handler
	l.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			sent.Add(1)
		}
		there.ServeHTTP(w, r)
	})
	s := httptest.NewServer(at)
	defer s.Close()
	request := Request{Remote: s.URL + "/a.git/.git"}
	if _, err := New(Options{Store: newStore(t)}).Resolve(t.Context(), request, nil); err != nil {
		t.Errorf("without credentials: %v", err)
	}
	_, err := New(Options{Store: newStore(t), Secrets: secrets{"GIT_AUTH_TOKEN": "hunter2"}}).Resolve(t.Context(), request, nil)
	if err == nil || !strings.HasSuffix(err.Error(), "the server redirects, and credentials are not sent to the new URL: use that URL") {
		t.Errorf("error %v", err)
	}
	if sent.Load() > 0 {
		t.Error("another host got the credentials")
	}
}

// spy replaces git by a program that records command lines and runs git.
func spy(t *testing.T) (log string) {
	t.Helper()
	real, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	log = filepath.Join(dir, "log")
	script := "#!/bin/sh\necho \"$@\" >>" + log + "\nexec " + real + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "git"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return log
}

// The configuration of the user and the machine is not read, and no password is asked for.
func TestAlone(t *testing.T) {
	l := newLab(t)
	l.repo("a.git")
	l.commit("a.git", map[string]string{"f": "one"})
	home := t.TempDir()
	config := "[url \"http://127.0.0.1:1/\"]\n\tinsteadOf = " + l.URL + "/\n[core]\n\tautocrlf = true\n"
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"HOME": home, "GIT_ASKPASS": "/bin/false", "GIT_DIR": "/nowhere", "GIT_CONFIG_COUNT": "1",
		"GIT_CONFIG_KEY_0": "http.proxy", "GIT_CONFIG_VALUE_0": "http://127.0.0.1:1",
	} {
		t.Setenv(k, v)
	}
	if _, _, err := l.checkout(Options{Store: newStore(t)}, l.URL+"/a.git/.git"); err != nil {
		t.Error(err)
	}
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	dir, _, err := l.checkout(Options{Store: newStore(t)}, l.URL+"/a.git/.git")
	if err != nil {
		t.Fatal(err)
	}
	wantList(t, dir, "-rw-r--r-- f one")
}

func TestDaemon(t *testing.T) {
	l := newLab(t)
	l.repo("a.git")
	l.commit("a.git", map[string]string{"f": "one"})
	port := ""
	for range 10 { // until the port is free
		if port = l.daemon(freePort(t)); port != "" {
			break
		}
	}
	dir, _, err := l.checkout(Options{Store: newStore(t)}, "git://127.0.0.1:"+port+"/a.git#main")
	if err != nil {
		t.Fatal(err)
	}
	wantList(t, dir, "-rw-r--r-- f one")
}

func TestCanceled(t *testing.T) {
	l := newLab(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("enough")
	cancel(why)
	if _, err := New(Options{Store: newStore(t)}).Resolve(ctx, Request{Remote: l.URL + "/a.git"}, nil); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}

// Over ssh git uses the build's agent, which is closed in the end, and does not prompt.
func TestSSH(t *testing.T) {
	l := newLab(t)
	l.repo("a.git")
	l.commit("a.git", map[string]string{"f": "one"})
	bin := t.TempDir()
	log := filepath.Join(bin, "log")
	script := "#!/bin/sh\necho \"$SSH_AUTH_SOCK $@\" >>" + log + "\nfor command; do :; done\nexec sh -c \"$command\"\n"
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	open := 0
	o := Options{Agent: func(context.Context) (string, func() error, error) {
		open++
		return "/the/agent", func() error { open--; return nil }, nil
	}}
	for _, at := range []string{"git@host:" + l.dir + "/a.git/.git", "ssh://me@host:2222" + l.dir + "/a.git/.git"} {
		o.Store = newStore(t)
		dir, _, err := l.checkout(o, at)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		wantList(t, dir, "-rw-r--r-- f one")
	}
	if open != 0 {
		t.Errorf("%d agents are open", open)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "/the/agent -F /dev/null -o BatchMode=yes ") || !strings.Contains(line, "@host") {
			t.Errorf("ssh was started as %s", line)
		}
	}
	why := errors.New("no agent")
	o.Agent = func(context.Context) (string, func() error, error) { return "", nil, why }
	if _, _, err := l.checkout(o, "git@host:a.git"); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}
