package sbom

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The media types and predicate types of documents.
const (
	SPDXMediaType      = "application/spdx+json"
	SPDXPredicate      = "https://spdx.dev/Document"
	CycloneDXMediaType = "application/vnd.cyclonedx+json"
	CycloneDXPredicate = "https://cyclonedx.org/bom"
)

// Document describes the document itself.
type Document struct {
	Created time.Time
	Version string // of Cairn
}

type spdxDocument struct {
	Version       string             `json:"spdxVersion"`
	DataLicense   string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Comment       string             `json:"comment,omitempty"`
	Packages      []spdxPackage      `json:"packages"`
	Licenses      []spdxLicense      `json:"hasExtractedLicensingInfos,omitempty"`
	Relationships []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	Name       string         `json:"name"`
	ID         string         `json:"SPDXID"`
	Version    string         `json:"versionInfo,omitempty"`
	Supplier   string         `json:"supplier"`
	Download   string         `json:"downloadLocation"`
	Analyzed   bool           `json:"filesAnalyzed"`
	Checksums  []spdxChecksum `json:"checksums,omitempty"`
	SourceInfo string         `json:"sourceInfo,omitempty"`
	Concluded  string         `json:"licenseConcluded"`
	Declared   string         `json:"licenseDeclared"`
	Copyright  string         `json:"copyrightText"`
	Comment    string         `json:"comment,omitempty"`
	References []spdxExternal `json:"externalRefs,omitempty"`
	Purpose    string         `json:"primaryPackagePurpose,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxExternal struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxLicense struct {
	ID   string `json:"licenseId"`
	Text string `json:"extractedText"`
	Name string `json:"name"`
}

type spdxRelationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

const noAssertion = "NOASSERTION"

func newSPDXPackage(name, id, version string) spdxPackage {
	return spdxPackage{Name: name, ID: id, Version: version, Supplier: noAssertion, Download: noAssertion,
		Concluded: noAssertion, Declared: noAssertion, Copyright: noAssertion}
}

// WriteSPDX writes an SPDX 2.3 document in JSON. The same arguments give the same bytes.
func WriteSPDX(w io.Writer, img *Image, d Document) error {
	doc := spdxDocument{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: img.Name,
		Namespace: "https://github.com/cairn-build/cairn/spdx/" + strings.ReplaceAll(string(img.Digest), ":", "-") + "/" + documentUUID(img, d).String(),
		Creation:  spdxCreation{d.Created.UTC().Format(time.RFC3339), []string{"Tool: cairn-" + d.Version}},
		Comment:   problemText(img.Problems),
	}
	root := newSPDXPackage(img.Name, "SPDXRef-Image", string(img.Digest))
	root.Purpose = "CONTAINER"
	if hex, ok := strings.CutPrefix(string(img.Digest), "sha256:"); ok {
		root.Checksums = []spdxChecksum{{"SHA256", hex}}
	}
	root.References = []spdxExternal{{"PACKAGE-MANAGER", "purl", img.purl()}}
	doc.Packages = append(doc.Packages, root)
	doc.Relationships = append(doc.Relationships, spdxRelationship{doc.ID, "DESCRIBES", root.ID})
	contains := func(p spdxPackage) {
		doc.Packages = append(doc.Packages, p)
		doc.Relationships = append(doc.Relationships, spdxRelationship{root.ID, "CONTAINS", p.ID})
	}
	if o := img.OS; o != nil && o.ID != "" {
		p := newSPDXPackage(o.ID, "SPDXRef-OperatingSystem", o.VersionID)
		p.Purpose, p.Comment = "OPERATING-SYSTEM", o.Pretty
		if strings.HasPrefix(o.CPE, "cpe:2.3:") {
			p.References = []spdxExternal{{"SECURITY", "cpe23Type", o.CPE}}
		}
		contains(p)
	}
	doc.Packages = slices.Grow(doc.Packages, len(img.Packages))
	doc.Relationships = slices.Grow(doc.Relationships, len(img.Packages))
	texts := map[string]string{}
	for i := range img.Packages {
		contains(img.spdxPackage(&img.Packages[i], texts))
	}
	for _, id := range slices.Sorted(maps.Keys(texts)) {
		doc.Licenses = append(doc.Licenses, spdxLicense{id, texts[id], texts[id]})
	}
	return encode(w, doc)
}

func encode(w io.Writer, doc any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(doc)
}

func (img *Image) spdxPackage(p *Installed, texts map[string]string) spdxPackage {
	s := newSPDXPackage(p.Name, p.spdxID(), p.Version)
	s.SourceInfo = "from " + p.paths()
	var comment []string
	for _, i := range p.layers() {
		if i < len(img.Layers) {
			comment = append(comment, "layerID: "+string(img.Layers[i].Digest))
			if step := img.Layers[i].Step; step != "" {
				comment = append(comment, "createdBy: "+step)
			}
		}
	}
	s.Comment = strings.Join(comment, "\n")
	if p.PURL != "" {
		s.References = []spdxExternal{{"PACKAGE-MANAGER", "purl", p.PURL}}
	}
	if p.Type == Golang && p.Name == "stdlib" {
		s.References = append(s.References, spdxExternal{"SECURITY", "cpe23Type", goCPE(p.Version)})
	}
	switch {
	case isExpression(p.License):
		s.Declared = p.License
	case p.License != "":
		sum := sha256.Sum256([]byte(p.License))
		s.Declared = "LicenseRef-" + hex.EncodeToString(sum[:8])
		texts[s.Declared] = p.License
	}
	return s
}

// goCPE returns the name of a release of Go in vulnerability databases.
func goCPE(version string) string {
	number := strings.TrimRightFunc(version, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	candidate := "-"
	if i := strings.IndexFunc(version, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i > 0 {
		number = version[:i]
		if end := strings.IndexAny(version[i:], "-+"); end != 0 {
			candidate = version[i:]
			if end > 0 {
				candidate = candidate[:end]
			}
		}
	}
	return "cpe:2.3:a:golang:go:" + number + ":" + candidate + ":*:*:*:*:*:*"
}

// spdxID returns an identifier that depends on the package alone.
func (p *Installed) spdxID() string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' {
			return r
		}
		return '-'
	}, p.Name)
	return "SPDXRef-Package-" + p.Type + "-" + name[:min(len(name), 100)] + "-" + p.hash()
}

// hash returns a text that differs between packages of an image.
func (p *Installed) hash() string {
	if p.id == "" {
		q := &p.Package
		var b []byte
		for _, s := range [...]string{q.Type, q.Name, q.Version, q.Arch, q.Source, q.License, q.VCS} {
			b = append(strconv.AppendInt(b, int64(len(s)), 10), ' ')
			b = append(b, s...)
		}
		sum := sha256.Sum256(b)
		p.id = hex.EncodeToString(sum[:8])
	}
	return p.id
}

// purl returns the package URL of the image.
func (img *Image) purl() string {
	name, tag := img.Name, ""
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tag = name[:i], name[i+1:]
	}
	base := name[strings.LastIndexByte(name, '/')+1:]
	repository := ""
	if base != name {
		repository = name
	}
	return purl("oci", "", strings.ToLower(base), string(img.Digest), "arch", img.Platform.Architecture, "repository_url", repository, "tag", tag)
}

func problemText(all []Problem) string {
	var b strings.Builder
	for i, p := range all {
		if i == maxShown {
			fmt.Fprintf(&b, "and %d more", len(all)-i)
			break
		}
		fmt.Fprintf(&b, "packages not listed: %s: %s\n", p.Path, p.Text)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

type uuid [16]byte

func (u uuid) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// documentUUID returns a UUID of version 5 that names a document. It depends on the image, the
// list and the version of Cairn.
func documentUUID(img *Image, d Document) (u uuid) {
	h := sha1.New()
	oid := [16]byte{0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8} // for URLs
	h.Write(oid[:])
	fmt.Fprintf(h, "%s\n%s\n%s\n%d\n", img.Digest, img.Name, d.Version, d.Created.Unix())
	for i := range img.Packages {
		io.WriteString(h, img.Packages[i].hash())
	}
	copy(u[:], h.Sum(nil))
	u[6], u[8] = u[6]&0x0f|0x50, u[8]&0x3f|0x80
	return u
}
