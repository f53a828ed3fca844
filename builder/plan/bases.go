package plan

import (
	"slices"

	"github.com/cairn-build/cairn/registry/reference"
)

// BaseImages returns the normalised references of the images that the target is based
// on or copies from, in the order of the Dockerfile. It looks up none, and so leaves out
// those of ONBUILD triggers. There are none if the Dockerfile has mistakes, which Make
// reports.
func BaseImages(in Input) (refs []string) {
	p := newPlanner(in)
	if p.readGlobals() != nil || p.readStages() != nil {
		return nil
	}
	target, err := p.target(in.Target)
	if err != nil || p.link() != nil {
		return nil
	}
	needed := p.needed(target)
	for _, s := range p.stages {
		if !needed[s] || s.base != nil || s.instead != nil || s.baseName == scratchName {
			continue
		}
		ref, err := reference.Normalize(s.baseName)
		if err == nil && p.named(ref, s.platform) == nil && !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	return refs
}
