package sbom

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
)

// nodeModules is the tar of 1,250 packages with 24 files each.
func nodeModules(b *testing.B) []byte {
	var all []entry
	text := strings.Repeat("function f() { return 1 }\n", 60)
	for i := range 1250 {
		dir := fmt.Sprintf("app/node_modules/p%d/", i)
		all = append(all, entry{name: dir + "package.json", body: fmt.Sprintf(`{"name":"p%d","version":"1.%d.0","license":"MIT","description":%q}`, i, i%17, text[:300])})
		for k := range 23 {
			all = append(all, entry{name: fmt.Sprintf("%slib/f%d.js", dir, k), body: text})
		}
	}
	return archive(b, all...)
}

func scanned(b *testing.B, tar []byte) (*Layer, *Merger) {
	l, x, err := Scan(func(f func(io.Reader) error) error { return f(bytes.NewReader(tar)) }, Options{Temp: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	m := &Merger{}
	m.Add(l, x)
	return l, m
}

// BenchmarkScan reads a layer of 30,000 files.
func BenchmarkScan(b *testing.B) {
	tar := nodeModules(b)
	b.SetBytes(int64(len(tar)))
	for b.Loop() {
		if l, _ := scanned(b, tar); len(l.Files) != 1250 {
			b.Fatalf("%d files", len(l.Files))
		}
	}
}

// BenchmarkDocument writes the document of an image whose packages the store knows.
func BenchmarkDocument(b *testing.B) {
	_, m := scanned(b, nodeModules(b))
	v, err := m.Inventory()
	if err != nil {
		b.Fatal(err)
	}
	stored, err := json.Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		img := &Image{Name: "app", Digest: layer.FromBytes(nil), Layers: []LayerInfo{{}}, Inventory: &Inventory{}}
		if err := json.Unmarshal(stored, img.Inventory); err != nil {
			b.Fatal(err)
		}
		if err := WriteSPDX(io.Discard, img, Document{}); err != nil {
			b.Fatal(err)
		}
	}
}
