package cache

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzRecord parses two records and explains how they differ.
func FuzzRecord(f *testing.F) {
	const d = `"sha256:0000000000000000000000000000000000000000000000000000000000000000"`
	f.Add(`{"version":1,"key":"k","name":"[a 1/2] RUN x","op":"{\"op\":\"run\",\"env\":[\"A=b\"]}","parts":["p"],"layers":[{"digest":`+d+`,"diffID":`+d+`,"size":3}]}`,
		`{"version":1,"key":"l","name":"[a 1/2] RUN y","op":"{\"op\":\"run\",\"env\":[\"A=c\",\"B\"],\"x\":1}","parts":["q","r"]}`)
	f.Add(`{"version":2,"key":7}`, `{"version":1,"layers":[{"digest":"sha256:..","diffID":""}]}`)
	f.Add(`null`, `{"version":1,"op":"null","parts":[""]}`)
	f.Fuzz(func(t *testing.T, one, other string) {
		a, err := decode([]byte(one))
		if (err == nil) != (Verify([]byte(one)) == nil) {
			t.Fatalf("reading it gives %v, verifying it another answer", err)
		}
		b, otherErr := decode([]byte(other))
		if err != nil || otherErr != nil {
			return
		}
		for _, l := range a.Layers {
			if l.Digest.Validate() != nil || l.DiffID.Validate() != nil {
				t.Errorf("accepted the layer %+v", l)
			}
		}
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, again); a.Version == version && diff != "" {
			t.Error(diff)
		}
		e, old := Entry{Record: *a}, Entry{Record: *b}
		if r := explain(e, before([]Entry{old}, e), map[string]Entry{b.Key: old}); len(r.Why) == 0 {
			t.Error("no reason at all")
		}
	})
}
