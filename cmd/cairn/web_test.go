package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// web is the web server of a script: the files of a directory with ETags and times, and
// git repositories by the smart protocol.
type web struct {
	dir     string
	backend string // git-http-backend
	mu      sync.Mutex
	auth    string // required Authorization header; "" is any
	ask     string // WWW-Authenticate header of the answer without credentials; "" is none
	log     []string
}

func (s *web) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &webAnswer{ResponseWriter: w, status: http.StatusOK}
	defer func() {
		line := fmt.Sprintf("%s %s %d", r.Method, r.URL.Path, answer.status)
		if r.Header.Get("Authorization") != "" {
			line += " authorized"
		}
		s.log = append(s.log, line)
	}()
	if s.auth != "" && r.Header.Get("Authorization") != s.auth {
		http.Error(answer, "who are you?", http.StatusUnauthorized)
		return
	}
	if s.ask != "" && r.Header.Get("Authorization") == "" {
		answer.Header().Set("WWW-Authenticate", s.ask)
		http.Error(answer, "who are you?", http.StatusUnauthorized)
		return
	}
	if to := r.URL.Query().Get("to"); to != "" {
		http.Redirect(answer, r, to, http.StatusFound)
		return
	}
	if r.URL.Query().Has("more") {
		unasked(answer)
		return
	}
	if r.URL.Query().Has("part") {
		answer.Header().Set("Content-Range", "bytes 0-0/2")
		answer.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(answer, "x")
		return
	}
	if strings.Contains(r.URL.Path, ".git/") {
		h := cgi.Handler{Path: s.backend, Env: []string{
			"GIT_PROJECT_ROOT=" + s.dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "HOME=/dev/null",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		}}
		h.ServeHTTP(answer, r)
		return
	}
	name := filepath.Join(s.dir, filepath.Clean("/"+r.URL.Path))
	if b, err := os.ReadFile(name); err == nil {
		answer.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(b)))
	}
	http.ServeFile(answer, r, name)
}

// unasked sends more bytes than its header announces.
func unasked(w *webAnswer) {
	conn, _, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
	_, _ = io.WriteString(conn, strings.Repeat("\x1b[2Jmore", 1000))
	_, _ = io.Copy(io.Discard, conn)
}

type webAnswer struct {
	http.ResponseWriter
	status int
}

func (a *webAnswer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

type webKey struct{}

func cmdWeb(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "web start DIR|auth VALUE|challenge VALUE|log FILE")
	if args[0] == "start" {
		need(ts, neg, args, 2, "web start DIR")
		startWeb(ts, args[1])
		return
	}
	need(ts, neg, args, 2, "web auth VALUE|challenge VALUE|log FILE")
	s := *ts.Value(webKey{}).(**web)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch args[0] {
	case "auth":
		s.auth = args[1]
	case "challenge":
		s.ask = args[1]
	case "log":
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.Join(s.log, "\n")+"\n"), 0o644))
		s.log = nil
	default:
		ts.Fatalf("web cannot %s", args[0])
	}
}

func startWeb(ts *testscript.TestScript, dir string) {
	s := &web{dir: ts.MkAbs(dir)}
	if out, err := exec.Command("git", "--exec-path").Output(); err == nil {
		s.backend = filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	server := &http.Server{Handler: s}
	go func() { _ = server.Serve(l) }() // ends with Close
	ts.Defer(func() { _ = server.Close() })
	*ts.Value(webKey{}).(**web) = s
	ts.Setenv("WEB", l.Addr().String())
}

// cmdRepository makes a directory a repository, or commits its changes.
func cmdRepository(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "repository DIR [GIT-ARG...]")
	dir := ts.MkAbs(args[0])
	run := func(args ...string) {
		cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"}, args...)...)
		cmd.Dir = dir
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "HOME=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
			"GIT_AUTHOR_DATE=1700000000 +0000", "GIT_COMMITTER_DATE=1700000000 +0000",
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			ts.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	if len(args) > 1 {
		run(args[1:]...)
		return
	}
	run("init", "-q")
	run("add", "-A")
	run("commit", "-q", "--allow-empty", "-m", "change")
}

// webAddress returns $WEB, or a text that does not occur in output.
func webAddress(ts *testscript.TestScript) string {
	if at := ts.Getenv("WEB"); at != "" {
		return at
	}
	return "\x00no web\x00"
}
