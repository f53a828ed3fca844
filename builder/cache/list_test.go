package cache

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	entry := func(name, key, op string, created int64, parts ...string) Entry {
		return Entry{Record: Record{Name: name, Key: key, Op: op, Created: created, Parts: parts}}
	}
	all := []Entry{
		entry("[2/4] COPY a /", "k1", `{"op":"copy","dest":"/"}`, 1, "base", "d1"),
		entry("[2/4] COPY a /", "k2", `{"op":"copy","dest":"/"}`, 5, "base", "d2"),
		entry("[3/4] RUN make", "k3", `{"op":"run","args":["make"],"env":["A=1","B=2"]}`, 2, "k1"),
		entry("[3/4] RUN make", "k4", `{"op":"run","args":["make"],"env":["A=2","C=3"]}`, 6, "k2"),
		entry("[4/4] RUN old", "k5", `{"op":"run","args":["old"]}`, 3, "k3"),
		entry("[4/4] RUN new", "k6", `{"op":"run","args":["new"]}`, 7, "k3"),
		entry("[5/5] COPY b /", "k8", `{"op":"copy"}`, 4, "k5"),
		entry("[5/5] RUN first", "k7", `{"op":"run"}`, 8, "k6"),
	}
	got := map[string][]string{}
	for _, r := range Explain(all, "") {
		got[r.Step.Name] = r.Why
	}
	want := map[string][]string{
		"[2/4] COPY a /":  {"the files that it uses changed"},
		"[3/4] RUN make":  {"variable A was added or changed", "variable C was added or changed", "variable B was removed", "the result below it changed: [2/4] COPY a /"},
		"[4/4] RUN new":   {`args changed from ["old"] to ["new"]`},
		"[5/5] RUN first": {"no similar step was cached"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if r := Explain(all, "k6"); len(r) != 1 || r[0].Step.Name != "[4/4] RUN new" {
		t.Errorf("by key: %+v", r)
	}
	if r := Explain(all, "RUN make"); len(r) != 1 || r[0].Step.Key != "k4" {
		t.Errorf("by name: %+v", r)
	}
}
