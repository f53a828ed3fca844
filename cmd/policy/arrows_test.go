package policy

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/cairn-build/cairn"

// floors lists the rooms from top to bottom. A package may import its own room
// and what stands on a lower floor.
var floors = [...][]string{
	{"cmd"},
	{"builder"},
	{"builder/worker"},
	{"builder/cache", "builder/plan"},
	{"builder/agent", "builder/dockerfile", "builder/solve", "builder/sandbox", "builder/secret", "builder/source"},
	{"registry/actions", "registry/layout", "registry/serve"},
	{"registry"},
	{"registry/rules", "registry/retry"},
	{"layer/store"},
	{"layer/compare", "layer/diff"},
	{"layer/tarball"},
	{"layer/index", "layer/compress", "layer/appear"},
	{"layer", "builder/progress"},
}

// keepers lists packages that only some rooms may know, so that a change of
// library, or of how the world is touched, stays where it belongs.
var keepers = map[string][]string{
	"github.com/moby/buildkit":       {"builder/dockerfile"},
	"github.com/spf13":               {"cmd/cairn"},
	"github.com/klauspost":           {"layer/compress"},
	"github.com/ulikunitz/xz":        {"layer/compress"},
	"github.com/moby/profiles":       {"builder/sandbox"},
	"github.com/elastic":             {"builder/sandbox"},
	"github.com/opencontainers":      {"builder", "builder/plan", "builder/sandbox", "cmd/cairn"},
	"github.com/moby/patternmatcher": {"builder/source", "builder/worker"},
	"github.com/rogpeppe":            {}, // tests only
	"github.com/google":              {"registry"},
	"github.com/BurntSushi":          {"registry/rules"},
	"golang.org/x/crypto":            {"builder/agent"},
	"golang.org/x/term":              {"builder/progress", "cmd/cairn"},
	"net/http":                       {"registry", "registry/actions", "registry/retry", "registry/serve", "cmd/cairn", "builder/source/http"},

	"github.com/tonistiigi/dchapes-mode": {"builder/plan"},
}

type goPackage struct {
	ImportPath string
	Name       string
	Imports    []string
}

func TestImportsGoDown(t *testing.T) {
	seen := 0
	for _, p := range list(t, "./...") {
		from, inside := strings.CutPrefix(p.ImportPath, module+"/")
		if !inside || within(from, "examples") {
			continue
		}
		if room, _ := place(from); room == "" {
			t.Errorf("%s stands on no floor: add it to the table", from)
		}
		for _, path := range p.Imports {
			seen++
			if to, inside := strings.CutPrefix(path, module+"/"); inside && !mayImport(from, to) {
				t.Errorf("%s imports %s, which does not stand below it", from, to)
			}
			checkKeepers(t, from, path)
		}
	}
	if seen < 100 {
		t.Errorf("looked at %d imports only: go list does not see the tree", seen)
	}
}

func checkKeepers(t *testing.T, from, path string) {
	room, _ := place(from)
	for lib, rooms := range keepers {
		if within(path, lib) && !slices.Contains(rooms, room) && !slices.Contains(rooms, from) {
			t.Errorf("%s imports %s, which only %q may know", from, path, rooms)
		}
	}
}

// The examples show how to use Cairn. Only its tests and benchmarks import it.
func TestNothingImportsExamples(t *testing.T) {
	for _, p := range list(t, "./...") {
		for _, path := range p.Imports {
			if within(path, module+"/examples") && !within(p.ImportPath, module+"/examples") {
				t.Errorf("%s imports %s", p.ImportPath, path)
			}
		}
	}
}

func TestProgressIsALeaf(t *testing.T) {
	for _, p := range list(t, "./builder/progress") {
		for _, path := range p.Imports {
			if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") && path != "golang.org/x/term" {
				t.Errorf("builder/progress imports %s; only the standard library and x/term are its own", path)
			}
		}
	}
}

func TestMayImport(t *testing.T) {
	tests := []struct {
		from, to string
		want     bool
	}{
		{"cmd/cairn", "builder", true},
		{"cmd/cairn", "layer", true},
		{"builder", "cmd/cairn", false},
		{"builder/plan", "builder/worker", false},
		{"builder/plan", "builder/cache", false},
		{"builder/sandbox", "builder/sandbox/helper", true},
		{"layer", "layer/index", false},
		{"layer/index", "layer", true},
		{"registry", "registry/internal/imagetest", true},
		{"registry/internal/imagetest", "layer", true},
		{"builder/worker", "registry/internal/imagetest", true},
		{"layer", "builder/progress", false},
		{"layer/store", "examples/bases", false},
	}
	for _, test := range tests {
		if got := mayImport(test.from, test.to); got != test.want {
			t.Errorf("mayImport(%q, %q) = %v, want %v", test.from, test.to, got, test.want)
		}
	}
}

// mayImport reports whether package from may import package to.
func mayImport(from, to string) bool {
	upper, f := place(from)
	lower, g := place(to)
	return lower != "" && (f < g || upper == lower)
}

// place gives the room that a package belongs to, which is the longest one that
// its path begins with, and the number of that room's floor, the top one being 0.
func place(path string) (room string, number int) {
	for i, rooms := range floors {
		for _, r := range rooms {
			if within(path, r) && len(r) > len(room) {
				room, number = r, i
			}
		}
	}
	return room, number
}

func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}

// list asks the go command for packages of the tree.
func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Name,Imports"}, args...)...)
	cmd.Dir = root
	cmd.Env = environ()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, stderr(err))
	}
	var packages []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
