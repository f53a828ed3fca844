package generate

import (
	"context"
	"fmt"
	"regexp"
	"sync"

	"github.com/cairn-build/cairn/builder/generate/survey"
)

var fromLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^FROM (?:--platform=\S+ )?(\S+)(?: AS (\S+))?$`)
})

// Pin adds its digest to each base image of the Dockerfile. The function digest returns it.
func (r *Result) Pin(ctx context.Context, digest func(ctx context.Context, image string) (string, error)) error {
	stages, digests := map[string]bool{}, map[string]string{}
	for _, m := range fromLine().FindAllStringSubmatch(r.Dockerfile, -1) {
		stages[m[2]] = m[2] != ""
		image := m[1]
		if stages[image] || digests[image] != "" {
			continue
		}
		d, err := digest(ctx, image)
		if err != nil {
			return fmt.Errorf("--pin: base image %s: %w", image, err)
		}
		digests[image] = d
		r.Project.Findings = append(r.Project.Findings, survey.Finding{Text: image + " is " + d, From: "registry"})
	}
	r.Dockerfile = fromLine().ReplaceAllStringFunc(r.Dockerfile, func(line string) string {
		at := fromLine().FindStringSubmatchIndex(line)
		d := digests[line[at[2]:at[3]]]
		if d == "" {
			return line
		}
		return line[:at[3]] + "@" + d + line[at[3]:]
	})
	return nil
}
