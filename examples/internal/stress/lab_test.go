package stress_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cairn-build/cairn/examples/internal/bases"
	"github.com/cairn-build/cairn/registry/server"
)

// lab is the environment of the tests: the binary, a registry with busybox, and a context.
type lab struct {
	dir      string
	cairn    string
	registry string // host:port
	context  string
}

// mode is an isolation mode and the user that builds with it.
type mode struct {
	name string // value of --isolation
	uid  int    // 0 is root
	gid  int
}

// site is a store with all other directories that its builds write to.
type site struct {
	*lab
	mode
	store, temp, home, out string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if lacks := bases.Missing("busybox"); lacks != "" {
		t.Skip(lacks)
	}
	l := &lab{dir: openDir(t)}
	l.cairn, l.context = l.dir+"/cairn", l.dir+"/context"
	build := exec.Command("go", "build", "-o", l.cairn, "../../../cmd/cairn")
	gvisor := exec.Command("go", "build", "-C", "../../../cmd/cairn-gvisor", "-o", l.dir+"/cairn-gvisor", ".")
	for _, c := range []*exec.Cmd{build, gvisor} {
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	h, err := server.Handler(l.dir+"/registry", server.Options{NoSync: true})
	check(t, err)
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	l.registry = strings.TrimPrefix(s.URL, "http://")
	var log bytes.Buffer
	m := bases.Maker{Cairn: l.cairn, Root: l.dir + "/bases", Registry: l.registry, Log: &log}
	if err := m.Push(context.Background(), "busybox"); err != nil {
		t.Fatalf("making busybox: %v\n%s", err, &log)
	}
	l.fill(t)
	return l
}

// openDir returns a temporary directory that other users can enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cairn-stress-")
	check(t, err)
	check(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// stages is the Dockerfile of most tests: several stages, all kinds of mounts, and steps
// that take a while. ROUND changes the steps' keys but not their results. A step whose
// process is killed fails. After a power cut a file of the cache mount may be empty,
// since steps do not sync it.
const stages = `ARG SOURCE_DATE_EPOCH=1700000000
FROM busybox AS base
RUN mkdir /out && seq 20000 > /out/numbers && chown -R 1000:1000 /out

FROM base AS left
ARG ROUND
RUN --mount=type=cache,target=/cache <<END
  set -e
  [ -s /cache/token ] || { t=$(mktemp -p /cache); head -c 16 /dev/urandom > $t; mv $t /cache/token; }
  echo $ROUND > /cache/round
  seq 30000 > /out/left
END

FROM base AS right
ARG ROUND
RUN --mount=type=bind,source=src,target=/src --mount=type=secret,id=word <<END
  set -eo pipefail
  test $(cat /run/secrets/word) = secret
  cat /src/* | sha256sum > /out/right
  (sleep 100000 &)
END
RUN seq 200000 > /out/fill && rm /out/numbers

FROM busybox
COPY --from=left /out /left
COPY --from=right /out /right
COPY src /src
RUN --mount=type=cache,target=/cache --mount=type=bind,from=right,source=/out,target=/in,rw <<END
  set -eo pipefail
  test -s /cache/token
  touch /in/scratch
  cat /in/* | sha256sum > /sum
END
RUN --mount=type=tmpfs,target=/tmp seq 9 > /tmp/x && cp /tmp/x /done
`

// fill writes the context: two megabytes of incompressible data.
func (l *lab) fill(t *testing.T) {
	t.Helper()
	check(t, os.MkdirAll(l.context+"/src", 0o755))
	check(t, os.WriteFile(l.context+"/Dockerfile", []byte(stages), 0o644))
	bytes := rand.NewChaCha8([32]byte{1})
	for i := range 40 {
		content := make([]byte, 50_000+i)
		_, _ = bytes.Read(content)
		check(t, os.WriteFile(fmt.Sprintf("%s/src/%02d", l.context, i), content, 0o644))
	}
}

// site creates a site with an empty store.
func (l *lab) site(t *testing.T, r mode) *site {
	t.Helper()
	dir, err := os.MkdirTemp(l.dir, "site-")
	check(t, err)
	check(t, os.Chmod(dir, 0o755))
	s := &site{lab: l, mode: r, store: dir + "/store", temp: dir + "/temp", home: dir + "/home", out: dir + "/out"}
	for _, sub := range []string{s.store, s.temp, s.home, s.out} {
		check(t, os.Mkdir(sub, 0o755))
		check(t, os.Chown(sub, r.uid, r.gid))
	}
	return s
}

// command returns a command that runs cairn as the site's user.
func (s *site) command(args ...string) *exec.Cmd {
	c := exec.Command(s.cairn, args...)
	c.Dir = s.out
	c.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.home, "TMPDIR=" + s.temp, "CAIRN_ROOT=" + s.store,
		"CAIRN_ISOLATION=" + s.name, "CAIRN_REGISTRY_MIRROR=" + s.registry, "word=secret",
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.uid != os.Getuid() {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.gid)}
	}
	return c
}

// build returns the command that builds the context, with additional arguments.
func (s *site) build(args ...string) *exec.Cmd {
	all := append([]string{"build", "--progress=plain", "--secret", "id=word,env=word", "--metadata-file", s.out + "/metadata.json"}, args...)
	return s.command(append(all, s.context)...)
}

// done runs a command that must succeed and returns its output.
func done(t *testing.T, c *exec.Cmd) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", c, err, &stdout, &stderr)
	}
	return stdout.String()
}

// digest returns the digest of the last build's image.
func (s *site) digest(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(s.out + "/metadata.json")
	check(t, err)
	var m struct {
		Digest string `json:"containerimage.digest"`
	}
	check(t, json.Unmarshal(text, &m))
	if m.Digest == "" {
		t.Fatalf("no digest in %s", text)
	}
	return m.Digest
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// modes returns the isolation modes available here, the first one repeated so that it is
// used as often as all others together.
func modes(t *testing.T) []mode {
	t.Helper()
	if *isolation != "" {
		return []mode{{*isolation, os.Getuid(), os.Getgid()}}
	}
	if uid := os.Getuid(); uid != 0 {
		return []mode{{"rootless", uid, os.Getgid()}}
	}
	list := []mode{{name: "namespaces"}, {name: "chroot"}, {name: "namespaces"}, {name: "gvisor"}, {name: "namespaces"}}
	if r, err := ordinary(); err == nil {
		list = append(list, r)
	} else {
		t.Logf("nothing is done as an ordinary user: %v", err)
	}
	return list
}

// ordinary returns a mode for a user with subordinate ids.
func ordinary() (mode, error) {
	if _, err := exec.LookPath("newuidmap"); err != nil {
		return mode{}, fmt.Errorf("%w (package uidmap)", err)
	}
	u, err := user.Lookup("cairn-test")
	if err != nil {
		return mode{}, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return mode{}, err
	}
	gid, err := strconv.Atoi(u.Gid)
	return mode{"rootless", uid, gid}, err
}

// turn returns the mode of the i-th of several builds that root does.
func turn(i int, names ...string) mode {
	if *isolation != "" {
		return mode{name: *isolation}
	}
	return mode{name: names[i%len(names)]}
}
