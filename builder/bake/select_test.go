package bake

import (
	"fmt"
	"strings"
	"testing"
)

// Links are followed once for each target: this definition has 2^60 paths.
func TestSelectManyLinks(t *testing.T) {
	d := &Definition{}
	const depth = 60
	for i := range depth + 1 {
		for _, side := range []string{"a", "b"} {
			target := &Target{Name: fmt.Sprint(side, i)}
			if i < depth {
				target.Contexts = map[string]string{"a": fmt.Sprint("target:a", i+1), "b": fmt.Sprint("target:b", i+1)}
			} else {
				target.Entitlements = []string{"network.host"}
			}
			d.Targets = append(d.Targets, target)
		}
	}
	unset := func(string) (string, bool) { return "", false }
	s, err := d.Select(SelectOptions{Names: []string{"a0"}, Lookup: unset})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Targets) != 2*depth+1 {
		t.Errorf("%d targets, want %d", len(s.Targets), 2*depth+1)
	}
	if e := s.Targets["a0"].Entitlements; len(e) != 1 || !s.Targets["b60"].Linked || s.Targets["a0"].Linked {
		t.Errorf("a0 has the entitlements %v, want those of its links", e)
	}
	d.Target("a60").Contexts = map[string]string{"ring": "target:b30"}
	if _, err := d.Select(SelectOptions{Names: []string{"a0"}, Lookup: unset}); err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), "infinite loop from b30 to a31") {
		t.Errorf("a ring of links: %v", err)
	}
}
