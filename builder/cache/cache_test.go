package cache

import (
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T) (*Cache, *store.Store) {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return New(s), s
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	c, _ := open(t)
	d := layer.FromBytes([]byte("x"))
	want := Record{Key: "c", Below: "b", Name: "RUN x", Created: 7, Layers: []layer.Descriptor{{MediaType: layer.MediaTypeGzip, Digest: d, Size: 3, DiffID: d}}}
	if err := c.Put("k", want); err != nil {
		t.Fatal(err)
	}
	got, err := c.Get("k")
	if err != nil {
		t.Fatal(err)
	}
	want.Version = version
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
	if err := c.Drop("k"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get("k"); err == nil {
		t.Error("a dropped record answers")
	}
}

func TestBadRecordsAreMisses(t *testing.T) {
	t.Parallel()
	c, s := open(t)
	for name, bytes := range map[string]string{
		"truncated": `{"version":1,"key"`,
		"version":   `{"version":99,"key":"k"}`,
		"digest":    `{"version":1,"key":"k","layers":[{"digest":"sha256:../../etc"}]}`,
		"diff id":   `{"version":1,"key":"k","layers":[{"digest":"sha256:` + strings.Repeat("0", 64) + `","diffID":"x"}]}`,
	} {
		if err := s.PutRecord(name, []byte(bytes)); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Get(name); err == nil {
			t.Errorf("%s: record %+v", name, r)
		}
	}
}

func TestDropOn(t *testing.T) {
	t.Parallel()
	c, _ := open(t)
	bad, good := layer.FromBytes([]byte("bad")), layer.FromBytes([]byte("good"))
	step := func(key, below, op string, d layer.Digest, parts ...string) Record {
		return Record{
			Key: key, Below: below, Op: `{"op":"` + op + `"}`, Parts: append([]string{below}, parts...),
			Layers: []layer.Descriptor{{MediaType: layer.MediaTypeGzip, Digest: d, Size: 3, DiffID: d}},
		}
	}
	base := func(r Record, key string) Record { r.Parts[0] = key; return r }
	stack := Record{Key: "stack", Below: "apart", Over: "copy", Op: `{"op":"stack"}`, Parts: []string{"apart", "copy"}}
	for key, r := range map[string]Record{
		"copy":    base(step("copy", "", "copy", bad, "files"), "sound"), // is whole itself
		"run":     step("run", "copy", "run", good),
		"next":    step("next", "run", "copy", good),
		"other":   step("other", "apart", "copy", good, "next"), // its content is not known otherwise
		"stack":   stack,
		"above":   step("above", "stack", "run", good),
		"mounts":  step("mounts", "apart", "run", good, "files"),
		"strange": base(step("strange", "", "run", good), "a base that is not known"),
		"apart":   base(step("apart", "", "run", good), "sound"),
		"by":      step("content", "apart", "copy", good, "files"),
		"content": step("content", "apart", "copy", good, "files"),
	} {
		if err := c.Put(key, r); err != nil {
			t.Fatal(err)
		}
	}
	n, err := c.DropOn(bad, map[string]bool{"sound": true})
	if err != nil || n != 7 {
		t.Errorf("dropped %d steps (%v), not 7", n, err)
	}
	for key, want := range map[string]bool{
		"copy": true, "run": false, "next": false, "other": false, "stack": false, "above": false,
		"mounts": false, "strange": false, "apart": true, "by": false, "content": true,
	} {
		if _, err := c.Get(key); (err == nil) != want {
			t.Errorf("%s: %v", key, err)
		}
	}
}
