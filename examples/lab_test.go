package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cairn-build/cairn/examples/bases"
)

// lab is where the examples are built: the program, a registry and a store.
type lab struct {
	dir      string
	cairn    string
	registry string // host:port
	made     map[string]bool
	docker   string // address of a daemon, once one is there
	t        *testing.T
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{dir: t.TempDir(), made: map[string]bool{}, t: t}
	if err := os.Chmod(filepath.Dir(l.dir), 0o755); err != nil {
		t.Fatal(err)
	}
	l.cairn = filepath.Join(l.dir, "cairn")
	must(t, command("go", "build", "-o", l.cairn, "../cmd/cairn"))
	l.registry = l.startRegistry(t)
	return l
}

// startRegistry serves Debian's docker-registry, or Cairn's own where there is none.
func (l *lab) startRegistry(t *testing.T) string {
	t.Helper()
	addr := "127.0.0.1:" + freePort(t)
	data := filepath.Join(l.dir, "registry")
	cmd := command(l.cairn, "registry", "serve", "--addr", addr, "--dir", data)
	if program, err := exec.LookPath("docker-registry"); err == nil {
		config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", data, addr)
		path := filepath.Join(l.dir, "registry.yml")
		if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd = command(program, "serve", path)
	} else {
		t.Log("no docker-registry (package docker-registry): pushing to cairn registry serve")
	}
	p := start(t, cmd)
	p.get(t, "http://"+addr+"/v2/")
	return addr
}

func (l *lab) root() string { return filepath.Join(l.dir, "store") }

// base makes a base image once.
func (l *lab) base(t *testing.T, name string) {
	t.Helper()
	if l.made[name] {
		return
	}
	var log bytes.Buffer
	m := bases.Maker{Cairn: l.cairn, Root: filepath.Join(l.dir, "bases"), Registry: l.registry, Log: &log}
	if err := m.Push(context.Background(), name); err != nil {
		t.Fatalf("making the base image %s: %v\n%s", name, err, log.String())
	}
	l.made[name] = true
}

// image is an example that has been built and pushed.
type image struct {
	*lab
	example
	context string
	ref     string
	digest  string // of the manifest
	config  string // digest of the config
	archive string // docker archive
	oci     string // OCI archive
}

// build builds an example from a copy of its folder, with every kind of output.
func (l *lab) build(t *testing.T, e example) *image {
	t.Helper()
	i := &image{lab: l, example: e, context: filepath.Join(t.TempDir(), e.name), ref: l.registry + "/examples/" + e.name + ":1"}
	i.archive, i.oci = i.context+".docker.tar", i.context+".oci.tar"
	if err := os.CopyFS(i.context, os.DirFS(e.name)); err != nil {
		t.Fatal(err)
	}
	if e.prepare != nil {
		e.prepare(t, i.context)
	}
	meta := i.cairnBuild(t, l.root(), "-t", i.ref, "--push", "-o", "type=docker,dest="+i.archive, "-o", "type=oci,dest="+i.oci)
	i.digest, i.config = meta.Digest, meta.Config
	return i
}

type metadata struct {
	Digest string `json:"containerimage.digest"`
	Config string `json:"containerimage.config.digest"`
}

// cairnBuild builds the example and gives what --metadata-file says of it.
func (i *image) cairnBuild(t *testing.T, root string, args ...string) metadata {
	t.Helper()
	file := filepath.Join(t.TempDir(), "metadata.json")
	all := []string{"--root", root, "build", "--progress", "plain", "--registry-mirror", i.registry, "--metadata-file", file}
	all = append(append(append(all, bases.ProxyArgs()...), i.args...), args...)
	cmd := command(i.cairn, append(all, i.context)...)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	must(t, cmd)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var m metadata
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// nothingLeft looks for mounts and processes that outlived the builds.
func (l *lab) nothingLeft(t *testing.T) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), l.dir) {
		t.Errorf("mounts are left:\n%s", mounts)
	}
	temp, err := filepath.Glob(filepath.Join(l.root(), "tmp", "*"))
	if err != nil || len(temp) > 0 {
		t.Errorf("temporary files are left: %q, %v", temp, err)
	}
	programs, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		if exe, err := os.Readlink(p); err == nil && exe == l.cairn && exec.Command("docker-registry", "--version").Run() == nil {
			t.Errorf("%s still runs %s", filepath.Dir(p), exe)
		}
	}
}

// process is a program that runs beside the test.
type process struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
	err  error // of its end, once done is closed
}

// output is what a process wrote to a file.
type output struct{ path string }

func (o *output) String() string {
	text, _ := os.ReadFile(o.path)
	return string(text)
}

// start starts a program; it is stopped when the test ends.
func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, out: &output{f.Name()}, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.done
	})
	return p
}

// get asks until the program answers, or ends.
func (p *process) get(t *testing.T, url string) string {
	t.Helper()
	for {
		select {
		case <-p.done:
			t.Fatalf("%s ended before it answered: %v\n%s", p.cmd, p.err, p.out)
		default:
		}
		resp, err := http.Get(url)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %v\n%s", url, resp.Status, err, body)
		}
		return string(body)
	}
}

// stop asks the program to end, and wants it to end well.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if <-p.done; p.err != nil {
		t.Errorf("%s, asked to stop: %v\n%s", p.cmd, p.err, p.out)
	}
}

func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd
}

// must runs a command and gives its standard output.
func must(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, &stdout, &stderr)
	}
	return stdout.String()
}

// need skips a test whose program the machine lacks.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("no %s (package %s)", program, program)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
