package bake

import (
	"fmt"
	"testing"
)

// chain returns targets each of which inherits from the one before and adds to all
// kinds of attributes.
func chain(n int) *Definition {
	d := &Definition{}
	all := &Group{Name: "default"}
	for i := range n {
		t := &Target{Name: fmt.Sprint("t", i), Positions: map[string]Position{"": {File: "f", Line: i}, "tags": {File: "f", Line: i}}}
		if i > 0 {
			t.Inherits = []string{fmt.Sprint("t", i-1)}
		}
		t.Args = map[string]*string{fmt.Sprint("A", i): new("1")}
		t.Tags = []string{fmt.Sprint("x:", i)}
		t.CacheFrom = []*Cache{{Type: "registry", Attrs: map[string]string{"ref": fmt.Sprint("c", i)}}}
		d.Targets, all.Targets = append(d.Targets, t), append(all.Targets, t.Name)
	}
	d.Groups = []*Group{all}
	return d
}

// BenchmarkSelect resolves chains of inheritance. The attributes of the last target grow
// with the chain, and so the time of all with its square.
func BenchmarkSelect(b *testing.B) {
	for _, n := range []int{100, 400} {
		d := chain(n)
		b.Run(fmt.Sprint(n, " targets"), func(b *testing.B) {
			for b.Loop() {
				if _, err := d.Select(SelectOptions{Lookup: func(string) (string, bool) { return "", false }}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
