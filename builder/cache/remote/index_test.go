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
	"github.com/cairn-build/cairn/layer/index"
)

// shelf is a place that gives one blob, whatever it is asked for.
type shelf struct {
	memory
	blob []byte
}

func (s *shelf) open(context.Context, layer.Blob) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s.blob)), nil
}

// packed compresses a tar with one file.
func packed(t *testing.T, name string, content []byte) (layer.Blob, []byte) {
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

// What a cache says of a layer is foreign: whatever is not as it should be is an
// error, and costs no more memory than an index may.
func TestForeignIndexes(t *testing.T) {
	x := &index.Index{Entries: []index.Entry{{Path: "etc", Type: index.TypeDir, Mode: 0o755}}}
	good, goodBytes := packed(t, indexFile, x.Encode())
	other := good
	other.DiffID = layer.FromBytes([]byte("something else"))
	large := good
	large.Size = maxPacked + 1
	named, namedBytes := packed(t, "../../etc/passwd", x.Encode())
	torn, tornBytes := packed(t, indexFile, x.Encode()[:10])
	plain := layer.Blob{Digest: good.Digest, DiffID: good.DiffID, Size: 4}
	for _, tt := range []struct {
		name  string
		blob  layer.Blob
		bytes []byte
		want  string // in the error; "" is none
	}{
		{"good", good, goodBytes, ""},
		{"another layer", other, goodBytes, "it holds " + string(good.DiffID)},
		{"too large", large, goodBytes, "at most"},
		{"another file", named, namedBytes, "not an index"},
		{"a damaged index", torn, tornBytes, "index"},
		{"no archive", plain, []byte("what"), "EOF"},
		{"nothing", plain, nil, "EOF"},
	} {
		of := layer.FromBytes([]byte("a layer"))
		doc := &document{Version: version, Indexes: []indexRef{{Of: of, Layer: 1}}}
		c := newCache(Where{Dir: "here"}, &shelf{blob: tt.bytes}, doc, []layer.Blob{tt.blob})
		got, err := c.Index(t.Context(), of)
		switch {
		case tt.want == "" && (err != nil || len(got.Entries) != 1):
			t.Errorf("%s: %v, %v", tt.name, got, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want an error with %q", tt.name, err, tt.want)
		}
	}
}
