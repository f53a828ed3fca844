package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cairn-build/cairn/examples/internal/bases"
)

// lab is the environment in which the examples are built: binary, registry and store.
type lab struct {
	dir      string
	cairn    string
	registry string     // host:port
	making   sync.Mutex // guards made
	made     map[string]bool
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{dir: t.TempDir(), made: map[string]bool{}}
	if err := os.Chmod(filepath.Dir(l.dir), 0o755); err != nil {
		t.Fatal(err)
	}
	l.cairn = filepath.Join(l.dir, "cairn")
	must(t, command("go", "build", "-o", l.cairn, "../cmd/cairn"))
	l.registry = l.startRegistry(t)
	return l
}

// startRegistry starts Debian's docker-registry, or Cairn's own if it is not installed.
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

// base builds a base image once. It skips a test if this machine cannot.
func (l *lab) base(t *testing.T, name string) {
	t.Helper()
	if reason := bases.Missing(name); reason != "" {
		t.Skipf("no base image %s: %s", name, reason)
	}
	l.making.Lock()
	defer l.making.Unlock()
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

// image is an example after its build and push.
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

// build builds an example from a copy of its directory, with every kind of output.
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

// cairnBuild builds the example and returns the content of --metadata-file.
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

// nothingLeft checks for mounts and processes that outlived the builds.
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

// process is a program that runs in the background of a test.
type process struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
	err  error // result of Wait, valid once done is closed
}

// output is a file with the output of a process.
type output struct{ path string }

func (o *output) String() string {
	text, _ := os.ReadFile(o.path)
	return string(text)
}

// start starts a program and stops it when the test ends.
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

// get requests url until the program answers or ends.
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

// listens waits until the program accepts connections or ends.
func (p *process) listens(t *testing.T, port string) {
	t.Helper()
	for {
		select {
		case <-p.done:
			t.Fatalf("%s ended before it listened: %v\n%s", p.cmd, p.err, p.out)
		default:
		}
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// stop asks the program to end and checks that it exits with status 0.
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

// must runs a command and returns its standard output.
func must(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, &stdout, &stderr)
	}
	return stdout.String()
}

// need skips a test if program is not installed.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("no %s (package %s)", program, program)
	}
}

// freePort returns a port for a server that is started later. Ports of outgoing
// connections are above its range, so none takes it in between.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := fmt.Sprint(nextPort.Add(1))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

var nextPort atomic.Int64

func init() { nextPort.Store(20_000 + rand.Int64N(10_000)) }
