package imagetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// DebianRegistry returns the path of docker-registry version 2. It skips the test if
// that is not installed.
func DebianRegistry(t testing.TB) string {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry (Debian package docker-registry) is not installed")
	}
	return program
}

// DistributionV3 returns the path of version 3 of docker's registry. It skips the test if
// .ci/registry has not built it, which takes a minute and which make test runs first.
func DistributionV3(t testing.TB) string {
	t.Helper()
	return Cached(t, "github.com/distribution/distribution/v3/cmd/registry@v3.0.0")
}

// Cached returns the path of a program of another module, which has been built before. It
// skips the test otherwise.
func Cached(t testing.TB, pkg string) string {
	t.Helper()
	program, err := InCache(pkg)
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		t.Skipf("%v; make packages installs it if Go modules can be downloaded", err)
	}
	return program
}

// InCache returns the path at which a program of another module is kept.
func InCache(pkg string) (string, error) {
	cache, err := os.UserCacheDir()
	path, version, _ := strings.Cut(pkg, "@")
	return filepath.Join(cache, "cairn-test", version, filepath.Base(path)), err
}

// Htpasswd returns the configuration section of a registry that requires the
// passwords in the htpasswd file users.
func Htpasswd(users string) string { return "auth: {htpasswd: {realm: test, path: " + users + "}}\n" }

// Distribution starts a registry of the distribution project, of version 2 or 3, on
// a loopback port with an empty directory, and returns its host:port. tls, if not
// empty, is the configuration section for certificates. extra has further sections
// besides those for storage, log and address.
func Distribution(t testing.TB, program, tls, extra string) string {
	t.Helper()
	return DistributionIn(t, program, t.TempDir(), tls, extra)
}

// freeAddress returns a loopback address with a port that nothing listens on. The kernel
// gives no such port to other servers and connections of tests meanwhile: its range
// begins at 32768.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		host := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(22000))
		if l, err := net.Listen("tcp", host); err == nil {
			l.Close()
			return host
		}
	}
	t.Fatal("no free port between 10000 and 32000")
	return ""
}

// DistributionIn is Distribution with a directory, in which it makes config.yml.
func DistributionIn(t testing.TB, program, dir, tls, extra string) string {
	t.Helper()
	host := freeAddress(t)
	if tls != "" {
		tls = ", tls: {" + tls + "}"
	}
	config := "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: " + dir +
		"}, delete: {enabled: true}}\nhttp: {addr: '" + host + "'" + tls + "}\n" + extra
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(program, "serve", file)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-exited })
	for {
		if c, err := net.Dial("tcp", host); err == nil {
			c.Close()
			return host
		}
		select {
		case <-exited:
			t.Fatalf("%s ended: %s", program, log.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
