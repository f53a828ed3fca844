package remote

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/layer"
)

// repeated returns a JSON list of n copies of an element.
func repeated(element string, n int) string {
	return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
}

// The config of a cache is untrusted: everything in it is checked.
func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	k, d := key("a"), string(layer.FromBytes([]byte("a")))
	doc := func(fields string) string { return `{"cairn.cache":{"version":1,` + fields + `}}` }
	rec := func(fields string) string { return doc(`"records":[` + fields + `]`) }
	for _, test := range []struct{ name, config, want string }{
		{"no JSON", `{`, "unexpected end of JSON input"},
		{"an image", `{"os":"linux"}`, "no cache"},
		{"null", `{"cairn.cache":null}`, "no cache"},
		{"no version", `{"cairn.cache":{}}`, "cache format version 0 is not supported (want 1)"},
		{"newer version", `{"cairn.cache":{"version":2}}`, "cache format version 2 is not supported (want 1)"},
		{"too many records", doc(`"records":` + repeated(`{}`, maxRecords+1)), "too large: 20001 records (at most 20000) and 0 listings (at most 20000)"},
		{"too many listings", doc(`"indexes":` + repeated(`{}`, maxIndexes+1)), "too large: 0 records (at most 20000) and 20001 listings (at most 20000)"},
		{"no keys", rec(`{}`), "record 0: invalid number of keys: 0"},
		{"too many keys", rec(`{"keys":` + repeated(`"`+k+`"`, maxKeys+1) + `}`), "record 0: invalid number of keys: 65"},
		{"a path as key", rec(`{"keys":["../../etc"]}`), `record 0: invalid key "../../etc"`},
		{"key in upper case", rec(`{"keys":["` + strings.ToUpper(k) + `"]}`), "record 0: invalid key"},
		{"second record", rec(`{"keys":["` + k + `"]},{"keys":["x"]}`), `record 1: invalid key "x"`},
		{"result below", rec(`{"keys":["` + k + `"],"below":"x"}`), "record 0: invalid key of the result below"},
		{"result of a stack", rec(`{"keys":["` + k + `"],"over":"x"}`), "record 0: invalid key of the result below"},
		{"layer that is not there", rec(`{"keys":["` + k + `"],"layer":3}`), "record 0: layer 3 of 2"},
		{"negative layer", rec(`{"keys":["` + k + `"],"layer":-1}`), "record 0: layer -1 of 2"},
		{"listing of no digest", doc(`"indexes":[{"of":"x"}]`), `listing 0: digest "x"`},
		{"listing of nothing", doc(`"indexes":[{"of":"` + d + `"}]`), "must have either data or one of 2 layers"},
		{"listing with both", doc(`"indexes":[{"of":"` + d + `","data":"AA==","layer":1}]`), "must have either data or one of 2 layers"},
		{"listing in a layer that is not there", doc(`"indexes":[{"of":"` + d + `","layer":3}]`), "must have either data or one of 2 layers"},
	} {
		if _, err := decode([]byte(test.config), 2); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
	}
	if _, err := decode([]byte(`{}`), 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("an image without a cache: %v", err)
	}
}

// Names from a cache are shown, so they are made printable and short.
func TestDecodeNames(t *testing.T) {
	t.Parallel()
	doc, err := decode([]byte(`{"cairn.cache":{"version":1,"records":[{"keys":["`+key("a")+`"],"name":"a\u001b[31m\nb`+strings.Repeat("c", 2*maxName)+`"}]}}`), 0)
	if err != nil {
		t.Fatal(err)
	}
	name := doc.Records[0].Name
	if strings.ContainsAny(name, "\x1b\n") || len(name) > maxName+10 || !strings.HasPrefix(name, "a") {
		t.Errorf("the name is %q", name)
	}
}

func TestEmbed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ config, want string }{
		{`{}`, `{"f":{"a":"<&>"}}`},
		{`{ }`, `{ "f":{"a":"<&>"}}`},
		{`{"b":1}`, `{"b":1,"f":{"a":"<&>"}}`},
		{"{\"b\":1}\n", `{"b":1,"f":{"a":"<&>"}}`},
	} {
		got, err := embed([]byte(test.config), "f", map[string]string{"a": "<&>"})
		if err != nil || string(got) != test.want {
			t.Errorf("%q: %s, %v, want %s", test.config, got, err, test.want)
		}
	}
	for _, config := range []string{"", "[]", `"x"`} {
		if got, err := embed([]byte(config), "f", 1); err == nil || err.Error() != "the image's config is not a JSON object" {
			t.Errorf("%q: %s, error %v", config, got, err)
		}
	}
	if _, err := embed([]byte("{}"), "f", func() {}); err == nil {
		t.Error("a function was encoded")
	}
}

func TestLocationNames(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		at   Location
		want string
	}{
		{Location{Ref: "docker.io/library/cache:latest"}, "cache:latest"},
		{Location{Ref: "r.example/a/b:1"}, "r.example/a/b:1"},
		{Location{Dir: "/var/cache"}, "/var/cache"},
		{Location{Service: &Service{Scope: "main"}}, "GitHub's cache, scope main"},
	} {
		if got := test.at.String(); got != test.want {
			t.Errorf("%+v is %q, want %q", test.at, got, test.want)
		}
	}
}

