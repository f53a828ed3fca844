package remote

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/listing"
)

// shelf is a backend that returns the same blob for all requests.
type shelf struct {
	memory
	blob []byte
}

func (s *shelf) open(context.Context, layer.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s.blob)), nil
}

// packed compresses a tar with one file.
func packed(t *testing.T, name string, content []byte) (layer.Descriptor, []byte) {
	t.Helper()
	var b bytes.Buffer
	out, err := compress.NewWriter(&b, compress.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(out)
	if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Blob(), b.Bytes()
}

// Indexes in a cache are untrusted: malformed ones are errors, and use no more memory
// than the limit for an index.
func TestForeignIndexes(t *testing.T) {
	x := &listing.Listing{Entries: []listing.Entry{{Path: "etc", Type: listing.TypeDir, Mode: 0o755}}}
	good, goodBytes := packed(t, indexFile, x.Encode())
	other := good
	other.DiffID = layer.FromBytes([]byte("something else"))
	large := good
	large.Size = maxPacked + 1
	named, namedBytes := packed(t, "../../etc/passwd", x.Encode())
	torn, tornBytes := packed(t, indexFile, x.Encode()[:10])
	plain := layer.Descriptor{Digest: good.Digest, DiffID: good.DiffID, Size: 4}
	for _, tt := range []struct {
		name  string
		blob  layer.Descriptor
		bytes []byte
		want  string // in the error; "" is none
	}{
		{"good", good, goodBytes, ""},
		{"another layer", other, goodBytes, "its diff ID is " + string(good.DiffID)},
		{"too large", large, goodBytes, "at most"},
		{"another file", named, namedBytes, "not a listing"},
		{"a damaged listing", torn, tornBytes, "listing: unknown format"},
		{"no archive", plain, []byte("what"), "EOF"},
		{"nothing", plain, nil, "EOF"},
	} {
		of := layer.FromBytes([]byte("a layer"))
		doc := &document{Version: version, Indexes: []indexRef{{Of: of, Layer: 1}}}
		c := newCache(Location{Dir: "here"}, &shelf{blob: tt.bytes}, doc, []layer.Descriptor{tt.blob})
		got, err := c.Index(t.Context(), of)
		switch {
		case tt.want == "" && (err != nil || len(got.Entries) != 1):
			t.Errorf("%s: %v, %v", tt.name, got, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want an error with %q", tt.name, err, tt.want)
		}
	}
}
