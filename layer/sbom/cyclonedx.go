package sbom

import (
	"io"
	"strings"
	"time"
)

type cdxDocument struct {
	Schema       string          `json:"$schema"`
	Format       string          `json:"bomFormat"`
	SpecVersion  string          `json:"specVersion"`
	Serial       string          `json:"serialNumber"`
	Version      int             `json:"version"`
	Metadata     cdxMetadata     `json:"metadata"`
	Components   []cdxComponent  `json:"components"`
	Dependencies []cdxDependency `json:"dependencies"`
}

type cdxMetadata struct {
	Timestamp string `json:"timestamp"`
	Tools     struct {
		Components []cdxComponent `json:"components"`
	} `json:"tools"`
	Component  cdxComponent  `json:"component"`
	Properties []cdxProperty `json:"properties,omitempty"`
}

type cdxComponent struct {
	Ref        string        `json:"bom-ref,omitempty"`
	Type       string        `json:"type"`
	Name       string        `json:"name"`
	Version    string        `json:"version,omitempty"`
	Hashes     []cdxHash     `json:"hashes,omitempty"`
	Licenses   []cdxLicense  `json:"licenses,omitempty"`
	CPE        string        `json:"cpe,omitempty"`
	PURL       string        `json:"purl,omitempty"`
	Properties []cdxProperty `json:"properties,omitempty"`
}

type cdxHash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type cdxLicense struct {
	License    *cdxName `json:"license,omitempty"`
	Expression string   `json:"expression,omitempty"`
}

type cdxName struct {
	Name string `json:"name"`
}

type cdxProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type cdxDependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// WriteCycloneDX writes a CycloneDX 1.6 document in JSON. The same arguments give the same
// bytes.
func WriteCycloneDX(w io.Writer, img *Image, d Document) error {
	doc := cdxDocument{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6",
		Serial: "urn:uuid:" + documentUUID(img, d).String(), Version: 1,
		Metadata: cdxMetadata{Timestamp: d.Created.UTC().Format(time.RFC3339)},
	}
	doc.Metadata.Tools.Components = []cdxComponent{{Type: "application", Name: "cairn", Version: d.Version}}
	root := cdxComponent{Ref: img.purl(), Type: "container", Name: img.Name, Version: string(img.Digest), PURL: img.purl()}
	if hex, ok := strings.CutPrefix(string(img.Digest), "sha256:"); ok {
		root.Hashes = []cdxHash{{"SHA-256", hex}}
	}
	doc.Metadata.Component = root
	for _, p := range img.Problems {
		doc.Metadata.Properties = append(doc.Metadata.Properties, cdxProperty{"cairn:notListed", p.Path + ": " + p.Text})
	}
	doc.Components = []cdxComponent{}
	if o := img.OS; o != nil && o.ID != "" {
		c := cdxComponent{Ref: "os:" + o.distro(), Type: "operating-system", Name: o.ID, Version: o.VersionID}
		if strings.HasPrefix(o.CPE, "cpe:") {
			c.CPE = o.CPE
		}
		if o.Pretty != "" {
			c.Properties = []cdxProperty{{"cairn:prettyName", o.Pretty}}
		}
		doc.Components = append(doc.Components, c)
	}
	for i := range img.Packages {
		doc.Components = append(doc.Components, img.component(&img.Packages[i]))
	}
	all := cdxDependency{Ref: root.Ref}
	for _, c := range doc.Components {
		all.DependsOn = append(all.DependsOn, c.Ref)
	}
	doc.Dependencies = []cdxDependency{all}
	return encode(w, doc)
}

func (img *Image) component(p *Installed) cdxComponent {
	c := cdxComponent{Ref: p.Type + ":" + p.hash(), Type: "library", Name: p.Name, Version: p.Version, PURL: p.PURL}
	if p.Type == Golang && p.Name == "stdlib" {
		c.CPE = goCPE(p.Version)
	}
	switch {
	case isExpression(p.License):
		c.Licenses = []cdxLicense{{Expression: p.License}}
	case p.License != "":
		c.Licenses = []cdxLicense{{License: &cdxName{p.License}}}
	}
	for i, w := range p.Places {
		if i == maxShown {
			break
		}
		c.Properties = append(c.Properties, cdxProperty{"cairn:path", w.Path})
	}
	for _, i := range p.layers() {
		if i >= len(img.Layers) {
			continue
		}
		l := img.Layers[i]
		c.Properties = append(c.Properties, cdxProperty{"cairn:layer:digest", string(l.Digest)}, cdxProperty{"cairn:layer:diffID", string(l.DiffID)})
		if l.Step != "" {
			c.Properties = append(c.Properties, cdxProperty{"cairn:layer:createdBy", l.Step})
		}
	}
	return c
}
