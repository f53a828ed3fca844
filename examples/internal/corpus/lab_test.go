package corpus_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-build/cairn/examples/internal/peers"
	"github.com/cairn-build/cairn/registry/server"
)

// lab is shared by all cases: both builders, a registry with the base images, and a
// server for files and git repositories.
type lab struct {
	dir      string
	cairn    string
	registry string // host:port
	web      string // URL
	busybox  string // content of the binary
	bases    *bases
	buildkit *peers.BuildKit // only with -update

	served sync.Map // case name to directory
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{dir: t.TempDir()}
	l.cairn = filepath.Join(l.dir, "cairn")
	if out, err := exec.Command("go", "build", "-o", l.cairn, "../../../cmd/cairn").CombinedOutput(); err != nil {
		t.Fatalf("building cairn: %v\n%s", err, out)
	}
	if *gvisorEach > 0 {
		l.buildGVisor(t)
	}
	exe, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	handler, err := server.Handler(t.TempDir(), server.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewServer(handler)
	t.Cleanup(r.Close)
	web := httptest.NewServer(http.HandlerFunc(l.serve))
	t.Cleanup(web.Close)
	l.busybox, l.registry, l.web = string(exe), strings.TrimPrefix(r.URL, "http://"), web.URL
	l.bases = newBases(t, l.registry, l.busybox)
	if *update {
		if l.buildkit, err = peers.StartBuildKit(context.Background(), filepath.Join(l.dir, "buildkit"), l.registry); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.buildkit.Stop)
	}
	return l
}

// serve serves /CASE/F from the case's directory http. Files in a directory named private
// need an Authorization header, a directory named moved redirects, and NAME.git is a
// repository.
func (l *lab) serve(w http.ResponseWriter, r *http.Request) {
	name, file, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	dir, ok := l.served.Load(name)
	if !ok {
		http.NotFound(w, r)
		return
	}
	root := filepath.Join(dir.(string), "http")
	if strings.HasPrefix(file, "private/") && !authorized(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
		http.Error(w, "token missing", http.StatusUnauthorized)
		return
	}
	if rest, ok := strings.CutPrefix(file, "moved/"); ok {
		http.Redirect(w, r, "/"+name+"/"+rest, http.StatusFound)
		return
	}
	if i := strings.Index(file, ".git/"); i >= 0 {
		git := cgi.Handler{
			Path: "/usr/lib/git-core/git-http-backend", Root: "/" + name, Dir: root,
			Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
		}
		git.ServeHTTP(w, r)
		return
	}
	http.ServeFile(w, r, filepath.Join(root, path.Clean("/"+file)))
}

// authorized reports whether a request has the token "sesame", in any of the forms that
// git and other clients send.
func authorized(r *http.Request) bool {
	kind, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch strings.ToLower(kind) {
	case "bearer":
		return value == "sesame"
	case "basic":
		return value == base64.StdEncoding.EncodeToString([]byte("x-access-token:sesame"))
	}
	return false
}

// open prepares a case's directory and serves its directory http.
func (l *lab) open(t *testing.T, c *testcase) (dir string, hide *strings.Replacer) {
	t.Helper()
	url := l.web + "/" + c.name
	dir = c.prepare(t, strings.NewReplacer("@HTTP@", url, "@REGISTRY@", l.registry))
	l.served.Store(c.name, dir)
	for i := range c.flags {
		c.flags[i] = strings.NewReplacer("@HTTP@", url, "@DIR@", dir, "@REGISTRY@", l.registry).Replace(c.flags[i])
	}
	c.context = strings.ReplaceAll(c.context, "@HTTP@", url)
	c.url = strings.ReplaceAll(c.url, "@HTTP@", url)
	return dir, strings.NewReplacer(url, "@HTTP@", dir, "@DIR@", l.registry, "@REGISTRY@", l.web, "@WEB@")
}

// result is the description of a build's result, and the digest of an image's manifest.
type result struct{ text, digest string }

