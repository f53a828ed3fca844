package builder

import (
	"archive/tar"
	"bytes"
	"fmt"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/layer/imagetest"
)

// remoteContexts serves a git repository app.git and an archive app.tar with a Dockerfile,
// the file name and the directory sub.
func remoteContexts(t *testing.T) *imagetest.Server {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not installed")
	}
	exe, err := exec.Command(git, "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	files := map[string]string{"Dockerfile": "FROM scratch\nCOPY name /\n", "name": "app", "sub/Dockerfile": "FROM scratch\nCOPY name /\n", "sub/name": "sub"}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, text := range files {
		put(t, filepath.Join(root, "app.git", name), []byte(text))
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@example", "commit", "-qm", "1"}} {
		cmd := exec.Command(git, args...)
		cmd.Dir, cmd.Env = filepath.Join(root, "app.git"), append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(exe)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
	return imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/app.tar" {
			_, _ = w.Write(archive.Bytes())
			return
		}
		backend.ServeHTTP(w, r)
	}))
}

// A repository, an archive, a file and an image that several targets name are fetched once
// a build, also if some of the targets have secrets.
func TestContextsAreFetchedOnce(t *testing.T) {
	web, h := remoteContexts(t), newHub(t)
	publish(t, h, "library/base")
	local := contextOf(t, map[string]string{"Dockerfile": "FROM base\nCOPY --from=repository name /repository\nCOPY --from=file context /file\nCOPY --from=dir name /dir\n"})
	key := filepath.Join(t.TempDir(), "key")
	put(t, key, []byte("key"))
	targets := func(n int) (all []Target) {
		for i := range n {
			c := &Credentials{Secrets: []secret.Source{{ID: fmt.Sprint("key", i), File: key}}}
			if i%2 == 0 {
				c = nil
			}
			all = append(all,
				Target{Name: fmt.Sprint("archive", i), Context: web.URL + "/app.tar", Credentials: c},
				Target{Name: fmt.Sprint("git", i), Context: web.URL + "/app.git", Credentials: c},
				Target{Name: fmt.Sprint("named", i), Context: local, Credentials: c, Contexts: []Context{
					{Name: "repository", Value: web.URL + "/app.git"}, {Name: "file", Value: web.URL + "/app.tar"},
					{Name: "dir", Value: web.URL + "/app.tar#:sub"}, {Name: "base", Value: "docker-image://" + h.host() + "/library/base"},
				}})
		}
		return all
	}
	var want []string
	for _, n := range []int{1, 6} {
		b := newBuilder(t, nil)
		built, err := b.buildAll(t, SessionOptions{}, targets(n)...)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range built[3:] {
			if first := built[map[byte]int{'a': 0, 'g': 1, 'n': 2}[one.Name[0]]]; one.Digest() != first.Digest() || one.Steps.Ran > 0 {
				t.Errorf("%s: %s, %+v, differs from %s", one.Name, one.Digest(), one.Steps, first.Name)
			}
		}
		if files := describe(t, b, built[2].Image); !strings.Contains(files, `dir "sub"`) || !strings.Contains(files, `repository "app"`) {
			t.Errorf("contexts have other files:\n%s", files)
		}
		got := append(web.Requests(), h.take()...)
		if want == nil {
			want = got
		}
		for _, part := range []string{"/app.tar", "/app.git/", "/manifests/", "/blobs/"} {
			if count(got, "GET", part)+count(got, "POST", part) != count(want, "GET", part)+count(want, "POST", part) {
				t.Errorf("%s: %d targets of a kind make other requests than one:\n%s\none:\n%s", part, n, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
}
