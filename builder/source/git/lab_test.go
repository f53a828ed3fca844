package git

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/store"
)

// lab is a folder of repositories with a web server that records requests.
type lab struct {
	t   *testing.T
	dir string
	*httptest.Server

	mu       sync.Mutex
	requests []string
	auth     string // required Authorization header; "" is any
	protocol bool   // use version 2 of the protocol
}

func newLab(t *testing.T) *lab {
	t.Helper()
	path, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not installed")
	}
	exe, err := exec.Command(path, "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, dir: t.TempDir(), protocol: true}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(exe)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + l.dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.requests = append(l.requests, r.URL.RequestURI())
		auth, protocol := l.auth, l.protocol
		l.mu.Unlock()
		if auth != "" && r.Header.Get("Authorization") != auth {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if !protocol {
			r.Header.Del("Git-Protocol")
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(l.Close)
	return l
}

// asked returns the requests since the last call.
func (l *lab) asked() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.requests
	l.requests = nil
	return out
}

// git runs git for the author of a repository.
func (l *lab) git(repo string, args ...string) string {
	l.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = filepath.Join(l.dir, repo)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b",
		"GIT_AUTHOR_DATE=1700000000 +0000", "GIT_COMMITTER_DATE=1700000000 +0000",
		"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=protocol.file.allow", "GIT_CONFIG_VALUE_0=always",
		"GIT_CONFIG_KEY_1=init.defaultBranch", "GIT_CONFIG_VALUE_1=main",
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("git %q: %v\n%s", args, err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// repo makes an empty repository.
func (l *lab) repo(name string) {
	l.t.Helper()
	if err := os.MkdirAll(filepath.Join(l.dir, name), 0o755); err != nil {
		l.t.Fatal(err)
	}
	l.git(name, "init", "-q")
}

// commit commits files, given as a map from paths to texts. "-> x" is a link; "+x" before
// the text makes it executable.
func (l *lab) commit(repo string, files map[string]string) string {
	l.t.Helper()
	for name, text := range files {
		p := filepath.Join(l.dir, repo, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			l.t.Fatal(err)
		}
		os.Remove(p)
		var err error
		if to, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(to, p)
		} else if body, ok := strings.CutPrefix(text, "+x "); ok {
			err = os.WriteFile(p, []byte(body), 0o777)
		} else {
			err = os.WriteFile(p, []byte(text), 0o666)
		}
		if err != nil {
			l.t.Fatal(err)
		}
	}
	l.git(repo, "add", "-A")
	l.git(repo, "commit", "-q", "--allow-empty", "-m", "c")
	return l.git(repo, "rev-parse", "HEAD")
}

func newStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// checkout fetches a URL like a build, with a new Source.
func (l *lab) checkout(o Options, text string) (dir string, p Pin, err error) {
	l.t.Helper()
	ref, err := Parse(text)
	if err != nil {
		return "", p, err
	}
	s, r := New(o), ref.Request(false)
	if p, err = s.Resolve(context.Background(), r, nil); err != nil {
		return "", p, err
	}
	dir, err = s.Checkout(context.Background(), r, p, nil)
	return dir, p, err
}

// list returns the content of a folder with a line for each file.
func list(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		fi, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.Name() == ".git" && d.IsDir():
			lines = append(lines, fmt.Sprintf("%s %s", fi.Mode(), rel))
			return filepath.SkipDir
		case d.IsDir():
			lines = append(lines, fmt.Sprintf("%s %s", fi.Mode(), rel))
		case d.Type()&os.ModeSymlink != 0:
			to, _ := os.Readlink(p)
			lines = append(lines, fmt.Sprintf("%s -> %s", rel, to))
		default:
			b, _ := os.ReadFile(p)
			lines = append(lines, fmt.Sprintf("%s %s %s", fi.Mode(), rel, b))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func wantList(t *testing.T, dir string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := list(t, dir); got != strings.Join(want, "\n") {
		t.Errorf("it holds\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

type secrets map[string]string

func (s secrets) Get(id string) ([]byte, bool, error) {
	v, ok := s[id]
	return []byte(v), ok, nil
}

// daemon starts the server of git and returns its port when it is ready, "" if it has
// ended.
func (l *lab) daemon(port string) string {
	l.t.Helper()
	cmd := exec.Command("git", "daemon", "--listen=127.0.0.1", "--port="+port, "--base-path="+l.dir, "--export-all", "--reuseaddr")
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Env = append(os.Environ(), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	l.t.Cleanup(func() {
		select {
		case <-ended:
		default:
			_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
			<-ended
		}
	})
	for {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
			return port
		}
		select {
		case <-ended:
			return ""
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}
