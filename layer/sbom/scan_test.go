package sbom

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// entry is an entry of a tar: a file with contents, or a link.
type entry struct {
	name, body string
	kind       byte // 0 for a file
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: 0o755}
		switch e.kind {
		case 0, tar.TypeReg:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.body))
		default:
			h.Linkname = e.body
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, e.body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func addLayer(t testing.TB, m *Merger, entries ...entry) {
	t.Helper()
	b := archive(t, entries...)
	l, x, err := Scan(func(f func(io.Reader) error) error { return f(bytes.NewReader(b)) }, Options{Temp: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	m.Add(l, x)
}

// listed returns the packages as lines NAME@VERSION PATH:LAYER.
func listed(t testing.TB, m *Merger) []string {
	t.Helper()
	v, err := m.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, p := range v.Packages {
		s := p.Name + "@" + p.Version
		for _, w := range p.Places {
			s += fmt.Sprintf(" %s:%d", w.Path, w.Layer)
		}
		lines = append(lines, s)
	}
	for _, p := range v.Problems {
		lines = append(lines, "problem "+p.Path+": "+p.Text)
	}
	return lines
}

func check(t testing.TB, m *Merger, want ...string) {
	t.Helper()
	if got := listed(t, m); !slices.Equal(got, want) {
		t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func npm(path, name string) entry {
	return entry{name: path, body: `{"name":"` + name + `","version":"1"}`}
}

func dpkg(names ...string) entry {
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "Package: %s\nStatus: install ok installed\nVersion: 1\n\n", n)
	}
	return entry{name: "var/lib/dpkg/status", body: b.String()}
}

func TestLaterLayers(t *testing.T) {
	var m Merger
	addLayer(t, &m, dpkg("a", "b", "c"), npm("app/n/package.json", "n"), npm("app/o/package.json", "o"), npm("opt/p/package.json", "p"),
		npm("srv/q/package.json", "q"), npm("r/package.json", "r"))
	addLayer(t, &m, dpkg("a", "b", "d"))
	addLayer(t, &m, dpkg("a", "d", "c"), entry{name: "app/.wh.n"}, entry{name: "opt/.wh..wh..opq"}, entry{"srv", "elsewhere", tar.TypeSymlink},
		entry{name: "r/package.json", body: `{}`})
	check(t, &m, "a@1 /var/lib/dpkg/status:0", "c@1 /var/lib/dpkg/status:2", "d@1 /var/lib/dpkg/status:1", "o@1 /app/o/package.json:0")
}

func TestReplacedDatabase(t *testing.T) {
	for _, e := range []entry{{name: "var/lib/dpkg/.wh.status"}, {name: "var/.wh.lib"}, {"var/lib/dpkg/status", "x", tar.TypeSymlink}, {name: "var/lib/dpkg/status"}} {
		var m Merger
		addLayer(t, &m, dpkg("a"))
		addLayer(t, &m, e)
		check(t, &m)
	}
}

func TestSeveralPlaces(t *testing.T) {
	var m Merger
	addLayer(t, &m, npm("a/node_modules/x/package.json", "x"))
	addLayer(t, &m, npm("b/node_modules/x/package.json", "x"), npm("c/package.json", "@s/y"))
	check(t, &m, "@s/y@1 /c/package.json:1", "x@1 /a/node_modules/x/package.json:0 /b/node_modules/x/package.json:1")
}

// A parent of a path in a tar may be a symlink of the layer below.
func TestSymlinkedParents(t *testing.T) {
	var m Merger
	addLayer(t, &m, entry{"usr/lib/apk/db/x", "", tar.TypeDir}, entry{"lib", "usr/lib", tar.TypeSymlink})
	addLayer(t, &m, entry{name: "lib/apk/db/installed", body: "P:a\nV:1\n"})
	addLayer(t, &m, entry{name: "usr/lib/apk/db/installed", body: "P:a\nV:1\n\nP:b\nV:2\n"})
	check(t, &m, "a@1 /usr/lib/apk/db/installed:1", "b@2 /usr/lib/apk/db/installed:2")
}

// Only a hard link may have the name by which a file is known.
func TestHardLinks(t *testing.T) {
	var m Merger
	addLayer(t, &m, entry{name: "store/1", body: `{"name":"n","version":"1"}`}, entry{"z/package.json", "store/1", tar.TypeLink},
		npm("m/package.json", "m"), entry{"a", "m/package.json", tar.TypeLink})
	check(t, &m, "m@1 /m/package.json:0", "n@1 /z/package.json:0")
	addLayer(t, &m, entry{name: ".wh.store"}, entry{name: ".wh.a"})
	check(t, &m, "m@1 /m/package.json:0", "n@1 /z/package.json:0")
	addLayer(t, &m, entry{name: ".wh.z"})
	check(t, &m, "m@1 /m/package.json:0")
}

func TestPython(t *testing.T) {
	var m Merger
	dir := "usr/lib/python3/dist-packages/"
	addLayer(t, &m, entry{name: dir + "A-1.dist-info/METADATA", body: "Name: A\nVersion: 1\n"},
		entry{name: dir + "A-1.dist-info/direct_url.json", body: `{"url":"https://h/r","vcs_info":{"vcs":"git","commit_id":"12"}}`},
		entry{name: dir + "B.egg-info", body: "Name: B\nVersion: 2\n"}, entry{name: dir + "C.egg-info/PKG-INFO", body: "Name: C\nVersion: 3\n"},
		entry{name: "src/PKG-INFO", body: "Name: no\nVersion: 3\n"})
	check(t, &m, "a@1 /"+dir+"A-1.dist-info/METADATA:0", "b@2 /"+dir+"B.egg-info:0", "c@3 /"+dir+"C.egg-info/PKG-INFO:0")
	v, err := m.Inventory()
	if err != nil || v.Packages[0].PURL != "pkg:pypi/a@1?vcs_url=git%2Bhttps%3A%2F%2Fh%2Fr%4012" {
		t.Errorf("package URL %s, %v", v.Packages[0].PURL, err)
	}
}

func TestDistribution(t *testing.T) {
	var m Merger
	addLayer(t, &m, entry{name: "usr/lib/os-release", body: "ID=debian\nVERSION_ID=12\n"}, entry{"etc/os-release", "../usr/lib/os-release", tar.TypeSymlink},
		entry{name: "etc/debian_version", body: "12.4\n"}, entry{name: "var/lib/dpkg/status.d/a", body: "Package: a\nVersion: 1\n"},
		entry{name: "var/lib/dpkg/status.d/a.md5sums", body: "Package: no\n"})
	v, err := m.Inventory()
	if err != nil || len(v.Packages) != 1 || v.Packages[0].PURL != "pkg:deb/debian/a@1?distro=debian-12.4" {
		t.Errorf("got %+v, %v", v.Packages, err)
	}
	addLayer(t, &m, entry{name: "etc/.wh.debian_version"})
	if v, err = m.Inventory(); err != nil || v.Packages[0].PURL != "pkg:deb/debian/a@1?distro=debian-12" {
		t.Errorf("got %+v, %v", v.Packages, err)
	}
}

// A file that cannot be parsed is named, and hides the one below.
func TestProblems(t *testing.T) {
	var m Merger
	addLayer(t, &m, npm("a/package.json", "a"), npm("b/package.json", "b"))
	addLayer(t, &m, entry{name: "a/package.json", body: `{"name`}, entry{name: "etc/os-release", body: strings.Repeat("x", mb+1)},
		entry{name: "c/package.json", body: `{"name":"x\u001b[1m"}`}, entry{name: "lib/apk/db/installed", body: "P:" + strings.Repeat("a", maxField+1)})
	check(t, &m, "b@1 /b/package.json:0", "problem /a/package.json: unexpected end of JSON input", `problem /c/package.json: a control character in "x\x1b[1m"`,
		"problem /etc/os-release: a file of 1048577 bytes, want at most 1048576", "problem /lib/apk/db/installed: a field of 4097 bytes, want at most 4096")
}

// A hostile image cannot make the list of problems grow without a limit.
func TestManyProblems(t *testing.T) {
	var m Merger
	var all []entry
	for i := range maxProblems + 5 {
		all = append(all, entry{name: fmt.Sprintf("d%d/package.json", i), body: "{"})
	}
	addLayer(t, &m, all...)
	lines := listed(t, &m)
	if len(lines) != maxProblems+1 || lines[maxProblems] != "problem /: 5 more files have a problem" {
		t.Errorf("%d problems, the last %s", len(lines), lines[len(lines)-1])
	}
}

func TestDeepJSON(t *testing.T) {
	var m Merger
	addLayer(t, &m, entry{name: "package.json", body: `{"name":` + strings.Repeat("[", 1_000_000)})
	check(t, &m, "problem /package.json: invalid character '[' exceeded max depth")
}

func TestGoProgram(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/m/v2\ngo 1.24\n", "main.go": "package main\nimport \"fmt\"\nfunc main() { fmt.Println(1) }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-s -w -X main.version=1.2.3", "-o", "p", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p, err := os.ReadFile(filepath.Join(dir, "p"))
	if err != nil {
		t.Fatal(err)
	}
	var m Merger
	addLayer(t, &m, entry{name: "bin/p", body: string(p)}, entry{name: "bin/text", body: strings.Repeat("MZ", minExecutable)})
	got := listed(t, &m)
	if len(got) != 2 || got[0] != "example.com/m/v2@v1.2.3 /bin/p:0" || !strings.HasPrefix(got[1], "stdlib@1.") {
		t.Errorf("got %q", got)
	}
	addLayer(t, &m, entry{name: "bin/p", body: "#!/bin/sh\n"})
	check(t, &m)
}

// A program larger than the part that is kept in memory.
func TestContents(t *testing.T) {
	var c contents
	defer c.close()
	for _, n := range []int{10, inMemory - 1, inMemory, inMemory + 1, 2*inMemory + 7, 3} {
		want := bytes.Repeat([]byte("0123456"), n/7+1)[:n]
		c.begin(t.TempDir(), int64(n)+1, false)
		if _, err := io.Copy(&c, bytes.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		got, err := c.bytes()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
		part := make([]byte, 20)
		k, err := c.ReadAt(part, int64(n)-5)
		if n >= 5 && (k != 5 || !errors.Is(err, io.EOF) || !bytes.Equal(part[:5], want[n-5:])) {
			t.Errorf("end of %d bytes: %d, %v", n, k, err)
		}
	}
}

// debug/elf would expand the names of sections without a limit.
func TestCompressedSectionNames(t *testing.T) {
	b := make([]byte, 64+64)
	copy(b, "\x7fELF\x02\x01\x01")
	b[40] = 64 // e_shoff
	b[58], b[60] = 64, 1
	b[64+8+1] = 0x08 // SHF_COMPRESSED
	if _, err := parseGo(bytes.NewReader(b)); !errors.Is(err, errCompressedNames) {
		t.Errorf("error %v", err)
	}
}

func FuzzScan(f *testing.F) {
	f.Add(archive(f, dpkg("a", "b"), npm("a/package.json", "n"), entry{"b/package.json", "a/package.json", tar.TypeLink}, entry{name: "a/.wh.x"}), archive(f, entry{name: ".wh.a"}))
	f.Add(archive(f, entry{"lib", "usr/lib", tar.TypeSymlink}, entry{name: "usr/lib/apk/db/installed", body: "P:a\n"}), archive(f, entry{name: "lib/apk/db/installed", body: "P:b\n"}))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var m Merger
		for _, tar := range [][]byte{a, b} {
			l, x, err := Scan(func(f func(io.Reader) error) error { return f(bytes.NewReader(tar)) }, Options{Temp: t.TempDir()})
			if err != nil {
				return
			}
			m.Add(l, x)
		}
		v, err := m.Inventory()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range v.Packages {
			if len(p.Places) == 0 {
				t.Errorf("%+v has no place", p)
			}
		}
	})
}

// walkFiles calls f for each regular file.
func walkFiles(root fs.FS, f func(path string, b []byte)) error {
	return fs.WalkDir(root, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := fs.ReadFile(root, path)
		f(path, b)
		return err
	})
}
