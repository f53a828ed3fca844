package remote

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/cairn-build/cairn/layer"
)

func (l *lab) mount(t testing.TB, key, text string) CacheMount {
	b := l.layer(t, text, 0)
	return CacheMount{Key: key, ID: "id of " + key, Blob: b, Source: Source{Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(l.blobs[b.Digest])), nil
	}}}
}

func TestCacheMountsRoundTrip(t *testing.T) {
	client, all := places(t)
	for _, w := range all {
		l := newLab()
		if _, err := ReadCacheMounts(t.Context(), client, w); !errors.Is(err, ErrNotFound) {
			t.Errorf("reading what is not there: %v", err)
		}
		for _, list := range [][]CacheMount{
			{l.mount(t, "go", "old"), l.mount(t, "npm", "npm's")},
			{l.mount(t, "go", "new")},
		} {
			if err := WriteCacheMounts(t.Context(), client, w, list); err != nil {
				t.Fatal(err)
			}
		}
		got, err := ReadCacheMounts(t.Context(), client, w)
		if err != nil {
			t.Fatal(err)
		}
		for key, text := range map[string]string{"go": "new", "npm": "npm's"} {
			r, b, ok, err := got.Open(t.Context(), key)
			if err != nil || !ok {
				t.Errorf("%s: folder %s: %v, %v", w, key, ok, err)
				continue
			}
			want := l.layer(t, text, 0)
			raw, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil || b.DiffID != want.DiffID || !bytes.Equal(raw, l.blobs[want.Digest]) {
				t.Errorf("%s: folder %s came back as %s, %v", w, key, b.DiffID, err)
			}
		}
		if _, _, ok, _ := got.Open(t.Context(), "cargo"); ok || len(got.list) != 2 {
			t.Errorf("%s has %+v, want go and npm", w, got.list)
		}
		// A cache of results and cache mounts do not replace each other by mistake.
		if err := Write(t.Context(), client, w, l.content(l.step(l.layer(t, "a", 1), "a", "", 1))); w.Ref != "" && err == nil {
			t.Errorf("%s became a cache of results", w)
		}
	}
}

func TestCacheMountWritersAtOnce(t *testing.T) {
	l := newLab()
	m := &memory{}
	m.beforeWrite = func() {
		if err := writeCacheMounts(t.Context(), m, Location{}, []CacheMount{l.mount(t, "before", "1")}); err != nil {
			t.Fatal(err)
		}
	}
	m.atSettle = func() {
		other := &memory{}
		if err := writeCacheMounts(t.Context(), other, Location{}, []CacheMount{l.mount(t, "after", "2")}); err != nil {
			t.Fatal(err)
		}
		m.img = other.img
	}
	if err := writeCacheMounts(t.Context(), m, Location{}, []CacheMount{l.mount(t, "ours", "3")}); err != nil {
		t.Fatal(err)
	}
	got, err := newCacheMounts(Location{}, m, *m.img)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.list) < 2 || got.list[0].Key != mountKey("ours") {
		t.Errorf("the cache has %+v, want ours and after", got.list)
	}
}

func FuzzCacheMounts(f *testing.F) {
	f.Add([]byte(`{"cairn.mounts":{"version":1,"folders":[{"key":"` + key("a") + `","id":"x\u001b","layer":1}]}}`))
	f.Add([]byte(`{"cairn.mounts":{"version":1,"folders":[{"key":"../x","layer":9}]}}`))
	f.Fuzz(func(t *testing.T, config []byte) {
		img := layer.Image{Config: config, Layers: []layer.Descriptor{{Digest: layer.FromBytes(nil), DiffID: layer.FromBytes(nil)}}}
		got, err := newCacheMounts(Location{}, &memory{}, img)
		if err != nil {
			return
		}
		for _, r := range got.list {
			if !isKey(r.Key) || r.Layer != 1 || bytes.ContainsAny([]byte(r.ID), "\x1b\n") {
				t.Errorf("%+v", r)
			}
		}
		if _, _, err := got.with(nil, 0); err != nil {
			t.Error(err)
		}
	})
}
