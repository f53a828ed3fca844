package remote

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
)

func TestCacheMountErrors(t *testing.T) {
	t.Parallel()
	list := func(entries string) string { return `{"cairn.mounts":{"version":1,"folders":` + entries + `}}` }
	k := key("a")
	for _, test := range []struct {
		name, config, want string
		missing            bool
	}{
		{"no JSON", `{`, "unexpected end of JSON input", false},
		{"an image", `{}`, "cache mounts of here: no cache", true},
		{"another version", `{"cairn.mounts":{"version":2}}`, "cache mounts of here: no cache", true},
		{"too many", list(repeated(`{}`, maxMounts+1)), "cache mounts of here: too many: 1001, at most 1000 are allowed", false},
		{"a path as key", list(`[{"key":"../x","layer":1}]`), `cache mounts of here: invalid entry 0: key "../x", layer 1 of 1`, false},
		{"no layer", list(`[{"key":"` + k + `"}]`), "layer 0 of 1", false},
		{"layer that is not there", list(`[{"key":"` + k + `","layer":2}]`), "layer 2 of 1", false},
	} {
		_, err := newCacheMounts(Location{Dir: "here"}, nil, layer.Image{Config: []byte(test.config), Layers: make([]layer.Descriptor, 1)})
		if err == nil || !strings.HasSuffix(err.Error(), test.want) || errors.Is(err, ErrNotFound) != test.missing {
			t.Errorf("%s: error %v, want %q, missing %t", test.name, err, test.want, test.missing)
		}
	}
}

// Cache mounts of a build replace those with the same key. Others stay for a month.
func TestCacheMountsReplaced(t *testing.T) {
	t.Parallel()
	const day = 1000
	blob := func(text string) layer.Descriptor {
		d := layer.FromBytes([]byte(text))
		return layer.Descriptor{MediaType: layer.MediaTypeGzip, Digest: d, DiffID: d, Size: 1}
	}
	old := &CacheMounts{layers: []layer.Descriptor{blob("1"), blob("2"), blob("3"), blob("4")}, list: []mountRef{
		{Key: mountKey("go"), ID: "go", Layer: 1, Used: day},
		{Key: mountKey("npm"), ID: "npm", Layer: 2, Used: day - mountsKeptDays},
		{Key: mountKey("old"), ID: "old", Layer: 3, Used: day - mountsKeptDays - 1},
		{Key: mountKey("same"), ID: "same", Layer: 4, Used: day - 1},
	}}
	img, _, err := old.with([]CacheMount{{Key: "go", ID: "go\n", Blob: blob("new")}, {Key: "twin", ID: "twin", Blob: blob("4")}}, day)
	if err != nil {
		t.Fatal(err)
	}
	got, err := newCacheMounts(Location{}, nil, img)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range got.list {
		names = append(names, fmt.Sprint(strings.TrimSpace(r.ID), r.Layer, r.Used))
	}
	if want := "go1 1000, twin2 1000, npm3 970, same2 999"; strings.Join(names, ", ") != want {
		t.Errorf("got %s, want %s", strings.Join(names, ", "), want)
	}
	if len(img.Layers) != 3 {
		t.Errorf("%d layers, want 3: equal ones are one", len(img.Layers))
	}
}

// An image of another kind is not overwritten by cache mounts.
func TestCacheMountsOverImage(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]string{
		`{"rootfs":{"type":"layers","diff_ids":[]}}`:                              "the image there has no cache mounts: choose another name",
		`{"rootfs":{"type":"layers","diff_ids":[]},"cairn.mounts":{"version":9}}`: "", // of another version: replaced
	} {
		img, err := layer.NewImage([]byte(config), nil, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		err = writeCacheMounts(t.Context(), &memory{img: &img}, Location{}, nil)
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("over %s: error %v, want %q", config, err, want)
		}
	}
}
