package sbom

import (
	"archive/zip"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

// The package URLs of testdata/peer/tree are those that syft 1.57.2 finds in an image of it
// (FROM scratch, COPY . /). testdata/peer/differences.txt has those of other images.
func TestPeer(t *testing.T) {
	b, err := os.ReadFile("testdata/peer/syft.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(string(b))
	var all []entry
	root := os.DirFS("testdata/peer/tree")
	err = walkFiles(root, func(path string, b []byte) { all = append(all, entry{name: path, body: string(b)}) })
	if err != nil {
		t.Fatal(err)
	}
	var m Merger
	addLayer(t, &m, all...)
	v, err := m.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range v.Packages {
		got = append(got, p.PURL)
	}
	slices.Sort(got)
	if len(got) < 20 || !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), b)
	}
}

func TestGemspec(t *testing.T) {
	for in, want := range map[string]string{
		"  s.name = \"a\".freeze\n  s.version = '1.0'\n s.licenses = [\"MIT\".freeze]": "a 1.0 MIT",
		"s.name = \"a#{x}\"\ns.version = \"1\"\n":                                      "",
		"s.name = x\ns.version = \"1\"":                                                "",
		"s.name = \"a\ns.version = \"1\"":                                              "",
	} {
		all, err := parseGemspec([]byte(in))
		got := ""
		if len(all) == 1 {
			got = all[0].Name + " " + all[0].Version + " " + all[0].License
		}
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
}

func TestComposer(t *testing.T) {
	all, err := parseComposer([]byte(`[{"name":"v/n","version":"1","license":["MIT"]},{"version":"2"},{"name":"n","version":"3"}]`))
	if err != nil || len(all) != 2 || all[0].PURL(nil) != "pkg:composer/v/n@1" || all[1].PURL(nil) != "pkg:composer/n@3" || all[0].License != "MIT" {
		t.Errorf("got %q, %v", all, err)
	}
	if _, err := parseComposer([]byte(`"no"`)); err == nil {
		t.Error("a string is no list of packages")
	}
}

func jar(t testing.TB, files ...entry) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		e, err := w.Create(f.name)
		if err == nil {
			_, err = io.WriteString(e, f.body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func kept(t testing.TB, name string, b []byte) *contents {
	c := &contents{name: name}
	t.Cleanup(c.close)
	c.begin(t.TempDir(), int64(len(b))+1, false)
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestHostileJars(t *testing.T) {
	deep := jar(t, entry{name: "META-INF/MANIFEST.MF", body: "A: b\n"})
	for range maxNested + 1 {
		deep = jar(t, entry{name: "x.jar", body: string(deep)})
	}
	if _, err := parseJava(kept(t, "x.jar", deep)); err == nil || !strings.Contains(err.Error(), "more than 5 archives in each other") {
		t.Errorf("deep: %v", err)
	}
	bomb := jar(t, entry{name: "x.jar", body: strings.Repeat("\x00", maxInner+1)})
	if _, err := parseJava(kept(t, "x.jar", bomb)); !errors.Is(err, errBomb) {
		t.Errorf("large: %v", err)
	}
	large := jar(t, entry{name: "META-INF/MANIFEST.MF", body: strings.Repeat("\x00", maxProperties+1)})
	if _, err := parseJava(kept(t, "x.jar", large)); !errors.Is(err, errBomb) {
		t.Errorf("manifest: %v", err)
	}
	header := append([]byte("PK\x01\x02"), make([]byte, 42)...)
	directory := bytes.Repeat(header, maxDirectory/len(header)+200_000)
	end := binary.LittleEndian.AppendUint32(append([]byte("PK\x05\x06"), make([]byte, 8)...), uint32(len(directory)))
	directory = append(append(directory, end...), make([]byte, 6)...)
	if _, err := parseJava(kept(t, "x.jar", directory)); !errors.Is(err, errBomb) {
		t.Errorf("directory: %v", err)
	}
	if _, err := parseJava(kept(t, "x.jar", []byte("no zip"))); err == nil {
		t.Error("no error for a file that is no archive")
	}
}

// program returns an ELF file with one section.
func program(name string, body []byte) []byte {
	names := "\x00" + name + "\x00.shstrtab\x00"
	at := 64 + len(body) + len(names)
	b := make([]byte, 64, at+3*64)
	copy(b, "\x7fELF\x02\x01\x01")
	order := binary.LittleEndian
	order.PutUint16(b[16:], 2)
	order.PutUint16(b[18:], 62)
	order.PutUint32(b[20:], 1)
	order.PutUint64(b[40:], uint64(at))
	order.PutUint16(b[52:], 64)
	order.PutUint16(b[58:], 64)
	order.PutUint16(b[60:], 3)
	order.PutUint16(b[62:], 2)
	b = append(append(b, body...), names...)
	section := func(name, kind, offset, size int) {
		s := make([]byte, 64)
		order.PutUint32(s, uint32(name))
		order.PutUint32(s[4:], uint32(kind))
		order.PutUint64(s[24:], uint64(offset))
		order.PutUint64(s[32:], uint64(size))
		b = append(b, s...)
	}
	section(0, 0, 0, 0)
	section(1, 1, 64, len(body))
	section(len(name)+2, 3, 64+len(body), len(names))
	return b
}

func deflated(s string) []byte {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.Bytes()
}

func TestRust(t *testing.T) {
	list := `{"packages":[{"name":"a","version":"1.0.0","source":"local","root":true},{"name":"b","version":"2","source":"crates.io"},{"name":"c","version":"3","kind":"build"}]}`
	all, err := parseRust(bytes.NewReader(program(".dep-v0", deflated(list))))
	if err != nil || len(all) != 2 || all[0].PURL(nil) != "pkg:cargo/a@1.0.0" || all[1].PURL(nil) != "pkg:cargo/b@2" {
		t.Errorf("got %q, %v", all, err)
	}
	if _, err := parseRust(bytes.NewReader(program(".dep-v0", deflated(strings.Repeat(" ", maxAudit+1))))); !errors.Is(err, errAudit) {
		t.Errorf("bomb: %v", err)
	}
	if all, err := parseRust(bytes.NewReader(program(".text", nil))); err != nil || all != nil {
		t.Errorf("another program: %q, %v", all, err)
	}
	var m Merger
	addLayer(t, &m, entry{name: "bin/p", body: string(program(".dep-v0", deflated(list))) + strings.Repeat("\x00", minExecutable)})
	check(t, &m, "a@1.0.0 /bin/p:0", "b@2 /bin/p:0")
}

func FuzzLanguages(f *testing.F) {
	f.Add([]byte("s.name = \"a\"\ns.version = \"1\"\ns.licenses = [\"MIT\"]"))
	f.Add([]byte(`[{"name":"a/b"}]`))
	f.Add([]byte(`{"runtimeTarget":{"name":"t"},"targets":{"t":{"a/1":{"runtime":{"a.dll":{}}}}},"libraries":{"a/1":{"type":"package"}}}`))
	f.Add(jar(f, entry{name: "META-INF/MANIFEST.MF", body: "A: b\n c\n"}, entry{name: "META-INF/maven/g/a/pom.properties", body: "groupId=g\nartifactId=a\n"},
		entry{name: "x.jar", body: string(jar(f, entry{name: "META-INF/MANIFEST.MF"}))}))
	f.Add(program(".dep-v0", deflated(`{"packages":[{"name":"a","version":"1"}]}`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseGemspec(b)
		_, _ = parseComposer(b)
		_, _ = parseDeps(kept(t, "a.deps.json", b))
		_, _ = parseJava(kept(t, "a-1.jar", b))
		_, _ = parseRust(bytes.NewReader(b))
	})
}