// cairnMakes builds a case with Cairn and describes the result.
func (l *lab) cairnMakes(t *testing.T, c *testcase, m mode) result {
	t.Helper()
	dir, hide := l.open(t, c)
	archive := filepath.Join(dir, "image.tar")
	args := []string{"build", "--progress", "plain", "--registry-mirror", l.registry}
	calls := slices.ContainsFunc(c.flags, isCall)
	if c.output != "" {
		args = append(args, "-o", c.output+",dest="+archive)
	} else if !calls {
		args = append(args, "-o", "type=oci,dest="+archive)
	}
	stdout, stderr, status := l.run(t, c, m, dir, append(append(args, c.flags...), c.context)...)
	if calls {
		return result{text: hide.Replace(fmt.Sprintf("%sstatus %d\n", stdout, status))}
	}
	if status != 0 {
		return result{text: fails + "\n" + hide.Replace(errorOf(stderr))}
	}
	if c.output != "" {
		return result{text: hide.Replace(listFiles(t, archive))}
	}
	warnings := warning.FindAllString(stderr, -1)
	img := readImage(t, archive)
	return result{hide.Replace(l.describe(t, c, img) + strings.Join(warnings, "")), img.digest}
}

// isCall reports whether a flag requests a report instead of an image.
func isCall(flag string) bool { return flag == "--check" || strings.HasPrefix(flag, "--call") }

func (c *testcase) environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return strings.HasSuffix(strings.ToLower(name), "_proxy") || strings.HasPrefix(name, "CAIRN_") || strings.HasPrefix(name, "BUILDKIT_")
	})
	return append(env, c.settings()...)
}

// settings returns the variables that a case sets.
func (c *testcase) settings() []string {
	if c.noEpoch {
		return c.env
	}
	return append([]string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch)}, c.env...)
}

var (
	warning = regexp.MustCompile(`(?m)^ - [A-Z][A-Za-z]+: .*\n`)
	lines   = regexp.MustCompile(`(?m)^#\d+ .*\n|^\n|^ \d+ warnings? found.*\n`)
)

// errorOf returns the error from Cairn's output, without steps and warnings.
func errorOf(stderr string) string {
	return warning.ReplaceAllString(lines.ReplaceAllString(stderr, ""), "")
}

// buildkitMakes builds a case with BuildKit and describes the result.
func (l *lab) buildkitMakes(t *testing.T, c *testcase) string {
	t.Helper()
	dir, hide := l.open(t, c)
	archive := filepath.Join(dir, "image.tar")
	args := []string{"build", "--progress", "rawjson", "--frontend", "dockerfile.v0",
		"--opt", "cmdline=docker/dockerfile"} // as if "# syntax=" named the frontend
	if c.output != "" {
		args = append(args, "--output", c.output+",dest="+archive)
	} else if !slices.ContainsFunc(c.flags, isCall) {
		args = append(args, "--output", "type=oci,dest="+archive+",rewrite-timestamp=true"+c.attributes())
	}
	if !c.noEpoch && !slices.ContainsFunc(c.flags, func(s string) bool { return strings.HasPrefix(s, "SOURCE_DATE_EPOCH=") }) {
		args = append(args, "--opt", fmt.Sprintf("build-arg:SOURCE_DATE_EPOCH=%d", epoch))
	}
	cmd := l.buildkit.Command(context.Background(), append(args, c.translate(t)...)...)
	cmd.Dir, cmd.Env = filepath.Join(dir, "ctx"), c.environment()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case slices.ContainsFunc(c.flags, isCall) && err == nil:
		return hide.Replace(stdout.String() + "status 0\n")
	case err != nil:
		last := strings.TrimSpace(stderr.String())
		text := refID.ReplaceAllString(last[strings.LastIndex(last, "\n")+1:], "of ref ID")
		return hide.Replace(fmt.Sprintf("%s: %s\n", fails, text))
	}
	if c.output != "" {
		return hide.Replace(listFiles(t, archive))
	}
	return hide.Replace(l.describe(t, c, readImage(t, archive)) + warnings(t, stderr.Bytes()))
}

// refID matches the random name of a tree in BuildKit's errors.
var refID = regexp.MustCompile(`of ref \w+::\w+`)

// warnings returns the warnings in BuildKit's progress.
func warnings(t *testing.T, progress []byte) string {
	t.Helper()
	var out strings.Builder
	for line := range bytes.Lines(progress) {
		var event struct {
			Warnings []struct{ Short []byte }
		}
		if json.Unmarshal(line, &event) != nil {
			continue
		}
		for _, w := range event.Warnings {
			fmt.Fprintf(&out, " - %s\n", w.Short)
		}
	}
	return out.String()
}
