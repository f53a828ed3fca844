package layer

import (
	"crypto/sha256"
	"strings"
	"testing"
)

func TestDigest(t *testing.T) {
	t.Parallel()
	const empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	if d := FromBytes(nil); d != empty {
		t.Errorf("FromBytes: %s", d)
	}
	if d := FromHash(sha256.New()); d != empty {
		t.Errorf("FromHash: %s", d)
	}
	if h := Digest(empty).Hex(); h != strings.TrimPrefix(empty, "sha256:") {
		t.Errorf("Hex: %s", h)
	}
	if err := Digest(empty).Validate(); err != nil {
		t.Error(err)
	}
	for _, d := range []Digest{
		"", "sha256:", "sha256:abc", Digest("sha512:" + empty[7:]), Digest(empty[7:]), empty + "0", Digest(strings.ToUpper(empty)),
		"sha256:../../../../../../../../../../../../../../../../../../../etc/passwd/", "sha256:" + Digest(strings.Repeat("g", 64)),
		Digest(empty[:70]) + "\n",
	} {
		if d.Validate() == nil {
			t.Errorf("accepted %q", d)
		}
	}
}

// The image specification defines the chain ID by this recursion.
func TestChainID(t *testing.T) {
	t.Parallel()
	a, b, c := FromBytes([]byte("a")), FromBytes([]byte("b")), FromBytes([]byte("c"))
	if id := ChainID(nil); id != "" {
		t.Errorf("no layers: %s", id)
	}
	if id := ChainID([]Digest{a}); id != a {
		t.Errorf("one layer: %s", id)
	}
	ab := FromBytes([]byte(a + " " + b))
	if id := ChainID([]Digest{a, b, c}); id != FromBytes([]byte(ab+" "+c)) {
		t.Errorf("three layers: %s", id)
	}
}

func TestParsePlatform(t *testing.T) {
	t.Parallel()
	host := HostPlatform()
	tests := []struct{ in, want string }{
		{"linux/amd64", "linux/amd64"},
		{"linux/x86_64", "linux/amd64"},
		{"Linux/X86-64", "linux/amd64"},
		{"amd64", "linux/amd64"},
		{"linux/amd64/v1", "linux/amd64"},
		{"linux/amd64/v3", "linux/amd64/v3"},
		{"aarch64", "linux/arm64"},
		{"linux/arm64/v8", "linux/arm64"},
		{"arm64/v9", "linux/arm64/v9"},
		{"arm", "linux/arm/v7"},
		{"arm/v7", "linux/arm/v7"},
		{"arm/6", "linux/arm/v6"},
		{"linux/arm", "linux/arm/v7"},
		{"linux/arm/v6", "linux/arm/v6"},
		{"armhf", "linux/arm/v7"},
		{"linux/armel", "linux/arm/v6"},
		{"i686", "linux/386"},
		{"riscv64", "linux/riscv64"},
		{"linux/unheard-of", "linux/unheard-of"},
		{"darwin/arm64", "darwin/arm64"},
		{"macos/arm64", "darwin/arm64"},
		{"windows/amd64", "windows/amd64"},
		{"linux", "linux/" + strings.TrimPrefix(host.String(), host.OS+"/")},
	}
	for _, tt := range tests {
		p, err := ParsePlatform(tt.in)
		if err != nil || p.String() != tt.want {
			t.Errorf("%s: %s, %v; want %s", tt.in, p, err, tt.want)
		}
		if again, err := ParsePlatform(p.String()); err != nil || !again.Matches(p) {
			t.Errorf("%s: read again: %s, %v", tt.in, again, err)
		}
	}
	for _, in := range []string{"", "/", "linux/", "/amd64", "nothing", "a/b/c/d", "linux/amd64/v1/x", "linux/am d64", "linux/amd64\n"} {
		if p, err := ParsePlatform(in); err == nil {
			t.Errorf("%q: accepted as %s", in, p)
		}
	}
	if s := (Platform{}).String(); s != "unknown" {
		t.Errorf("zero platform: %s", s)
	}
}

func TestPlatformMatches(t *testing.T) {
	t.Parallel()
	tests := []struct {
		want, have Platform
		ok         bool
	}{
		{Platform{OS: "linux", Architecture: "amd64"}, Platform{OS: "linux", Architecture: "amd64"}, true},
		{Platform{OS: "linux", Architecture: "arm64"}, Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, true},
		{Platform{OS: "linux", Architecture: "arm"}, Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, true},
		{Platform{OS: "linux", Architecture: "arm", Variant: "v6"}, Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, false},
		{Platform{OS: "linux", Architecture: "amd64"}, Platform{OS: "windows", Architecture: "amd64"}, false},
		{Platform{OS: "linux", Architecture: "amd64"}, Platform{OS: "unknown", Architecture: "unknown"}, false},
		{Platform{OS: "windows", Architecture: "amd64"}, Platform{OS: "windows", Architecture: "amd64", OSVersion: "10"}, true},
		{Platform{OS: "windows", Architecture: "amd64", OSVersion: "11"}, Platform{OS: "windows", Architecture: "amd64", OSVersion: "10"}, false},
	}
	for _, tt := range tests {
		if got := tt.want.Matches(tt.have); got != tt.ok {
			t.Errorf("%s matches %s: %v", tt.want, tt.have, got)
		}
	}
}

func TestCompatible(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"linux/arm/v7":   "linux/arm/v7 linux/arm/v6 linux/arm/v5",
		"linux/amd64":    "linux/amd64",
		"linux/amd64/v3": "linux/amd64/v3 linux/amd64/v2 linux/amd64",
		"linux/arm64/v9": "linux/arm64/v9 linux/arm64",
		"linux/riscv64":  "linux/riscv64",
	}
	for in, want := range tests {
		p, err := ParsePlatform(in)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, q := range p.Compatible() {
			got = append(got, q.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", in, got, want)
		}
	}
}
