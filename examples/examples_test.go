// Package examples_test builds every example with the real program, pushes it to
// a registry that others wrote, reads it back with tools that others wrote, and
// runs it.
package examples_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/examples/bases"
)

// example is a folder, what its Dockerfile begins with and what the image does.
type example struct {
	name    string
	bases   []string
	args    []string                       // of cairn build
	prepare func(t *testing.T, dir string) // completes a copy of the folder
	prints  string                         // by a program that ends
	answers map[string]string              // path -> body, by one that serves
	mounts  func(t *testing.T, port string) map[string]string
	// again: its steps are deterministic, so that a build with nothing from the
	// first gives the same digest. Package managers write logs with times in them.
	again bool
}

func all() []example {
	return []example{
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
		{
			name:    "go-service",
			bases:   []string{"golang"},
			args:    []string{"--build-arg", "VERSION=1.2.3"},
			answers: map[string]string{"/": "go-service 1.2.3, uid 65534\n", "/hello/you": "Hello, you.\n"},
			again:   true,
		},
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
	}
}

func TestExamples(t *testing.T) {
	l := newLab(t)
	for _, e := range all() {
		t.Run(e.name, func(t *testing.T) {
			for _, base := range e.bases {
				if lacks := bases.Missing(base); lacks != "" {
					t.Skipf("no base image %s: %s", base, lacks)
				}
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
			t.Run("podman load", i.podmanLoad)
			t.Run("ctr import", i.ctrImport)
			if e.name == "hello" { // what daemons do with others is the same
				t.Run("docker load", i.dockerLoad)
				t.Run("podman's API", i.podmanSocket)
			}
			t.Run("docker-archive", i.dockerArchive)
			t.Run("oci-archive", i.ociArchive)
			t.Run("umoci and runc", i.umociAndRunc)
			t.Run("cairn run", i.cairnRun)
		})
	}
	l.nothingLeft(t)
}

// Each folder with a Dockerfile is in the table, and so built by the test.
func TestTableIsComplete(t *testing.T) {
	known := map[string]bool{"cross": true} // by TestCross
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
	must(t, command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "cairn"), "../cmd/cairn"))
	certificates, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		t.Skip("needs the package ca-certificates: ", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca-certificates.crt"), certificates, 0o644); err != nil {
		t.Fatal(err)
	}
}

// nginxPort gives nginx a site that listens on a free port, in place of its own.
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
