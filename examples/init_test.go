package examples_test

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/cairn-build/cairn/examples/internal/bases"
)

var buildAll = flag.Bool("init", false, "build the samples of cairn init whose base images take long")

// initSample is a sample project of cairn init that is built and asked.
type initSample struct {
	name   string
	images map[string]string // replacements of base images
	port   string            // in its sources, replaced by a free one; "nginx" for that of the image
	prints string            // part of the answer
	quick  bool              // built without -init
}

const (
	distrolessStatic = "gcr.io/distroless/static-debian12:nonroot"
	nginxImage       = "nginxinc/nginx-unprivileged:stable-alpine"
	nodeImage        = "node:24-bookworm-slim"
	mavenImage       = "maven:3-eclipse-temurin-17"
	javaImage        = "eclipse-temurin:17-jre"
	pythonImage      = "python:3.14-slim-bookworm"
)

func initSamples() []initSample {
	return []initSample{
		{"go", map[string]string{"golang:1.26-bookworm": "golang", distrolessStatic: "distroless"}, "8080", "hello from go", false},
		{"node-nolock", map[string]string{"node:22-bookworm-slim": "node"}, "3000", "hello from node", true},
		{"static", map[string]string{nginxImage: "nginx"}, "nginx", "hello from static", false},
		{"python-plain", map[string]string{pythonImage: "python"}, "8000", "hello from python", false},
		{"java-maven", map[string]string{mavenImage: "maven", javaImage: "jre"}, "8080", "hello from java", false},
		{"built/maven-modules", map[string]string{mavenImage: "maven", javaImage: "jre"}, "8080", "hello from maven", false},
		{"built/gradle-application", map[string]string{"gradle:jdk17": "gradle", javaImage: "jre"}, "8080", "hello from gradle", false},
		{"rust", map[string]string{"rust:1-slim-bookworm": "rust", "gcr.io/distroless/cc-debian12:nonroot": "distroless"}, "8080", "hello from rust", false},
		{"php", map[string]string{"php:8.4-apache-bookworm": "php"}, "", "hello from php", false},
		{"built/node-vite", map[string]string{nodeImage: "node", nginxImage: "nginx"}, "nginx", "hello from vite", false},
		{"built/node-pnpm", map[string]string{nodeImage: "node"}, "3000", "hello from pnpm", false},
		{"built/node-workspace", map[string]string{nodeImage: "node"}, "3000", "hello from the workspace", false},
		{"built/ruby-plain", map[string]string{"ruby:3.4-slim-bookworm": "ruby"}, "4567", "hello from ruby", false},
	}
}

// The Dockerfiles of cairn init build, and the images answer as an ordinary user.
func (l *lab) initSamples(t *testing.T) {
	for _, s := range initSamples() {
		t.Run(s.name, func(t *testing.T) {
			if !s.quick && !*buildAll {
				t.Skip("takes long: -init builds it")
			}
			t.Parallel()
			l.initSample(t, s)
		})
	}
}

func (l *lab) initSample(t *testing.T, s initSample) {
	file := "../builder/generate/testdata/" + s.name + ".txtar"
	if rest, ok := strings.CutPrefix(s.name, "built/"); ok {
		file = "internal/initsamples/" + rest + ".txtar"
	}
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir, port := t.TempDir(), freePort(t)
	for _, f := range archive.Files {
		if strings.HasPrefix(f.Name, "want/") {
			continue
		}
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		text := string(f.Data)
		if s.port != "" && s.port != "nginx" {
			text = strings.ReplaceAll(text, s.port, port)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"--root", l.root(), "build", "--progress", "plain", "--registry-mirror", l.registry, "-t", "init/" + filepath.Base(s.name)}
	args = append(args, bases.ProxyArgs()...)
	for image, base := range s.images {
		args = append(args, "--build-context", image+"=docker-image://"+l.replacement(t, base, port))
	}
	initArgs := []string{"init"}
	if s.port != "nginx" {
		initArgs = append(initArgs, "--port", port)
	}
	if app, ok := strings.CutPrefix(strings.TrimSpace(string(archive.Comment)), "# app="); ok {
		initArgs = append(initArgs, "--app", app)
	}
	t.Log(must(t, command(l.cairn, append(initArgs, dir)...)))
	must(t, command(l.cairn, append(args, dir)...))
	p := start(t, command(l.cairn, "--root", l.root(), "run", "init/"+filepath.Base(s.name)))
	if got := p.get(t, "http://127.0.0.1:"+port+"/"); !strings.Contains(got, s.prints) {
		t.Errorf("answers %q, want %q", got, s.prints)
	}
	for ended := false; !ended; { // the second one kills a program that ignores the first
		_ = p.cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-p.done:
			ended = true
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// replacement builds a base image once, and that of nginx for each port. It returns its
// reference.
func (l *lab) replacement(t *testing.T, name, port string) string {
	if name != "nginx" {
		l.base(t, name)
		return bases.Reference(name)
	}
	if reason := bases.Missing("nginx"); reason != "" {
		t.Skipf("no base image nginx: %s", reason)
	}
	l.making.Lock()
	defer l.making.Unlock()
	var log bytes.Buffer
	m := bases.Maker{Cairn: l.cairn, Root: filepath.Join(l.dir, "bases"), Registry: l.registry, Log: &log}
	ref, err := m.Nginx(context.Background(), port)
	if err != nil {
		t.Fatalf("making the base image nginx: %v\n%s", err, log.String())
	}
	return ref
}
