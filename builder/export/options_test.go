package export

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
)

var (
	gzip = Compression{Options: compress.Options{Format: compress.Gzip}}
	zstd = Compression{Options: compress.Options{Format: compress.Zstd}}
)

const sum = layer.Digest("sha256:aa")

// For each combination of tags and outputs: the names in the store, and the references
// and names that are pushed.
func TestNames(t *testing.T) {
	tests := []struct {
		name                     string
		o                        Options
		stored, pushed, byDigest []string
	}{
		{"nothing", Options{}, []string{"<none>@sha256:aa"}, nil, nil},
		{"tags", Options{Tags: []string{"h/a:1", "h/a:2"}}, []string{"h/a:1", "h/a:2"}, nil, nil},
		{"pushed tags", Options{Tags: []string{"h/a:1"}, Push: true}, []string{"h/a:1"}, []string{"h/a:1"}, nil},
		{"files only", Options{Outputs: []Output{{Type: "oci", Dest: "x"}}}, nil, nil, nil},
		{"registry output", Options{Tags: []string{"h/a:1"}, Outputs: []Output{{Type: "registry"}}}, []string{"h/a:1"}, []string{"h/a:1"}, nil},
		{"registry output, tags are pushed anyway", Options{Tags: []string{"h/a:1"}, Push: true, Outputs: []Output{{Type: "registry"}}},
			[]string{"h/a:1"}, []string{"h/a:1"}, nil},
		{"named output", Options{Tags: []string{"h/a:1"}, Outputs: []Output{{Type: "image", Names: []string{"h/b:1"}, Push: true}}},
			[]string{"h/a:1", "h/b:1"}, []string{"h/b:1"}, nil},
		{"by digest", Options{Outputs: []Output{{Type: "registry", Names: []string{"h/a:latest"}, ByDigest: true}}},
			[]string{"<none>@sha256:aa"}, nil, []string{"h/a:latest"}},
		{"canonical", Options{Tags: []string{"h:5000/a:1"}, Outputs: []Output{{Type: "image", Names: []string{"h:5000/b:1"}, Canonical: true}}},
			[]string{"h:5000/a:1", "h:5000/b:1", "h:5000/a@sha256:aa", "h:5000/b@sha256:aa"}, nil, nil},
		{"another compression", Options{Tags: []string{"h/a:1"}, Compression: gzip, Push: true,
			Outputs: []Output{{Type: "registry", Names: []string{"h/z:1"}, Compression: &zstd}}}, []string{"h/a:1"}, []string{"h/a:1"}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := test.o.Compression
			if got := test.o.storedNames(c, sum); !cmp.Equal(got, test.stored) {
				t.Errorf("stored %q, want %q", got, test.stored)
			}
			if got := test.o.pushedRefs(c); !cmp.Equal(got, test.pushed) {
				t.Errorf("pushed %q, want %q", got, test.pushed)
			}
			if got := test.o.pushedByDigest(c); !cmp.Equal(got, test.byDigest) {
				t.Errorf("by digest %q, want %q", got, test.byDigest)
			}
		})
	}
}

// Each compression is that of an image of its own; files have none.
func TestCompressions(t *testing.T) {
	o := Options{Compression: gzip, Outputs: []Output{
		{Type: "image"}, {Type: "oci", Compression: &zstd}, {Type: "docker", Compression: &zstd}, {Type: "local", Compression: &Compression{Force: true}},
	}}
	if got := o.compressions(); !reflect.DeepEqual(got, []Compression{gzip, zstd}) {
		t.Errorf("%v", got)
	}
	if got := o.storedNames(zstd, sum); got != nil {
		t.Errorf("the store keeps the image of a file as %q", got)
	}
	o.Outputs = []Output{{Type: "registry", Names: []string{"h/z:1"}, Compression: &zstd}}
	if got, want := o.storedNames(zstd, sum), []string{"h/z:1"}; !cmp.Equal(got, want) {
		t.Errorf("stored %q, want %q", got, want)
	}
	if got, want := o.pushedRefs(zstd), []string{"h/z:1"}; !cmp.Equal(got, want) {
		t.Errorf("pushed %q, want %q", got, want)
	}
}

func TestCheck(t *testing.T) {
	amd, arm := layer.Platform{OS: "linux", Architecture: "amd64"}, layer.Platform{OS: "linux", Architecture: "arm64"}
	tests := []struct {
		name      string
		o         Options
		platforms []layer.Platform
		want      string // part of the error
	}{
		{"nothing", Options{}, []layer.Platform{amd}, ""},
		{"same name, same compression", Options{Tags: []string{"a"}, Outputs: []Output{{Type: "image", Names: []string{"a"}}}}, []layer.Platform{amd}, ""},
		{"same name, other compression", Options{Tags: []string{"docker.io/library/a:latest"}, Compression: gzip,
			Outputs: []Output{{Type: "image", Names: []string{"docker.io/library/a:latest"}, Compression: &zstd}}}, []layer.Platform{amd},
			"a:latest is the target of two outputs with different compression: use different names"},
		{"tags of an output", Options{Tags: []string{"docker.io/library/a:latest"}, Compression: gzip,
			Outputs: []Output{{Type: "registry", Compression: &zstd}}}, []layer.Platform{amd}, "two outputs"},
		{"by digest there is no name", Options{Tags: []string{"a"}, Compression: gzip,
			Outputs: []Output{{Type: "registry", Names: []string{"a"}, ByDigest: true, Compression: &zstd}}}, []layer.Platform{amd}, ""},
		{"annotation of an index", Options{Annotations: []Annotation{{Name: "n", Index: true}}}, []layer.Platform{amd, arm}, ""},
		{"no index", Options{Annotations: []Annotation{{Name: "n", Index: true}}}, []layer.Platform{amd}, "annotation n: an image of one platform has no index"},
		{"platform", Options{Annotations: []Annotation{{Name: "n", Platform: &arm}}}, []layer.Platform{amd, arm}, ""},
		{"no such platform", Options{Annotations: []Annotation{{Name: "n", Platform: &arm}}}, []layer.Platform{amd},
			"annotation n: it is for linux/arm64, but the image is for linux/amd64"},
		{"Docker has none", Options{DockerTypes: true, Annotations: []Annotation{{Name: "n"}}}, []layer.Platform{amd}, "have no annotations"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := test.o.Check(test.platforms)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestNormalize(t *testing.T) {
	o := Options{Tags: []string{"a"}, Outputs: []Output{{Names: []string{"h/b:1"}}}}
	if err := o.Normalize(); err != nil || o.Tags[0] != "docker.io/library/a:latest" || o.Outputs[0].Names[0] != "h/b:1" && o.Outputs[0].Names[0] != "docker.io/h/b:1" {
		t.Errorf("%v, %v", o, err)
	}
	for _, bad := range []Options{{Tags: []string{"A"}}, {Outputs: []Output{{Names: []string{":"}}}}} {
		if err := bad.Normalize(); err == nil || !strings.HasPrefix(err.Error(), "invalid ") {
			t.Errorf("%v: error %v", bad, err)
		}
	}
}
