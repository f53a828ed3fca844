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
	c, _ := open(t)
	d := layer.FromBytes([]byte("x"))
	want := Record{Key: "c", Below: "b", Name: "RUN x", Created: 7, Layers: []layer.Blob{{MediaType: layer.MediaTypeGzip, Digest: d, Size: 3, DiffID: d}}}
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
