package sbom

import (
	"net/url"
	"slices"
	"strings"
)

// escape encodes a part of a package URL.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// purl returns a package URL. Qualifiers are pairs of key and value; those with an empty value
// are left out.
func purl(kind, namespace, name, version string, qualifiers ...string) string {
	var b strings.Builder
	b.WriteString("pkg:" + kind)
	for part := range strings.SplitSeq(namespace, "/") {
		if part != "" {
			b.WriteString("/" + escape(part))
		}
	}
	b.WriteString("/" + escape(name))
	if version != "" {
		b.WriteString("@" + escape(version))
	}
	var pairs []string
	for i := 0; i < len(qualifiers); i += 2 {
		if qualifiers[i+1] != "" {
			pairs = append(pairs, qualifiers[i]+"="+escape(qualifiers[i+1]))
		}
	}
	slices.Sort(pairs)
	if len(pairs) > 0 {
		b.WriteString("?" + strings.Join(pairs, "&"))
	}
	return b.String()
}

// distro returns the qualifier for a distribution.
func (o *OS) distro() string {
	version := o.VersionID
	if version == "" {
		version = o.BuildID
	}
	if o.ID == "" || version == "" {
		return o.ID + version
	}
	return o.ID + "-" + version
}

// PURL returns the package URL of a package in an image of a distribution, which may be nil.
// A package of a distribution has none if the image does not name that.
func (p *Package) PURL(o *OS) string {
	switch p.Type {
	case Deb:
		if o == nil || o.ID != "debian" && !slices.Contains(o.Like, "debian") {
			return ""
		}
		return purl(Deb, o.ID, p.Name, p.Version, "arch", p.Arch, "upstream", p.Source, "distro", o.distro())
	case APK:
		if o == nil {
			return ""
		}
		return purl(APK, strings.ToLower(o.ID), p.Name, p.Version, "arch", p.Arch, "upstream", p.Source, "distro", o.distro())
	case NPM:
		if scope, name, ok := strings.Cut(p.Name, "/"); ok {
			return purl(NPM, scope, name, p.Version)
		}
	case Golang:
		if i := strings.LastIndexByte(p.Name, '/'); i > 0 && i < len(p.Name)-1 {
			return purl(Golang, p.Name[:i], p.Name[i+1:], p.Version)
		}
	case Composer:
		if vendor, name, ok := strings.Cut(p.Name, "/"); ok {
			return purl(Composer, vendor, strings.ReplaceAll(name, "/", "-"), p.Version)
		}
	case Maven:
		group, name, _ := strings.Cut(p.Name, ":")
		return purl(Maven, group, name, p.Version)
	case PyPI:
		return purl(PyPI, "", p.Name, p.Version, "vcs_url", p.VCS)
	}
	return purl(p.Type, "", p.Name, p.Version)
}
