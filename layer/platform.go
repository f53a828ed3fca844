package layer

import (
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// Platform is the platform of an image, in the terms of OCI. ParsePlatform,
// HostPlatform and Normalized return values in canonical form.
type Platform struct {
	OS           string   `json:"os"`
	Architecture string   `json:"architecture"`
	Variant      string   `json:"variant,omitempty"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
}

var (
	platformPart = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
	versionedOS  = regexp.MustCompile(`^([A-Za-z0-9_-]+)\(([A-Za-z0-9_.-]*)((?:\+[A-Za-z0-9_.-]+)*)\)$`)
)

// ParsePlatform parses "os/arch/variant", "os/arch", "arch/variant", "arch" or "os",
// in any of the usual spellings. Missing parts are those of the host. The os may
// have a version and features: "windows(10.0.17763+win32k)/amd64".
func ParsePlatform(s string) (Platform, error) {
	first, rest, more := strings.Cut(s, "/")
	m := versionedOS.FindStringSubmatch(first)
	if m == nil {
		return parsePlatform(s)
	}
	if first = m[1]; !knownOS(strings.ToLower(first)) {
		return Platform{}, fmt.Errorf("platform %q: unknown operating system", s)
	}
	if more {
		first += "/" + rest
	}
	p, err := parsePlatform(first)
	if err != nil {
		return Platform{}, err
	}
	p.OSVersion = m[2]
	if m[3] != "" {
		p.OSFeatures = strings.Split(m[3][1:], "+")
		slices.Sort(p.OSFeatures)
	}
	return p, nil
}

func parsePlatform(s string) (Platform, error) {
	parts := strings.Split(s, "/")
	for _, part := range parts {
		if !platformPart.MatchString(part) {
			return Platform{}, fmt.Errorf("platform %q: %q is not a valid part, want os/arch or os/arch/variant", s, part)
		}
	}
	switch {
	case len(parts) == 1 && knownOS(parts[0]):
		host := HostPlatform()
		return Platform{OS: parts[0], Architecture: host.Architecture, Variant: host.Variant}.Normalized(), nil
	case len(parts) == 1 && knownArch(parts[0]):
		return Platform{OS: "linux", Architecture: parts[0]}.Normalized(), nil
	case len(parts) == 2 && !knownOS(parts[0]) && knownArch(parts[0]):
		return Platform{OS: "linux", Architecture: parts[0], Variant: parts[1]}.Normalized(), nil
	case len(parts) == 2:
		return Platform{OS: parts[0], Architecture: parts[1]}.Normalized(), nil
	case len(parts) == 3:
		return Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}.Normalized(), nil
	case len(parts) == 1:
		return Platform{}, fmt.Errorf("platform %q: unknown operating system or architecture", s)
	}
	return Platform{}, fmt.Errorf("platform %q: want os/arch or os/arch/variant", s)
}

// HostPlatform returns the platform of this process.
func HostPlatform() Platform {
	return Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}.Normalized()
}

// String returns the short canonical form, "linux/arm64" or "linux/arm/v7".
func (p Platform) String() string {
	if p.OS == "" && p.Architecture == "" {
		return "unknown"
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// Full returns String with the version and features of the operating system, in the
// form that ParsePlatform parses.
func (p Platform) Full() string {
	s := p.String()
	if p.OSVersion == "" && len(p.OSFeatures) == 0 {
		return s
	}
	os, rest, _ := strings.Cut(s, "/")
	return os + "(" + strings.Join(append([]string{p.OSVersion}, p.OSFeatures...), "+") + ")/" + rest
}

// Matches reports whether an image for other satisfies a request for p. A version or
// feature that p does not name is not required.
func (p Platform) Matches(other Platform) bool {
	p, other = p.Normalized(), other.Normalized()
	if p.OS != other.OS || p.Architecture != other.Architecture || p.Variant != other.Variant {
		return false
	}
	return p.OSVersion == "" || p.OSVersion == other.OSVersion
}

// Compatible returns the platforms whose images run on p, best first, starting with
// p: an arm/v7 machine also runs arm/v6, an amd64/v3 one amd64.
func (p Platform) Compatible() []Platform {
	p = p.Normalized()
	all := []Platform{p}
	var lower []string
	switch {
	case p.Architecture == "arm" || p.Architecture == "amd64":
		lower = map[string][]string{
			"arm/v8": {"v7", "v6", "v5"}, "arm/v7": {"v6", "v5"}, "arm/v6": {"v5"},
			"amd64/v4": {"v3", "v2", ""}, "amd64/v3": {"v2", ""}, "amd64/v2": {""},
		}[p.Architecture+"/"+p.Variant]
	case p.Architecture == "arm64" && p.Variant != "":
		lower = []string{""}
	}
	for _, variant := range lower {
		q := p
		q.Variant = variant
		all = append(all, q)
	}
	return all
}

// Normalized returns p in the canonical spelling of containerd/platforms.
func (p Platform) Normalized() Platform {
	p.OS = strings.ToLower(p.OS)
	if p.OS == "macos" {
		p.OS = "darwin"
	}
	p.Architecture, p.Variant = normalizeArch(strings.ToLower(p.Architecture), strings.ToLower(p.Variant))
	return p
}

func normalizeArch(arch, variant string) (string, string) {
	switch arch {
	case "i386", "i486", "i586", "i686":
		return "386", ""
	case "x86_64", "x86-64", "amd64":
		if variant == "v1" {
			variant = ""
		}
		return "amd64", variant
	case "aarch64", "arm64":
		if variant == "8" || variant == "v8" || variant == "v8.0" {
			variant = ""
		}
		return "arm64", variant
	case "armhf":
		return "arm", "v7"
	case "armel":
		return "arm", "v6"
	case "arm":
		return "arm", normalizeArmVariant(variant)
	}
	return arch, variant
}

func normalizeArmVariant(variant string) string {
	switch variant {
	case "":
		return "v7"
	case "5", "6", "7", "8":
		return "v" + variant
	}
	return variant
}

func knownOS(os string) bool {
	switch strings.ToLower(os) {
	case "aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux", "macos",
		"netbsd", "openbsd", "plan9", "solaris", "wasip1", "windows", "zos":
		return true
	}
	return false
}

func knownArch(arch string) bool {
	arch, _ = normalizeArch(strings.ToLower(arch), "")
	switch arch {
	case "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le",
		"ppc64", "ppc64le", "riscv64", "s390x", "wasm":
		return true
	}
	return false
}
