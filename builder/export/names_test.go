package export

import (
	"slices"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
)

var gzipped = Compression{} // the default

const (
	app   = "docker.io/library/app:latest"
	other = "docker.io/library/other:latest"
	hosts = "registry.example/team/app:v1"
)

var someDigest = layer.FromBytes([]byte("image"))

// wantError checks that an error has each part of a text, in order.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", parts)
		return
	}
	rest := err.Error()
	for _, part := range parts {
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Errorf("error %q, want %q in it", err, part)
			return
		}
		rest = after
	}
}

func wantList(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func platform(t *testing.T, s string) layer.Platform {
	t.Helper()
	p, err := layer.ParsePlatform(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestFullNames checks that tags and the names of outputs become full references, and
// that an error says which of them is invalid.
func TestFullNames(t *testing.T) {
	t.Parallel()
	o := Options{
		Tags:    []string{"app", "registry.example/team/app:v1"},
		Outputs: []Output{{Type: "image", Names: []string{"other"}}, {Type: "local"}, {Type: "oci", Names: []string{"app:v2"}}},
	}
	if err := o.Normalize(); err != nil {
		t.Fatal(err)
	}
	wantList(t, "tags", o.Tags, app, hosts)
	wantList(t, "first output", o.Outputs[0].Names, other)
	wantList(t, "third output", o.Outputs[2].Names, "docker.io/library/app:v2")

	o = Options{Tags: []string{"app", "App"}}
	wantError(t, o.Normalize(), "invalid tag", `"App"`)
	o = Options{Outputs: []Output{{Type: "image", Names: []string{"app:"}}}}
	wantError(t, o.Normalize(), "invalid name of --output", `"app:"`)
}

// TestCheckNames checks which outputs can have a name together: those of the same
// compression, and those that do not use it as a name in the store or a registry.
func TestCheckNames(t *testing.T) {
	t.Parallel()
	const conflict = "app is the target of two outputs with different compression: use different names"
	for name, test := range map[string]struct {
		options Options
		want    string // "" is no error
	}{
		"tag and output": {Options{Tags: []string{app}, Outputs: []Output{{Type: "image", Names: []string{app}, Compression: &zstd}}},
			strings.Replace(conflict, "app", "app:latest", 1)},
		"two outputs": {Options{Outputs: []Output{{Type: "registry", Names: []string{app}}, {Type: "image", Names: []string{app}, Compression: &zstd}}},
			strings.Replace(conflict, "app", "app:latest", 1)},
		"tags of an output without names": {Options{Tags: []string{hosts}, Outputs: []Output{{Type: "registry", Compression: &zstd}}},
			"registry.example/team/app:v1 is the target"},
		"same compression":          {Options{Tags: []string{app}, Outputs: []Output{{Type: "image", Names: []string{app}, Compression: &gzipped}}}, ""},
		"same by inheritance":       {Options{Compression: zstd, Tags: []string{app}, Outputs: []Output{{Type: "image", Compression: &zstd}}}, ""},
		"archive":                   {Options{Tags: []string{app}, Outputs: []Output{{Type: "oci", Names: []string{app}, Compression: &zstd}}}, ""},
		"by digest":                 {Options{Tags: []string{app}, Outputs: []Output{{Type: "registry", Names: []string{app}, ByDigest: true, Compression: &zstd}}}, ""},
		"names of its own":          {Options{Tags: []string{app}, Outputs: []Output{{Type: "image", Names: []string{other}, Compression: &zstd}}}, ""},
		"no names, tags are pushed": {Options{Tags: []string{app}, Push: true, Outputs: []Output{{Type: "registry", Compression: &zstd}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			switch err := test.options.Check(nil); {
			case test.want != "":
				wantError(t, err, test.want)
			case err != nil:
				t.Error(err)
			}
		})
	}
}

// TestCheckAnnotations checks that annotations of documents that are not made are
// rejected, with their name and the platforms that are built.
func TestCheckAnnotations(t *testing.T) {
	t.Parallel()
	amd, arm := platform(t, "linux/amd64"), platform(t, "linux/arm64")
	spelled := layer.Platform{OS: "linux", Architecture: "aarch64"}
	for name, test := range map[string]struct {
		annotation Annotation
		docker     bool
		platforms  []layer.Platform
		want       []string // none: no error
	}{
		"manifest":              {Annotation{Name: "k"}, false, []layer.Platform{amd}, nil},
		"index":                 {Annotation{Name: "k", Index: true}, false, []layer.Platform{amd, arm}, nil},
		"index of one platform": {Annotation{Name: "k", Index: true}, false, []layer.Platform{amd}, []string{"annotation k: an image of one platform has no index"}},
		"index descriptor of one platform": {Annotation{Name: "k", Index: true, Descriptor: true}, false, []layer.Platform{arm},
			[]string{"annotation k: an image of one platform has no index"}},
		"platform":                  {Annotation{Name: "k", Platform: &arm}, false, []layer.Platform{amd, arm}, nil},
		"another spelling":          {Annotation{Name: "k", Platform: &spelled}, false, []layer.Platform{amd, arm}, nil},
		"platform that is missing":  {Annotation{Name: "k", Platform: &arm}, false, []layer.Platform{amd}, []string{"annotation k: it is for linux/arm64, but the image is for linux/amd64"}},
		"platform that all miss":    {Annotation{Name: "k", Platform: ptr(platform(t, "linux/s390x"))}, false, []layer.Platform{amd, arm}, []string{"k: it is for linux/s390x, but the images are for linux/amd64, linux/arm64"}},
		"media types without field": {Annotation{Name: "k"}, true, []layer.Platform{amd}, []string{"annotation k", "Docker's media types", "leave out oci-mediatypes=false"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := Options{Annotations: []Annotation{test.annotation}, DockerTypes: test.docker}
			err := o.Check(test.platforms)
			if len(test.want) > 0 {
				wantError(t, err, test.want...)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// TestCompressionOrder checks that the image's compression comes first, that outputs inherit
// it, and that outputs without layers have none.
func TestCompressionOrder(t *testing.T) {
	t.Parallel()
	plain := Compression{Options: compress.Options{Format: compress.Uncompressed}}
	o := Options{Compression: zstd, Outputs: []Output{
		{Type: "oci"},
		{Type: "registry", Compression: &gzipped},
		{Type: "docker", Compression: &gzipped},
		{Type: "tar", Compression: &plain},
		{Type: "local", Compression: &plain},
	}}
	if got := o.compressions(); !slices.Equal(got, []Compression{zstd, gzipped}) {
		t.Errorf("compressions %v", got)
	}
	if got := o.compression(o.Outputs[0]); got != zstd {
		t.Errorf("inherited %v", got)
	}
	o.Outputs = append(o.Outputs, Output{Type: "image", Compression: &plain})
	if got := o.compressions(); !slices.Equal(got, []Compression{zstd, gzipped, plain}) {
		t.Errorf("compressions %v", got)
	}
}

// TestPushedRefs checks which references are pushed with which compression.
func TestPushedRefs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options                  Options
		gzip, zstd, digest, zdig []string
	}{
		"nothing":           {options: Options{Tags: []string{app}, Outputs: []Output{{Type: "image", Names: []string{other}}, {Type: "oci"}}}},
		"tags":              {options: Options{Tags: []string{app, hosts}, Push: true}, gzip: []string{app, hosts}},
		"tags of an output": {options: Options{Tags: []string{app}, Outputs: []Output{{Type: "registry"}}}, gzip: []string{app}},
		"tags once":         {options: Options{Tags: []string{app}, Push: true, Outputs: []Output{{Type: "registry"}}}, gzip: []string{app}},
		"names replace tags": {options: Options{Tags: []string{app}, Outputs: []Output{{Type: "registry", Names: []string{other}}}},
			gzip: []string{other}},
		"image with push": {options: Options{Outputs: []Output{{Type: "image", Push: true, Names: []string{other}}}}, gzip: []string{other}},
		"two compressions": {options: Options{Tags: []string{app}, Push: true, Outputs: []Output{{Type: "registry", Names: []string{other}, Compression: &zstd}}},
			gzip: []string{app}, zstd: []string{other}},
		"by digest": {options: Options{Outputs: []Output{{Type: "registry", ByDigest: true, Names: []string{hosts}}}}, digest: []string{hosts}},
		"by digest with compression": {options: Options{Outputs: []Output{{Type: "image", Push: true, ByDigest: true, Names: []string{hosts}, Compression: &zstd}}},
			zdig: []string{hosts}},
		"by digest without push": {options: Options{Outputs: []Output{{Type: "image", ByDigest: true, Names: []string{hosts}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := test.options
			wantList(t, "gzip", o.pushedRefs(gzipped), test.gzip...)
			wantList(t, "zstd", o.pushedRefs(zstd), test.zstd...)
			wantList(t, "gzip by digest", o.pushedByDigest(gzipped), test.digest...)
			wantList(t, "zstd by digest", o.pushedByDigest(zstd), test.zdig...)
		})
	}
}

// TestStoredNames checks under which names the store keeps an image, and that an image
// without names is kept by its digest unless another output has it.
func TestStoredNames(t *testing.T) {
	t.Parallel()
	untagged := Untagged(someDigest)
	canonical := "docker.io/library/app@" + string(someDigest)
	for name, test := range map[string]struct {
		options    Options
		gzip, zstd []string
	}{
		"no output":                 {Options{}, []string{untagged}, []string{untagged}},
		"tags":                      {Options{Tags: []string{app, hosts}}, []string{app, hosts}, []string{untagged}},
		"image without a name":      {Options{Outputs: []Output{{Type: "image"}}}, []string{untagged}, nil},
		"names":                     {Options{Tags: []string{app}, Outputs: []Output{{Type: "image", Names: []string{other}}}}, []string{app, other}, nil},
		"another compression":       {Options{Tags: []string{app}, Outputs: []Output{{Type: "image", Names: []string{other}, Compression: &zstd}}}, []string{app}, []string{other}},
		"by digest":                 {Options{Outputs: []Output{{Type: "registry", ByDigest: true, Names: []string{app}}}}, []string{untagged}, nil},
		"archive only":              {Options{Outputs: []Output{{Type: "oci", Names: []string{app}}}}, nil, nil},
		"archive and tag":           {Options{Tags: []string{app}, Outputs: []Output{{Type: "oci"}}}, []string{app}, nil},
		"canonical":                 {Options{Tags: []string{app}, Outputs: []Output{{Type: "image", Canonical: true}}}, []string{app, canonical}, nil},
		"canonical and a name":      {Options{Outputs: []Output{{Type: "image", Names: []string{app}, Canonical: true}}}, []string{app, canonical}, nil},
		"canonical and by digest":   {Options{Outputs: []Output{{Type: "registry", Names: []string{app}, ByDigest: true, Canonical: true}}}, []string{canonical}, nil},
		"compression of no archive": {Options{Outputs: []Output{{Type: "docker", Compression: &zstd}}}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantList(t, "gzip", test.options.storedNames(gzipped, someDigest), test.gzip...)
			wantList(t, "zstd", test.options.storedNames(zstd, someDigest), test.zstd...)
		})
	}
}
