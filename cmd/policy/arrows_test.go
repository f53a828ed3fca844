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

// layers lists the packages from top to bottom. An entry includes the packages below
// its path. A package may import those of its own entry and those of lower layers.
var layers = [...][]string{
	{"cmd"},
	{"builder"},
	{"builder/bake", "builder/generate"},
	{"builder/run", "builder/debug"},
	{"builder/images", "builder/storecheck"},
	{"builder/export", "builder/input", "builder/option", "builder/report"},
	{"builder/worker"},
	{"builder/filecopy"},
	{"builder/snapshot"},
	{"builder/cache", "builder/plan"},
	{"builder/limits"},
	{"builder/plan/op"},
	{"builder/sshagent", "builder/dockerfile", "builder/solve", "builder/sandbox", "builder/secret", "builder/source"},
	{"registry/registrytest"},
	{"registry/server"},
	{"registry/taghistory", "registry/signature"},
	{"registry"},
	{"registry/auth"},
	{"registry/transport"},
	{"registry/registriesconf", "registry/retry"},
	{"layer/store", "layer/layout"},
	{"layer/imagediff", "layer/diff", "layer/sbom"},
	{"layer/tarball"},
	{"layer/tree"},
	{"layer/listing", "layer/compress", "layer/atomicfile", "layer/imagetest"},
	{"registry/reference"},
	{"layer", "layer/once", "builder/progress", "builder/terminal"},
}

// allowedImporters lists the packages that may import a library, so that a change of
// the library affects few packages.
var allowedImporters = map[string][]string{
	"github.com/moby/buildkit":                    {"builder/dockerfile"},
	"github.com/spf13":                            {"cmd/cairn/command"},
	"github.com/klauspost":                        {"layer/compress"},
	"github.com/ulikunitz/xz":                     {"layer/compress"},
	"github.com/moby/profiles":                    {"builder/sandbox", "cmd/cairn/podtest"},
	"github.com/elastic":                          {"builder/sandbox"},
	"github.com/opencontainers":                   {"builder", "builder/export", "builder/plan", "builder/sandbox", "cmd/cairn/command", "cmd/cairn/podtest"},
	"github.com/moby/patternmatcher":              {"builder/source", "builder/filecopy"},
	"github.com/rogpeppe":                         {}, // tests only
	"github.com/google":                           {"registry", "registry/auth", "registry/transport"},
	"github.com/docker/docker-credential-helpers": {"registry/auth"},
	"github.com/distribution":                     {"registry/reference"},
	"github.com/BurntSushi":                       {"builder/generate", "registry/registriesconf"},
	"github.com/docker/buildx":                    {"builder/bake"},
	"github.com/hashicorp":                        {"builder/bake"},
	"github.com/zclconf":                          {"builder/bake"},
	"golang.org/x/crypto":                         {"builder/sshagent", "registry/signature"},
	"golang.org/x/term":                           {"builder/progress", "builder/terminal", "cmd/cairn/command"},
	"net/http":                                    {"registry", "registry/auth", "registry/transport", "registry/registrytest", "builder/cache", "layer/imagetest", "registry/retry", "registry/server", "cmd/cairn/command", "cmd/cairn/kaniko", "builder/source/httpsource"},

	"github.com/compose-spec":            {"builder/bake/compose"},
	"github.com/tonistiigi/dchapes-mode": {"builder/plan/op"},
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
		if entry, _ := layerOf(from); entry == "" {
			t.Errorf("%s is in no layer: add it to the table", from)
		}
		for _, path := range p.Imports {
			seen++
			if to, inside := strings.CutPrefix(path, module+"/"); inside && !mayImport(from, to) {
				t.Errorf("%s imports %s, which is not in a lower layer", from, to)
			}
			checkLibraries(t, from, path)
		}
	}
	if seen < 100 {
		t.Errorf("looked at %d imports only: go list does not see the tree", seen)
	}
}

func checkLibraries(t *testing.T, from, path string) {
	entry, _ := layerOf(from)
	for lib, importers := range allowedImporters {
		if within(path, lib) && !slices.Contains(importers, entry) && !slices.Contains(importers, from) {
			t.Errorf("%s imports %s, which only %q may import", from, path, importers)
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
	allowed := []string{"golang.org/x/term", module + "/builder/progress/termtext"}
	for _, p := range list(t, "./builder/progress/...") {
		for _, path := range p.Imports {
			if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") && !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s; it may import only the standard library, x/term and termtext", p.ImportPath, path)
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
		{"builder/sandbox", "builder/sandbox/runtime", true},
		{"layer", "layer/listing", false},
		{"layer/listing", "layer", true},
		{"registry", "layer/imagetest", true},
		{"layer/imagetest", "layer", true},
		{"builder/worker", "layer/imagetest", true},
		{"layer", "builder/progress", false},
		{"layer/store", "examples/internal/bases", false},
	}
	for _, test := range tests {
		if got := mayImport(test.from, test.to); got != test.want {
			t.Errorf("mayImport(%q, %q) = %v, want %v", test.from, test.to, got, test.want)
		}
	}
}

// mayImport reports whether package from may import package to.
func mayImport(from, to string) bool {
	upper, f := layerOf(from)
	lower, g := layerOf(to)
	return lower != "" && (f < g || upper == lower)
}

// layerOf returns the entry of the table with the longest prefix of the path, and the
// number of its layer, from the top.
func layerOf(path string) (entry string, number int) {
	for i, entries := range layers {
		for _, e := range entries {
			if within(path, e) && len(e) > len(entry) {
				entry, number = e, i
			}
		}
	}
	return entry, number
}

// within reports whether a path is dir or below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}

// list returns packages of the tree from go list.
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
