package sbom

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
)

var update = flag.Bool("update", false, "rewrite the golden documents")

func sampleImage(t testing.TB) *Image {
	t.Helper()
	var m Merger
	addLayer(t, &m, entry{name: "etc/os-release", body: "ID=alpine\nVERSION_ID=3.20\nPRETTY_NAME=\"Alpine <3>\"\nCPE_NAME=cpe:2.3:o:alpine\n"},
		entry{name: "lib/apk/db/installed", body: "P:a++\nV:1-r0\nA:x86_64\nL:MIT AND ISC\no:b\n"})
	addLayer(t, &m, npm("n/node_modules/@s/x/package.json", "@s/x"), npm("m/package.json", "@s/x"), entry{name: "bad/package.json", body: "{"},
		entry{name: "x-1.dist-info/METADATA", body: "Name: x\nVersion: 1\nLicense: My own <one>\n"})
	v, err := m.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	digest := func(s string) layer.Digest { return layer.Digest("sha256:" + strings.Repeat(s, 64)) }
	img := layer.Image{Digest: digest("d"), Config: []byte(`{"os":"linux","architecture":"amd64","created":"2023-11-14T22:13:20Z",
		"history":[{"created_by":"ADD root.tar / # buildkit"},{"created_by":"ENV A=b","empty_layer":true},{"created_by":"COPY  . /"}]}`),
		Layers: []layer.Descriptor{{Digest: digest("1"), DiffID: digest("a")}, {Digest: digest("2"), DiffID: digest("b")}}}
	out, err := NewImage("registry.example:5000/me/app:1", img, v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDocuments(t *testing.T) {
	img := sampleImage(t)
	if want := time.Unix(1700000000, 0); !img.Created.Equal(want) {
		t.Errorf("created %v, want %v", img.Created, want)
	}
	d := Document{Created: img.Created, Version: "v1.2.3"}
	for name, write := range map[string]func(io.Writer) error{
		"spdx.json":      func(w io.Writer) error { return WriteSPDX(w, img, d) },
		"cyclonedx.json": func(w io.Writer) error { return WriteCycloneDX(w, img, d) },
		"table.txt":      func(w io.Writer) error { return WriteTable(w, img) },
	} {
		var b, again bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		if err := write(&again); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
			t.Errorf("%s: two writes differ (%v)", name, err)
		}
		path := "testdata/golden/" + name
		if *update {
			if err := os.MkdirAll("testdata/golden", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Bytes(), want) {
			t.Errorf("%s differs from the golden file:\n%s", name, b.Bytes())
		}
		if strings.HasSuffix(name, ".json") && !json.Valid(b.Bytes()) {
			t.Errorf("%s is not valid", name)
		}
	}
}

// Each identifier of a document is there once.
func TestIdentifiers(t *testing.T) {
	img := sampleImage(t)
	p := img.Packages[0]
	p.License = "other"
	img.Packages = append(img.Packages, p)
	var b bytes.Buffer
	if err := WriteSPDX(&b, img, Document{}); err != nil {
		t.Fatal(err)
	}
	var doc spdxDocument
	if err := json.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range doc.Packages {
		if seen[p.ID] {
			t.Errorf("%s is there twice", p.ID)
		}
		seen[p.ID] = true
	}
	for _, r := range doc.Relationships {
		if !seen[r.To] {
			t.Errorf("relationship to %s, which is not there", r.To)
		}
	}
}
