package sbom

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestParsers(t *testing.T) {
	tests := []struct {
		name  string
		parse func([]byte) ([]Package, error)
		in    string
		want  []Package
		err   string
	}{
		{"dpkg", parseDpkg, "\n\nPackage: a\nSTATUS: install ok installed\nArchitecture: all\nSource: b (1-2)\nVersion: 1:2+b1\nDescription: text\n text\n .\n\n" +
			"Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nVersion: 2\n\nPackage: c\nVersion: 3\nSource: d",
			[]Package{{Type: Deb, Name: "a", Version: "1:2+b1", Arch: "all", Source: "b@1-2"}, {Type: Deb, Name: "c", Version: "3", Source: "d"}}, ""},
		{"twice", parseDpkg, "Package: a\nPackage: b\n", nil, "line 2: field package is there twice"},
		{"long", parseDpkg, "Package: " + strings.Repeat("a", maxField+1), nil, "a field of 4097 bytes, want at most 4096"},
		{"apk", parseAPK, "P:a\nV:1-r0\nA:x86_64\no:a\nL:MIT\nF:etc\nR:x\n\n\n\nP:b\nV:2\no:c\nL:MIT OR X\n",
			[]Package{{Type: APK, Name: "a", Version: "1-r0", Arch: "x86_64", License: "MIT"}, {Type: APK, Name: "b", Version: "2", Source: "c", License: "MIT OR X"}}, ""},
		{"nameless", parseAPK, "V:1\n\nP:b\n", nil, "line 2: a package without a name"},
		{"npm", parseNPM, `{"name":"@s/a","version":"1.0.0","license":{"type":"ISC"},"dependencies":7}`, []Package{{Type: NPM, Name: "@s/a", Version: "1.0.0", License: "ISC"}}, ""},
		{"licenses", parseNPM, `{"name":"a","version":3,"licenses":[{"type":"MIT"}]}`, []Package{{Type: NPM, Name: "a", License: "MIT"}}, ""},
		{"anonymous", parseNPM, `{"type":"module"}`, nil, ""},
		{"not an object", parseNPM, `[]`, nil, ""},
		{"broken", parseNPM, `{"name":`, nil, "unexpected end of JSON input"},
		{"python", parsePython, "Metadata-Version: 2.1\nName: A_b.-C\nVersion: 1.0\nLicense: MIT\n\nName: other\n", []Package{{Type: PyPI, Name: "a-b-c", Version: "1.0", License: "MIT"}}, ""},
		{"license text", parsePython, "Name: a\r\nLicense: Copyright\r\n  All rights reserved\r\nVersion: 1\r\n", []Package{{Type: PyPI, Name: "a", Version: "1"}}, ""},
		{"expression", parsePython, "Name: a\nLicense-Expression: MIT\nLicense: other\nVersion: 1\n", []Package{{Type: PyPI, Name: "a", Version: "1", License: "MIT"}}, ""},
		{"vcs", parseDirectURL, `{"url":"https://h/r","vcs_info":{"vcs":"git","commit_id":"12"}}`, []Package{{Type: PyPI, VCS: "git+https://h/r@12"}}, ""},
		{"no vcs", parseDirectURL, `{"url":"https://h/r","archive_info":{}}`, nil, ""},
	}
	for _, tt := range tests {
		got, err := tt.parse([]byte(tt.in))
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: error %v, want %q", tt.name, err, tt.err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestTooManyPackages(t *testing.T) {
	b := bytes.Repeat([]byte("P:a\n\n"), maxPackages+1)
	if _, err := parseAPK(b); err == nil || !strings.Contains(err.Error(), "more than 200000 packages") {
		t.Errorf("error %v", err)
	}
}

func TestParseOSRelease(t *testing.T) {
	got := parseOSRelease([]byte("# ID=no\nID=\"a b\"\nID_LIKE='debian x'\nVERSION_ID=12\\\"\nPRETTY_NAME=\"Q \\$ \\\"x\\\"\"\nCPE_NAME=cpe:/o:x\nBUILD_ID=7\nrubbish\n"))
	want := &OS{ID: "a b", Like: []string{"debian", "x"}, VersionID: `12"`, Pretty: `Q $ "x"`, CPE: "cpe:/o:x", BuildID: "7"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for in, want := range map[string]string{"12.4\n": "12.4", "13": "13", "trixie/sid": "", "12.": "", "": "", "1.2.3": ""} {
		if got := debianVersion([]byte(in)); got != want {
			t.Errorf("debianVersion(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestPURL(t *testing.T) {
	debian := &OS{ID: "debian", VersionID: "12"}
	derived := &OS{ID: "own", Like: []string{"debian"}, BuildID: "7"}
	tests := []struct {
		p    Package
		os   *OS
		want string
	}{
		{Package{Type: Deb, Name: "libstdc++6", Version: "1:2~3+b1", Arch: "amd64", Source: "gcc@1"}, debian,
			"pkg:deb/debian/libstdc%2B%2B6@1%3A2~3%2Bb1?arch=amd64&distro=debian-12&upstream=gcc%401"},
		{Package{Type: Deb, Name: "a", Version: "1"}, derived, "pkg:deb/own/a@1?distro=own-7"},
		{Package{Type: Deb, Name: "a", Version: "1"}, nil, ""},
		{Package{Type: Deb, Name: "a", Version: "1"}, &OS{ID: "alpine"}, ""},
		{Package{Type: APK, Name: "a b", Version: "1"}, &OS{ID: "Alpine"}, "pkg:apk/alpine/a%20b@1?distro=Alpine"},
		{Package{Type: NPM, Name: "@s/n", Version: "1"}, nil, "pkg:npm/%40s/n@1"},
		{Package{Type: NPM, Name: "n"}, nil, "pkg:npm/n"},
		{Package{Type: Golang, Name: "a.b/C/v2", Version: "v2.0.0+incompatible"}, nil, "pkg:golang/a.b/C/v2@v2.0.0%2Bincompatible"},
		{Package{Type: PyPI, Name: "n", Version: "1", VCS: "git+https://h/r@1"}, nil, "pkg:pypi/n@1?vcs_url=git%2Bhttps%3A%2F%2Fh%2Fr%401"},
	}
	for _, tt := range tests {
		if got := tt.p.PURL(tt.os); got != tt.want {
			t.Errorf("PURL of %q: got %s, want %s", tt.p, got, tt.want)
		}
	}
}

func TestIsExpression(t *testing.T) {
	for s, want := range map[string]bool{
		"MIT": true, "(MIT OR Apache-2.0)": true, "GPL-2.0+": true, "GPL-2.0-only WITH Classpath-exception-2.0 AND (MIT)": true,
		"": false, "AND": false, "MIT OR": false, "MIT MIT": false, "(MIT": false, "MIT)": false, "()": false, "BSD": false, "mit": false, "a": false, "0": false, "X11": true, "0BSD": true, "+": false,
	} {
		if got := isExpression(s); got != want {
			t.Errorf("isExpression(%q) = %v", s, got)
		}
	}
}

func TestGoCPE(t *testing.T) {
	for in, want := range map[string]string{"1.26.8": "1.26.8:-", "1.21rc2": "1.21:rc2", "1.24.0-X+fips": "1.24.0:-"} {
		if got := goCPE(in); got != "cpe:2.3:a:golang:go:"+want+":*:*:*:*:*:*" {
			t.Errorf("goCPE(%q) = %s", in, got)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"Package: a\nVersion: 1\n", "P:a\nV:1\n\n", `{"name":"a","license":{"type":"x"},"licenses":[{}]}`, "Name: a\nLicense: b\n c", "ID=\"a\\\nVERSION_ID='1'", `{"vcs_info":{"vcs":"git"}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func([]byte) ([]Package, error){parseDpkg, parseAPK, parseNPM, parsePython, parseDirectURL} {
			all, err := parse(b)
			if err != nil && len(all) > 0 {
				t.Error("packages and an error")
			}
			for _, p := range all {
				if len(p.Name) > maxField || strings.ContainsAny(p.Name+p.Version+p.License, "\n\x00") {
					t.Errorf("package %q", p)
				}
			}
		}
		parseOSRelease(b)
		debianVersion(b)
	})
}

func FuzzGo(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Add(append([]byte("MZ"), make([]byte, 200)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseGo(bytes.NewReader(b))
	})
}
