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

var update = flag.Bool("update", false, "rewrite deps.txt and the generated parts of the documentation")

// deps.txt lists the modules of the binary, so that a change of them is reviewed.
func TestDependencies(t *testing.T) {
	got := dependencies(t, "amd64")
	if other := dependencies(t, "arm64"); other != got {
		t.Errorf("the binary for arm64 has other modules:\n%s", other)
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
		t.Errorf("the binary has these modules:\n%sdeps.txt says:\n%sIf this is intended, run make golden.", got, want)
	}
}

// dependencies lists the modules of the packages in the binary.
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

// environ returns the environment of a release build.
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
