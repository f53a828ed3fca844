package bake

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMerge(t *testing.T) {
	earlier := &Target{
		Description: "earlier",
		Context:     new("a"),
		Args:        map[string]*string{"A": new("1"), "B": new("1")},
		Contexts:    map[string]string{"x": "1"},
		Tags:        []string{"one"},
		Platforms:   []string{"linux/amd64"},
		Annotations: []string{"a=1"},
		Secrets:     []*Secret{{ID: "a", File: "1"}, {ID: "b"}},
		CacheFrom:   []*Cache{{Type: "gha"}},
		Resources:   &Resources{Memory: new("1g"), CPUShares: new(int64(5))},
		Positions:   map[string]Position{"": {File: "a", Line: 1}, "tags": {File: "a", Line: 2}},
	}
	earlier.Merge(&Target{
		Args:        map[string]*string{"B": new("2"), "A": nil},
		Contexts:    map[string]string{"x": ""},
		Tags:        []string{},
		Annotations: []string{"b=1"},
		Secrets:     []*Secret{{ID: "c"}, {ID: "a", Env: "2"}},
		CacheFrom:   []*Cache{{Type: "gha"}, {Type: "inline"}},
		Resources:   &Resources{Memory: new("2g")},
		Positions:   map[string]Position{"": {File: "b", Line: 7}},
	})
	want := &Target{
		Description: "earlier",
		Context:     new("a"),
		Args:        map[string]*string{"A": new("1"), "B": new("2")},
		Contexts:    map[string]string{"x": ""},
		Tags:        []string{},
		Platforms:   []string{"linux/amd64"},
		Annotations: []string{"a=1", "b=1"},
		Secrets:     []*Secret{{ID: "a", Env: "2"}, {ID: "b"}, {ID: "c"}},
		CacheFrom:   []*Cache{{Type: "gha"}, {Type: "inline"}},
		Resources:   &Resources{Memory: new("2g"), CPUShares: new(int64(5))},
		Positions:   map[string]Position{"": {File: "b", Line: 7}, "tags": {File: "a", Line: 2}},
		Bases:       Bases{Contexts: map[string]string{}},
	}
	if diff := cmp.Diff(want, earlier); diff != "" {
		t.Errorf("merged target (-want +got):\n%s", diff)
	}
	if got := earlier.Position("pull"); got.Line != 7 {
		t.Errorf("position of an attribute without one is %v, want the target's", got)
	}
}

func TestUniqueEntries(t *testing.T) {
	var list []*Cache
	for _, name := range []string{"a", "a", "b", "c"} {
		list = append(list, &Cache{Type: name})
	}
	var got []string
	for _, c := range uniqueCaches(list) {
		got = append(got, c.Type)
	}
	if diff := cmp.Diff([]string{"a", "c", "b"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseText(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"type=oci,dest=a.tar,compression=zstd", "type=oci,dest=a.tar,compression=zstd"},
		{"out", "type=local,dest=out"},
		{"-", "type=tar,dest=-"},
		{`type=local,"dest=a,b"`, `type=local,"dest=a,b"`},
	} {
		o, err := ParseOutput(test.in)
		if err != nil || o.String() != test.want {
			t.Errorf("ParseOutput(%q) = %v, %v, want %s", test.in, o, err, test.want)
		}
	}
	caches, err := ParseCaches("app:1,app:2")
	if err != nil || len(caches) != 2 || caches[1].String() != "type=registry,ref=app:2" {
		t.Errorf("ParseCaches of two references = %v, %v", caches, err)
	}
	s, err := ParseSecret("type=env,id=k,src=TOKEN")
	if err != nil || s.String() != "id=k,env=TOKEN" {
		t.Errorf("ParseSecret = %v, %v", s, err)
	}
	for _, bad := range []string{"type=gha,x", "dest=x,y"} {
		if o, err := ParseOutput(bad); err == nil {
			t.Errorf("ParseOutput(%q) = %v, want an error", bad, o)
		}
	}
	if s := ParseSSH("k=a,b"); s.String() != "k=a,b" || len(s.Paths) != 2 {
		t.Errorf("ParseSSH = %v", s)
	}
}
