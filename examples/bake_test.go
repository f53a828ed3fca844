package examples_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/examples/internal/bases"
)

// bake builds the application of several targets, pushes it, and reads and runs its
// images.
func (l *lab) bake(t *testing.T) {
	l.base(t, "golang")
	meta := filepath.Join(t.TempDir(), "metadata.json")
	bake := func(args ...string) string {
		t.Helper()
		all := []string{"--root", l.root(), "bake", "--progress", "plain", "--registry-mirror", l.registry, "--metadata-file", meta}
		for i, arg := range bases.ProxyArgs() {
			if i%2 == 1 {
				all = append(all, "--set", "*.args."+arg)
			}
		}
		cmd := command(l.cairn, append(all, args...)...)
		cmd.Dir = "bake-app"
		cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", "REGISTRY="+l.registry, "VERSION=1.2.3")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	log := bake("--push")
	// Another example, which runs at the same time, may have made the first steps.
	for _, want := range []string{`(?m)^build +linux/\w+ .* \d (run|cached)$`, `(?m)^greet +linux/amd64,linux/arm64 .* \d (run|cached)$`} {
		if !regexp.MustCompile(want).MatchString(log) {
			t.Errorf("no line %s:\n%s", want, log)
		}
	}
	text, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]metadata
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"greet": "greet 1.2.3\n", "count": "count 5\n"} {
		i := &image{lab: l, ref: l.registry + "/bake-app/" + name + ":1", digest: all[name].Digest}
		t.Run(name+" crane validate", i.validateIndex)
		if got := must(t, command(l.cairn, "--root", l.root(), "run", i.ref)); got != want {
			t.Errorf("%s prints %q, want %q", name, got, want)
		}
	}
	if log := bake("--changed"); !strings.Contains(log, "unchanged greet") || !strings.Contains(log, "unchanged count") {
		t.Errorf("targets have changed:\n%s", log)
	}
}
