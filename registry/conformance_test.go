package registry

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
)

// The conformance suite of the distribution specification: pull, push, content
// discovery with referrers, content management. It belongs to another module, so
// it is built outside this one, into the user's cache.
const conformance = "github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111"

func TestConformance(t *testing.T) {
	t.Parallel()
	suite := installed(t, conformance)
	s := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	cmd := exec.Command(suite)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "OCI_REGISTRY="+s.Host, "OCI_TLS=disabled", "OCI_RESULTS_DIR="+cmd.Dir, "OCI_VERSION=1.1",
		"OCI_API_BLOBS_UPLOAD_CANCEL=true",
		"OCI_DATA_SHA512=false") // this registry supports sha256 only
	out, err := cmd.CombinedOutput()
	var passed int
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		if strings.HasSuffix(lines.Text(), ": Pass") {
			passed++
		} else if strings.Contains(lines.Text(), "FAIL") || strings.HasPrefix(strings.TrimSpace(lines.Text()), "- ") {
			t.Log(lines.Text())
		}
	}
	if err != nil || passed < 300 {
		t.Errorf("%d tests passed, %v\n%s", passed, err, out)
	}
	t.Logf("%d tests of the suite passed", passed)
}

// installed returns a program of another module, which it builds once and caches,
// or skips the test if that fails.
func installed(t *testing.T, pkg string) string {
	t.Helper()
	program, err := imagetest.InCache(pkg)
	if err != nil {
		t.Skip(err)
	}
	if _, err := os.Stat(program); err == nil {
		return program
	}
	install := exec.Command("go", "install", pkg)
	install.Dir = t.TempDir() // outside our module
	install.Env = append(os.Environ(), "GOBIN="+filepath.Dir(program), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("no %s: %v: %s", pkg, err, out)
	}
	return program
}
