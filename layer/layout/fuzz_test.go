package layout

import (
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
)

// memory has the files of an archive by name.
type memory map[string]string

func (m memory) Close() error { return nil }

func (m memory) open(name string) (io.ReadCloser, int64, error) {
	text, ok := m[name]
	if !ok {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(strings.NewReader(text)), int64(len(text)), nil
}

func (m memory) blob(text string) string {
	d := layer.FromBytes([]byte(text))
	m[blobName(d)] = text
	return string(d)
}

// FuzzReadOCI reads a layout of four arbitrary documents. INNER, MANIFEST and CONFIG
// stand for the digests of the later ones, so that the fuzzer gets past their
// checks.
func FuzzReadOCI(f *testing.F) {
	const d = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	entry := func(mediaType, digest string) string {
		return `{"manifests":[{"mediaType":"` + mediaType + `","digest":"` + digest + `","size":1,"annotations":{"org.opencontainers.image.ref.name":"a/b:1"}}]}`
	}
	f.Add(entry(layer.MediaTypeIndex, "INNER"), entry(layer.MediaTypeManifest, "MANIFEST"),
		`{"schemaVersion":2,"config":{"mediaType":"`+layer.MediaTypeConfig+`","digest":"CONFIG","size":2},"layers":[]}`, `{}`)
	f.Add(entry(layer.DockerManifestList, "INNER"), entry(layer.DockerManifestList, d), `{}`, `{}`)
	f.Add(`{"manifests":[{"mediaType":"`+layer.MediaTypeIndex+`","digest":"sha256:../../index.json"}]}`, ``, ``, ``)
	f.Fuzz(func(t *testing.T, outer, inner, manifest, config string) {
		m := memory{}
		manifest = strings.ReplaceAll(manifest, "CONFIG", m.blob(config))
		inner = strings.ReplaceAll(inner, "MANIFEST", m.blob(manifest))
		m[indexFile] = strings.ReplaceAll(outer, "INNER", m.blob(inner))
		a := &Archive{files: m, names: map[layer.Digest]string{}}
		if a.readOCI() != nil {
			return
		}
		for _, n := range a.Images {
			if layer.FromBytes(n.Image.Manifest) != n.Image.Digest || layer.FromBytes(n.Image.Config) != n.Image.ConfigDigest {
				t.Errorf("the image %s is not what its digest says", n.Image.Digest)
			}
		}
		_, _ = a.Find("1", "")
	})
}

// TestIndexOfIndexes reads a layout that lists an index ten thousand times, which
// lists another ten thousand times. Reading all of them would take hours.
func TestIndexOfIndexes(t *testing.T) {
	t.Parallel()
	m := memory{}
	many := func(digest string) string {
		one := `{"mediaType":"` + layer.MediaTypeIndex + `","digest":"` + digest + `"}`
		return `{"manifests":[` + strings.Repeat(one+",", 9999) + one + `]}`
	}
	m[indexFile] = many(m.blob(many(m.blob(many(m.blob(`{}`))))))
	a := &Archive{files: m, names: map[layer.Digest]string{}}
	if err := a.readOCI(); err == nil || err.Error() != "index is too long" {
		t.Error(err)
	}
}
