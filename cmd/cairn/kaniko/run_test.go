package kaniko

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/cache/object"
	"github.com/cairn-build/cairn/builder/cache/object/azblob"
	"github.com/cairn-build/cairn/builder/cache/object/azblob/fake"
	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/transport"
)

// executor returns an executor whose registry is at the host of the handler.
func executor(t *testing.T, h http.HandlerFunc) (e *Executor, host string, log *strings.Builder) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	log = &strings.Builder{}
	p := progress.New(progress.Plain, log)
	t.Cleanup(p.Close)
	return &Executor{Manager: &images.Manager{Registry: client, Progress: p}}, strings.TrimPrefix(s.URL, "http://"), log
}

// Only errors of tags that are there and must not change are left out.
func TestImmutable(t *testing.T) {
	t.Parallel()
	e, host, log := executor(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/manifests/there") {
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("ab", 32))
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Content-Length", "2")
			return
		}
		w.WriteHeader(http.StatusNotFound)
	})
	ecr := func(tag string) error {
		return fmt.Errorf("push %s/app:%s: registry answered 400 (tag invalid: The image tag '%s' already exists in the 'app' repository and cannot be overwritten because the tag is immutable.)", host, tag, tag)
	}
	harbor := fmt.Errorf("push %s/app:there: 412 PRECONDITION: Failed to process request due to 'app:there' configured as immutable", host)
	denied := fmt.Errorf("push %s/app:there: not authorized", host)
	for name, test := range map[string]struct {
		err  error
		tags []string
		want string
	}{
		"none":         {nil, []string{"there"}, ""},
		"ECR":          {ecr("there"), []string{"there"}, ""},
		"Harbor":       {harbor, []string{"there"}, ""},
		"not there":    {ecr("missing"), []string{"missing"}, "cannot be overwritten"},
		"other reason": {denied, []string{"there"}, "not authorized"},
		"several":      {&builder.PushError{Errs: []error{ecr("there")}, Pushed: []string{"x"}}, []string{"there", "new"}, ""},
		"one of two":   {&builder.PushError{Errs: []error{ecr("there"), denied}}, []string{"there", "new"}, "not authorized"},
	} {
		var tags []string
		for _, tag := range test.tags {
			tags = append(tags, host+"/app:"+tag)
		}
		err := e.withoutImmutable(t.Context(), test.err, tags)
		if (test.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	e.Progress.Close()
	if want := "the tag stays at sha256:abab"; !strings.Contains(log.String(), want) {
		t.Errorf("%q, want %q in it", log, want)
	}
}

// The check before the build ends it only if the registry refuses, and leaves no upload.
func TestCheckPush(t *testing.T) {
	t.Parallel()
	var cancelled atomic.Int64
	e, host, _ := executor(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodDelete:
			cancelled.Add(1)
			w.WriteHeader(http.StatusNoContent)
		case strings.HasPrefix(r.URL.Path, "/v2/allowed/"):
			w.Header().Set("Location", "/v2/allowed/blobs/uploads/1")
			w.WriteHeader(http.StatusAccepted)
		case strings.HasPrefix(r.URL.Path, "/v2/denied/"):
			w.WriteHeader(http.StatusForbidden)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	for repo, want := range map[string]string{"allowed": "", "denied": "--skip-push-permission-check leaves this check out", "odd": ""} {
		err := e.checkPush(t.Context(), []string{host + "/" + repo + ":1"})
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", repo, err, want)
		}
	}
	for _, missing := range []bool{false, true} {
		err := &transport.Error{Kind: registry.ErrUnreachable, Text: "x", Err: &net.DNSError{IsNotFound: missing}}
		if got := certain(err); got != missing {
			t.Errorf("a host that does not exist is %v: certain is %v", missing, got)
		}
	}
	if cancelled.Load() != 1 {
		t.Errorf("%d uploads were cancelled, want 1", cancelled.Load())
	}
}

// A context in Azure's storage, with the key of the account.
func TestAzure(t *testing.T) {
	s := httptest.NewServer(&fake.Server{})
	defer s.Close()
	at := s.URL + "/" + fake.Account
	t.Setenv("BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME", fake.Account) // of a host name with the account, this is not needed
	c, err := azblob.New(azblob.Options{URL: at, Container: fake.Container, Key: fake.Key})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Put(t.Context(), "dir/a.tar.gz", object.Content{Size: 4, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("text")), nil }}, "")
	if err != nil {
		t.Fatal(err)
	}
	e := &Executor{}
	where := Context{Kind: Azure, At: at, Bucket: fake.Container, Key: "dir/a.tar.gz"}
	t.Setenv("AZURE_STORAGE_ACCESS_KEY", fake.Key)
	body, err := e.open(t.Context(), nil, where)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if text, err := io.ReadAll(body); string(text) != "text" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	t.Setenv("AZURE_STORAGE_ACCESS_KEY", "d3Jvbmc=")
	if _, err := e.open(t.Context(), nil, where); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("with another key: %v", err)
	}
}