// at returns a record of a build as of a day.
func at(name string, created, used int64, keys ...string) item {
	d := layer.FromBytes([]byte(name))
	r := record{Keys: []string{key(name)}, Name: name, Created: created, Used: used}
	for _, k := range keys {
		r.Keys = append(r.Keys, key(k))
	}
	return item{record: r, blob: layer.Descriptor{Digest: d, DiffID: d}}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	const day = 1000
	other := at("a", 9, day)
	other.blob = layer.Descriptor{Digest: layer.FromBytes([]byte("newer")), DiffID: layer.FromBytes([]byte("newer"))}
	for _, test := range []struct {
		name      string
		old, ours []item
		want      string // names with the time of their layer, the most recently used first
	}{
		{"both", []item{at("a", 1, day-1)}, []item{at("b", 2, day)}, "b2 a1"},
		{"newer record of one key", []item{at("a", 1, day)}, []item{other}, "a9"},
		{"older record of one key", []item{other}, []item{at("a", 1, day)}, "a9"},
		{"used today keeps an old one", []item{at("a", 1, day-keepDays)}, []item{at("a", 1, day)}, "a1"},
		{"last day", []item{at("a", 1, day-keepDays)}, nil, "a1"},
		{"a day too old", []item{at("a", 1, day-keepDays-1)}, nil, ""},
		{"content key that is a recipe elsewhere", []item{at("a", 1, day)}, []item{at("b", 2, day, "a")}, "b2"},
	} {
		got := merge(state{records: test.old}, state{records: test.ours, indexes: map[layer.Digest]indexed{}}, day)
		var names []string
		for _, it := range got.records {
			names = append(names, fmt.Sprint(it.Name, it.Created))
		}
		if strings.Join(names, " ") != test.want {
			t.Errorf("%s: %q, want %q", test.name, names, test.want)
		}
	}
}

// The recipe keys of equal results come together. Each key leads to one result, and a
// result has at most maxKeys.
func TestMergeKeys(t *testing.T) {
	t.Parallel()
	none := map[layer.Digest]indexed{}
	got := merge(state{records: []item{at("a", 1, 5, "x", "y")}}, state{records: []item{at("a", 1, 6, "z", "y")}, indexes: none}, 6)
	want := []string{key("x"), key("y"), key("z")}
	slices.Sort(want)
	if len(got.records) != 1 {
		t.Fatalf("%d records, want 1", len(got.records))
	}
	r := got.records[0]
	if diff := cmp.Diff(append([]string{key("a")}, want...), r.Keys); diff != "" || r.Used != 6 {
		t.Errorf("used on day %d, keys (-want +got):\n%s", r.Used, diff)
	}
	var many []string
	for i := range 2 * maxKeys {
		many = append(many, fmt.Sprint(i))
	}
	got = merge(state{}, state{records: []item{at("a", 1, 6, many...)}, indexes: none}, 6)
	if n := len(got.records[0].Keys); n != maxKeys {
		t.Errorf("%d keys, want %d", n, maxKeys)
	}
	got = merge(state{records: []item{at("a", 1, 6, "x")}}, state{records: []item{at("b", 2, 6, "x")}, indexes: none}, 6)
	for _, r := range got.records {
		if has := slices.Contains(r.Keys, key("x")); has != (r.Name == "b") {
			t.Errorf("%s has the common recipe: %t", r.Name, has)
		}
	}
}

// A document numbers each layer once, and reads back as the same state.
func TestDocument(t *testing.T) {
	t.Parallel()
	a, b := at("a", 1, 1), at("b", 2, 1)
	b.blob = a.blob
	bare := at("c", 3, 1)
	bare.blob = layer.Descriptor{}
	of, packed := layer.FromBytes([]byte("of")), layer.FromBytes([]byte("packed"))
	s := state{[]item{a, b, bare}, map[layer.Digest]indexed{
		of:            {data: []byte("x"), used: 1},
		a.blob.DiffID: {blob: layer.Descriptor{Digest: packed, DiffID: packed}, used: 1},
	}}
	doc, layers := s.document()
	if len(layers) != 2 || layers[0].Digest != a.blob.Digest || layers[1].Digest != packed {
		t.Errorf("layers %+v", layers)
	}
	if got := fmt.Sprint(doc.Records[0].Layer, doc.Records[1].Layer, doc.Records[2].Layer); got != "1 1 0" {
		t.Errorf("the records have layers %s", got)
	}
	back := newCache(Location{}, nil, doc, layers)
	if back.Len() != 3 || !back.state().holds(s) || !s.holds(back.state()) {
		t.Errorf("read back: %+v", back.state())
	}
	if !back.HasIndex(of) || back.HasIndex(packed) {
		t.Error("the indexes are not those that were written")
	}
	if empty, _ := (state{}).document(); empty.Records == nil {
		t.Error("an empty cache has null for its records")
	}
}

func TestHolds(t *testing.T) {
	t.Parallel()
	of := layer.FromBytes([]byte("of"))
	s := state{[]item{at("a", 1, 1, "x")}, map[layer.Digest]indexed{of: {}}}
	for _, test := range []struct {
		name string
		ours state
		want bool
	}{
		{"nothing", state{}, true},
		{"the same", s, true},
		{"fewer keys", state{records: []item{at("a", 1, 1)}}, true},
		{"another key", state{records: []item{at("a", 1, 1, "y")}}, false},
		{"another record", state{records: []item{at("b", 1, 1)}}, false},
		{"another index", state{indexes: map[layer.Digest]indexed{layer.FromBytes(nil): {}}}, false},
	} {
		if got := s.holds(test.ours); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
}

func TestNoIndex(t *testing.T) {
	t.Parallel()
	of := layer.FromBytes([]byte("of"))
	c := newCache(Location{Dir: "here"}, nil, &document{}, nil)
	_, err := c.Index(t.Context(), of)
	if want := "cache here: the listing of layer " + string(of) + ": no cache"; err == nil || err.Error() != want || !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v, want %s", err, want)
	}
}
