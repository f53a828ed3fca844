package compose

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/dockerfile"
)

// extensionKeys lists the attributes of x-bake.
func extensionKeys() []string {
	return []string{"cache-from", "cache-to", "contexts", "no-cache", "no-cache-filter", "output", "platforms", "pull", "secret", "ssh", "tags"}
}

// unknownAttributes returns a warning for each attribute of a service or of x-bake that
// the files have and the language does not.
func (p *places) unknownAttributes() (warnings []bake.Problem) {
	known := knownKeys("services.x")
	for _, f := range p.files {
		for _, d := range f.documents {
			eachPair(follow(child(follow(d), "services")), func(name, service *yaml.Node) {
				service = follow(service)
				warnings = append(warnings, f.unknown(service, "service "+name.Value, known)...)
				x := follow(child(follow(child(service, "build")), "x-bake"))
				warnings = append(warnings, f.unknown(x, "service "+name.Value+": x-bake", extensionKeys())...)
			})
		}
	}
	return warnings
}

// unknown returns a warning for each key of a mapping that is not known.
func (f *parsedFile) unknown(n *yaml.Node, subject string, known []string) (warnings []bake.Problem) {
	isKnown := map[string]bool{"<<": true}
	for _, k := range known {
		isKnown[k] = true
	}
	eachPair(n, func(key, _ *yaml.Node) {
		if isKnown[key.Value] || strings.HasPrefix(key.Value, "x-") {
			return
		}
		text := fmt.Sprintf("%s: unknown attribute %q has no effect", subject, key.Value)
		if s := dockerfile.Suggest(key.Value, known); s != "" {
			text += " (did you mean " + s + "?)"
		}
		warnings = append(warnings, bake.Problem{Position: found{file: f, key: key}.position(), Text: text})
	})
	return warnings
}

// eachPair calls f for the keys of a mapping.
func eachPair(n *yaml.Node, f func(key, value *yaml.Node)) {
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		f(n.Content[i], n.Content[i+1])
	}
}