// A digest for a URL is sent by PUT, and errors do not have the token in it.
func TestDigestURL(t *testing.T) {
	t.Parallel()
	var got atomic.Value
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got.Store(r.Method + " " + r.URL.Path + " " + string(text))
		if r.URL.Path == "/refused" {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer s.Close()
	d := layer.FromBytes([]byte("x"))
	f := Files{Digest: s.URL + "/digest?token=hush"}
	if err := errors.Join(f.Prepare(), f.Write(t.Context(), d)); err != nil || got.Load() != "PUT /digest "+string(d) {
		t.Errorf("%v, %v", got.Load(), err)
	}
	f.Digest = s.URL + "/refused?token=hush"
	if err := f.Write(t.Context(), d); err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "/refused: the server answers 403") {
		t.Error(err)
	}
}

// Files of an earlier build are removed, but not those that a controller has made, and their
// directories are the owner's.
func TestPrepare(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old, empty, deep := filepath.Join(dir, "old"), filepath.Join(dir, "empty"), filepath.Join(dir, "a/b/deep")
	if err := errors.Join(os.WriteFile(old, []byte("x"), 0o644), os.WriteFile(empty, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	f := Files{Digest: old, Name: empty, NameTag: deep, Destinations: []string{"app", "h.example:5000/app:1"}}
	if err := f.Prepare(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("the old file is there")
	}
	if _, err := os.Stat(empty); err != nil {
		t.Error("the empty file is gone")
	}
	if fi, err := os.Stat(filepath.Dir(deep)); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", fi, err)
	}
	if err := f.Write(t.Context(), "sha256:0"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		old: "sha256:0", empty: "index.docker.io/library/app@sha256:0\nh.example:5000/app@sha256:0\n",
		deep: "index.docker.io/library/app:latest@sha256:0\nh.example:5000/app:1@sha256:0\n",
	} {
		if text, err := os.ReadFile(name); string(text) != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", name, text, err, want)
		}
	}
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	for want, err := range map[int]error{
		42: fmt.Errorf("x: %w", &worker.ExitError{Code: 42}), 137: &worker.ExitError{Code: 137, Signal: "SIGKILL"}, 1: errors.New("x"),
	} {
		if got := ExitStatus(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}

func TestFindDockerfile(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ctx/Dockerfile", "ctx/abs/File", "Other"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for name, want := range map[string]string{"Dockerfile": "ctx/Dockerfile", "Other": "Other", "ctx/Dockerfile": "ctx/Dockerfile", "/abs/File": "ctx/abs/File", "none": "ctx/none", "/none": "/none"} {
		if got := findDockerfile("ctx", name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// Without the program git, a repository as context is an error with other ways to build.
func TestNoGit(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	e := &Executor{}
	_, err := e.fetch(t.Context(), nil, Context{Kind: Repository, At: "https://h.invalid/p"})
	if err == nil || !strings.Contains(err.Error(), "git is not installed: use an image that has it, or the archive that the forge serves") {
		t.Error(err)
	}
}
