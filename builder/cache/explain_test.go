package cache

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

func TestDiffNames(t *testing.T) {
	t.Parallel()
	file := func(path string) listing.Entry { return listing.Entry{Path: path, Type: listing.TypeFile, Mode: 0o644} }
	with := func(path string, change func(*listing.Entry)) listing.Entry {
		e := file(path)
		change(&e)
		return e
	}
	a, b := file("a"), file("b")
	for _, test := range []struct {
		name     string
		old, now []listing.Entry
		want     string
	}{
		{"both empty", nil, nil, ""},
		{"equal", []listing.Entry{a, b}, []listing.Entry{a, b}, ""},
		{"new", []listing.Entry{b}, []listing.Entry{a, b}, "/a (new)"},
		{"new at the end", []listing.Entry{a}, []listing.Entry{a, b}, "/b (new)"},
		{"gone", []listing.Entry{a, b}, []listing.Entry{b}, "/a (gone)"},
		{"gone at the end", []listing.Entry{a, b}, []listing.Entry{a}, "/b (gone)"},
		{"replaced", []listing.Entry{a}, []listing.Entry{b}, "/a (gone) /b (new)"},
		{"content", []listing.Entry{a}, []listing.Entry{with("a", func(e *listing.Entry) { e.Digest = layer.FromBytes(nil) })}, "/a"},
		{"mode", []listing.Entry{a}, []listing.Entry{with("a", func(e *listing.Entry) { e.Mode = 0o600 })}, "/a"},
		{"owner", []listing.Entry{a}, []listing.Entry{with("a", func(e *listing.Entry) { e.UID = 1 })}, "/a"},
		{"group", []listing.Entry{a}, []listing.Entry{with("a", func(e *listing.Entry) { e.GID = 1 })}, "/a"},
		{"target of a link", []listing.Entry{a}, []listing.Entry{with("a", func(e *listing.Entry) { e.Link = "x" })}, "/a"},
		{"time alone", []listing.Entry{a}, []listing.Entry{with("a", func(e *listing.Entry) { e.MTime = 5 })}, ""},
	} {
		if got := strings.Join(diffNames(test.old, test.now), " "); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// Explain names the files that changed if the store still has the listings.
func TestExplainFiles(t *testing.T) {
	t.Parallel()
	c, s := open(t)
	of := func(text string) layer.Digest { return layer.FromBytes([]byte(text)) }
	put := func(key string, created int64, part string, d layer.Digest) {
		t.Helper()
		r := Record{
			Key: key, Name: "[2/2] COPY a /", Created: created, Op: `{"op":"copy"}`, Parts: []string{"base", part},
			Layers: []layer.Descriptor{{MediaType: layer.MediaTypeGzip, Digest: d, Size: 1, DiffID: d}},
		}
		if err := c.Put(key, r); err != nil {
			t.Fatal(err)
		}
	}
	why := func() string {
		t.Helper()
		reasons, err := c.Explain("COPY")
		if err != nil || len(reasons) != 1 {
			t.Fatalf("%d reasons, %v, want one", len(reasons), err)
		}
		return strings.Join(reasons[0].Why, "; ")
	}
	put("one", 1, "x", of("one"))
	if got := why(); got != "no similar step was cached" {
		t.Errorf("the only step: %s", got)
	}
	put("two", 2, "y", of("two"))
	if got := why(); got != "the files that it uses changed" {
		t.Errorf("without listings: %s", got)
	}
	files := func(n int) *listing.Listing {
		x := &listing.Listing{}
		for i := range n {
			x.Entries = append(x.Entries, listing.Entry{Path: fmt.Sprintf("f%d", i), Type: listing.TypeFile, Mode: 0o644})
		}
		return x
	}
	if err := s.PutListing(of("one"), files(1)); err != nil {
		t.Fatal(err)
	}
	if got := why(); got != "the files that it uses changed" {
		t.Errorf("with one listing: %s", got)
	}
	if err := s.PutListing(of("two"), files(9)); err != nil {
		t.Fatal(err)
	}
	want := "the files that it uses changed; changed in the layer: /f1 (new), /f2 (new), /f3 (new), /f4 (new), /f5 (new), and 3 more"
	if got := why(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200)
	for _, test := range []struct{ name, old, now, want string }{
		{"equal", `{"a":1}`, `{"a":1}`, ""},
		{"value", `{"a":1}`, `{"a":2}`, "a changed from 1 to 2"},
		{"new field", `{}`, `{"a":[1]}`, "a changed from nothing to [1]"},
		{"field is gone", `{"a":"b"}`, `{}`, `a changed from "b" to nothing`},
		{"sorted by name", `{"b":1,"a":1}`, `{"a":2,"b":2}`, "a changed from 1 to 2; b changed from 1 to 2"},
		{"long value", `{"a":"` + long + `"}`, `{"a":1}`, `a changed from "` + long[:99] + `... to 1`},
		{"malformed", `{`, `{"a":1}`, ""},
		{"variable", `{"env":["A=1"]}`, `{"env":["A=secret"]}`, "variable A was added or changed"},
		{"variable is gone", `{"env":["A=1","B=1"]}`, `{"env":["B=1"]}`, "variable A was removed"},
		{"all variables are gone", `{"env":["A=1"]}`, `{}`, "variable A was removed"},
		{"the first variable", `{}`, `{"env":["A=1"]}`, "variable A was added or changed"},
		{"order of the variables", `{"env":["A=1","B=1"]}`, `{"env":["B=1","A=1"]}`, "the order of the variables changed"},
		{"name that begins another", `{"env":["A=1","AB=1"]}`, `{"env":["AB=1"]}`, "variable A was removed"},
		{"malformed variables", `{"env":["A=1"]}`, `{"env":7}`, "the variables changed"},
	} {
		if got := strings.Join(differences(test.old, test.now), "; "); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "nothing", `"a"`: `"a"`, strings.Repeat("a", 100): strings.Repeat("a", 100),
		strings.Repeat("a", 101):       strings.Repeat("a", 100) + "...",
		strings.Repeat("a", 99) + "éé": strings.Repeat("a", 99) + "...", // no half characters
	} {
		if got := short(json.RawMessage(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestBefore(t *testing.T) {
	t.Parallel()
	entry := func(key, name, op string) Entry { return Entry{Record: Record{Key: key, Name: name, Op: op}} }
	e := entry("now", "[a 2/3] RUN x", `{"op":"run"}`)
	for _, test := range []struct {
		name  string
		older []Entry
		want  string
	}{
		{"none", nil, ""},
		{"same name first", []Entry{entry("1", "[a 2/3] RUN y", `{"op":"run"}`), entry("2", e.Name, `{"op":"run"}`)}, "2"},
		{"same position", []Entry{entry("1", "[a 2/3] RUN y", `{"op":"run"}`)}, "1"},
		{"latest of two", []Entry{entry("1", e.Name, `{"op":"run"}`), entry("2", e.Name, `{"op":"run"}`)}, "1"},
		{"another kind", []Entry{entry("1", "[a 2/3] COPY y /", `{"op":"copy"}`)}, ""},
		{"another position", []Entry{entry("1", "[a 2/4] RUN y", `{"op":"run"}`), entry("2", "[b 2/3] RUN y", `{"op":"run"}`)}, ""},
		{"without an operation", []Entry{entry("1", e.Name, "")}, ""},
	} {
		got := ""
		if o := before(test.older, e); o != nil {
			got = o.Key
		}
		if got != test.want {
			t.Errorf("%s: compared with %q, want %q", test.name, got, test.want)
		}
	}
}

func TestExplainStep(t *testing.T) {
	t.Parallel()
	byKey := map[string]Entry{"below": {Record: Record{Name: "[1/2] RUN y"}}}
	entry := func(op string, parts ...string) Entry { return Entry{Record: Record{Op: op, Parts: parts}} }
	for _, test := range []struct {
		name     string
		old, now Entry
		want     string
		files    bool
	}{
		{"nothing", entry("{}", "a"), entry("{}", "a"), "nothing changed: it ran because of --no-cache, or because its result had been removed", false},
		{"named result below", entry("{}", "a"), entry("{}", "below"), "the result below it changed: [1/2] RUN y", false},
		{"base image", entry("{}", "a"), entry("{}", "b"), "the result below it changed: the base image", false},
		{"files", entry("{}", "a", "x"), entry("{}", "a", "y"), "the files that it uses changed", true},
		{"more inputs", entry("{}", "a"), entry("{}", "a", "y"), "the number of its inputs changed", false},
		{"fewer inputs", entry("{}", "a", "y"), entry("{}", "a"), "the number of its inputs changed", false},
		{"operation and base", entry(`{"user":"a"}`, "a"), entry(`{"user":"b"}`, "b"), `user changed from "a" to "b"; the result below it changed: the base image`, false},
	} {
		r := explain(test.now, &test.old, byKey)
		if got := strings.Join(r.Why, "; "); got != test.want || r.Files != test.files {
			t.Errorf("%s: %s, files %t; want %s, %t", test.name, got, r.Files, test.want, test.files)
		}
	}
}

func TestPosition(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"[build 2/4] RUN make": "[build 2/4", "[2/4] RUN a] b": "[2/4", "FROM x": "FROM x", "": "",
	} {
		if got := position(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// A record under several keys is one entry. Records that cannot be read are left out.
func TestList(t *testing.T) {
	t.Parallel()
	c, s := open(t)
	for key, r := range map[string]Record{
		"content": {Key: "content", Name: "RUN b"}, "recipe": {Key: "content", Name: "RUN b"},
		"other": {Key: "other", Name: "RUN a"},
	} {
		if err := c.Put(key, r); err != nil {
			t.Fatal(err)
		}
	}
	for key, bytes := range map[string]string{"torn": `{"version":1,"ke`, "new": `{"version":2,"key":"new","name":"RUN c"}`} {
		if err := s.PutRecord(key, []byte(bytes)); err != nil {
			t.Fatal(err)
		}
	}
	all, err := c.List()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, e := range all {
		names[e.Name]++
		if e.Used.IsZero() || e.Size != 0 {
			t.Errorf("%s: used %v, size %d", e.Name, e.Used, e.Size)
		}
	}
	if diff := cmp.Diff(map[string]int{"RUN a": 1, "RUN b": 1}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	e := Entry{Record: Record{Key: "abc123", Name: "[2/3] RUN make"}}
	for want, match := range map[string]bool{"": true, "make": true, "RUN m": true, "abc": true, "bc1": false, "run": false, "abc1234": false} {
		if got := e.Matches(want); got != match {
			t.Errorf("%q matches: %t, want %t", want, got, match)
		}
	}
}

// Verify accepts records of other versions, which Get reports as missing.
func TestVerify(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"version":1,"key":"k"}`: "",
		`{"version":2,"key":7}`:   "",
		`{}`:                      "",
		`{"version":1,"key":7}`:   "cannot unmarshal number",
		`{"version":1`:            "unexpected end of JSON input",
		`{"version":1,"layers":[{"digest":"md5:0"}]}`: `digest "md5:0"`,
	} {
		err := Verify([]byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
	c, s := open(t)
	if err := s.PutRecord("k", []byte(`{"version":2}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get("k"); err == nil || err.Error() != "record k is of version 2, not 1" {
		t.Errorf("error %v", err)
	}
}

func TestUnsound(t *testing.T) {
	t.Parallel()
	bad, good := layer.FromBytes([]byte("bad")), layer.FromBytes([]byte("good"))
	rec := func(key, below, kind string, d layer.Digest, parts ...string) storedRecord {
		r := &Record{Key: key, Below: below, Op: `{"op":"` + kind + `"}`, Parts: parts}
		if d != "" {
			r.Layers = []layer.Descriptor{{DiffID: d}}
		}
		return storedRecord{Record: r}
	}
	for _, test := range []struct {
		name string
		all  []storedRecord
		want string
	}{
		{"none", nil, ""},
		{"the layer itself", []storedRecord{rec("a", "", "copy", bad, "base")}, ""},
		{"another layer", []storedRecord{rec("a", "", "copy", good, "base"), rec("b", "a", "copy", good, "a")}, ""},
		{"on top", []storedRecord{rec("a", "", "copy", bad, "base"), rec("b", "a", "copy", good, "a")}, "b"},
		{"two above, in any order", []storedRecord{rec("c", "b", "copy", good, "b"), rec("b", "a", "copy", good, "a"), rec("a", "", "copy", bad, "base")}, "b c"},
		{"copied from it", []storedRecord{rec("a", "", "copy", bad, "base"), rec("b", "", "copy", good, "base", "a")}, "b"},
		{"a command with other inputs", []storedRecord{rec("a", "x", "run", good, "x", "files")}, "a"},
		{"a command without", []storedRecord{rec("a", "x", "run", good, "x")}, ""},
		{"on an unknown base", []storedRecord{rec("a", "", "copy", good, "foreign")}, "a"},
		{"without parts", []storedRecord{rec("a", "", "copy", good)}, "a"},
	} {
		found := unsound(test.all, bad, map[string]bool{"base": true})
		var got []string
		for _, key := range []string{"a", "b", "c"} {
			if found[key] {
				got = append(got, key)
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
