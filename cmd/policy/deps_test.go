package policy

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const root = "../.." // of the repository

var update = flag.Bool("update", false, "rewrite deps.txt")

// deps.txt names each module that the binary is made of, so that a new one is
// seen when it comes in and not a year later.
func TestDependencies(t *testing.T) {
	got := dependencies(t, "amd64")
	if other := dependencies(t, "arm64"); other != got {
		t.Errorf("the binary for arm64 is made of other modules:\n%s", other)
	}
	if *update {
		if err := os.WriteFile("deps.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile("deps.txt")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, []byte(got)) {
		t.Errorf("the binary is made of these modules:\n%sdeps.txt says:\n%sIf the change is meant, run make golden.", got, want)
	}
}

// dependencies lists the modules that the binary holds code of.
func dependencies(t *testing.T, arch string) string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./cmd/cairn")
	cmd.Dir = root
	cmd.Env = append(environ(), "GOARCH="+arch)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, stderr(err))
	}
	modules := strings.Fields(string(out))
	slices.Sort(modules)
	modules = slices.DeleteFunc(slices.Compact(modules), func(m string) bool { return m == module })
	return strings.Join(modules, "\n") + "\n"
}

// environ is that of the released binary, whatever the caller's go env says.
func environ() []string {
	return append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
}

func stderr(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(exit.Stderr)
	}
	return ""
}
