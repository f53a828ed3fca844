// Package examples_test builds every example with the cairn binary, pushes it to
// Debian's docker-registry, reads it back with other tools and runs it.
package examples_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// example is a directory with a Dockerfile, its base image and its expected behavior.
type example struct {
	name    string
	bases   []string
	args    []string                        // of "cairn build"
	prepare func(t *testing.T, dir string)  // completes a copy of the folder
	prints  string                          // expected output of a program that ends
	answers map[string]string               // path to body, of a program that serves HTTP
	asks    func(t *testing.T, port string) // checks a program that serves another protocol, once it listens
	mounts  func(t *testing.T, port string) map[string]string
	// again reports whether the steps are deterministic, so that a build in an empty store
	// gives the same digest. Package managers write logs that contain times.
	again bool
	// few leaves out the readers that take long with images on Debian, and see nothing in
	// this one that they do not see in another.
	few bool
}

func all() []example {
	return []example{
		{
			name:    "debian-nginx",
			bases:   []string{"debian"},
			answers: map[string]string{"/": "served by Debian's nginx"},
			mounts:  nginxPort,
		},
		{
			name:    "node-app",
			bases:   []string{"node"},
			answers: map[string]string{"/": "node-app, uid 1000\n", "/hello/you": `{"hello":"you"}`},
		},
		{
			name:    "go-service",
			bases:   []string{"golang"},
			args:    []string{"--build-arg", "VERSION=1.2.3"},
			answers: map[string]string{"/": "go-service 1.2.3, uid 65534\n", "/hello/you": "Hello, you.\n"},
			again:   true,
		},
		{
			name:    "java-service",
			bases:   []string{"debian"},
			answers: map[string]string{"/": "java-service on Java 17\n", "/hello/you": "Hello, you.\n"},
			few:     true,
		},
		{
			name:    "rust-service",
			bases:   []string{"debian"},
			answers: map[string]string{"/": "rust-service 1.0.0\n", "/hello/you": "Hello, you.\n"},
		},
		{
			name:    "python-service",
			bases:   []string{"debian"},
			answers: map[string]string{"/": "python-service, uid 65534\n", "/hello/you": "Hello, you.\n"},
			few:     true,
		},
		{
			name:  "postgres",
			bases: []string{"debian"},
			asks:  selectGreeting,
			few:   true,
		},
		{
			name:    "hello",
			prepare: compileHello,
			prints:  "Hello from an image made of one file, on linux/",
			again:   true,
		},
		{
			name:    "cairn-image",
			prepare: compileCairn,
			prints:  "Cairn builds container images from Dockerfiles",
			again:   true,
		},
	}
}

// TestExamples builds the examples at the same time, and then looks for leftovers of
// all of them.
func TestExamples(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	t.Run("build", func(t *testing.T) {
		parallel := func(name string, f func(t *testing.T)) {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f(t)
			})
		}
		// The longest begin first.
		parallel("cross", l.cross)
		for _, e := range all() {
			parallel(e.name, func(t *testing.T) { l.example(t, e) })
		}
		parallel("shop", l.shop)
		parallel("bake", l.bake)
		parallel("emulated", l.emulated)
		parallel("join", l.join)
		parallel("compose-app", l.composeApp)
		parallel("readme", l.readme)
		parallel("init-path", l.initPath)
		t.Run("init", l.initSamples)
	})
	l.nothingLeft(t)
}

// example builds an example, reads it with other tools and runs it.
func (l *lab) example(t *testing.T, e example) {
	for _, base := range e.bases {
		l.base(t, base)
	}
	i := l.build(t, e)
	t.Run("unchanged", i.unchanged)
	if e.again {
		t.Run("reproducible", i.reproducible)
	}
	t.Run("skopeo inspect", i.skopeoInspect)
	t.Run("crane validate", i.validate)
	t.Run("podman pull", i.podmanPull)
	if !e.few {
		t.Run("podman load", i.podmanLoad)
		t.Run("ctr import", i.ctrImport)
		t.Run("docker-archive", i.dockerArchive)
		t.Run("oci-archive", i.ociArchive)
	}
	if e.name == "hello" { // daemons treat the other examples the same way
		t.Run("docker load", i.dockerLoad)
		t.Run("podman's API", i.podmanSocket)
	}
	t.Run("umoci and runc", i.umociAndRunc)
	t.Run("cairn run", i.cairnRun)
	t.Run("pods", i.inPods)
}

// TestTableIsComplete checks that every directory with a Dockerfile is in the table.
func TestTableIsComplete(t *testing.T) {
	known := map[string]bool{"cross": true, "bake-app": true} // built by (*lab).cross and (*lab).bake
	for _, e := range all() {
		known[e.name] = true
	}
	files, err := filepath.Glob("*/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(known) {
		t.Errorf("the table has %d examples, there are %d", len(known), len(files))
	}
	for _, f := range files {
		if !known[filepath.Dir(f)] {
			t.Errorf("%s is built by no test", f)
		}
	}
}

func compileHello(t *testing.T, dir string) {
	t.Helper()
	must(t, command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "hello"), "./hello"))
}

func compileCairn(t *testing.T, dir string) {
	t.Helper()
	must(t, command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "cairn-linux-"+runtime.GOARCH), "../cmd/cairn"))
	must(t, command("go", "build", "-C", "../cmd/cairn-gvisor", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "cairn-gvisor-linux-"+runtime.GOARCH), "."))
	certificates, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		t.Skip("needs the package ca-certificates: ", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca-certificates.crt"), certificates, 0o644); err != nil {
		t.Fatal(err)
	}
}

// nginxPort replaces nginx's site by one that listens on port.
func nginxPort(t *testing.T, port string) map[string]string {
	t.Helper()
	site, err := os.ReadFile("debian-nginx/site.conf")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "site.conf")
	text := strings.Replace(string(site), "listen 8080", "listen "+port, 1)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return map[string]string{path: "/etc/nginx/sites-available/default"}
}
