package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Named is what --build-context puts in the place of a stage or an image.
type Named struct {
	// Image is a reference for [Input].Base: an image's, normalised, or one
	// with a scheme that Base knows. "" means files: a [Context] of this name.
	Image string
}

// ContextName gives the name of a --build-context as [Input].Named has it: as
// images are called familiarly, without :latest, and perhaps for one platform
// only, as in alpine::linux/arm64.
func ContextName(text string) (string, error) {
	name, platform, only := strings.Cut(text, "::")
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", fmt.Errorf("%q can't be the name of a stage or an image: %w", name, err)
	}
	name = strings.TrimSuffix(reference.FamiliarString(ref), ":latest")
	if !only {
		return name, nil
	}
	p, err := layer.ParsePlatform(platform)
	if err != nil {
		return "", err
	}
	return name + "::" + p.Normalized().String(), nil
}

// replacement is the Named that a stage or image was found to have.
type replacement struct {
	Named
	name  string
	stage bool // in the place of the whole stage, not of its base
}

// named looks up what stands in the place of a name, on a platform.
func (p *planner) named(name string, platform *layer.Platform) *replacement {
	if len(p.in.Named) == 0 || strings.EqualFold(name, scratchName) || strings.EqualFold(name, "context") {
		return nil
	}
	key, err := ContextName(name)
	if err != nil {
		return nil // nothing can be called so
	}
	if platform == nil {
		platform = &p.platform
	}
	for _, key := range []string{key + "::" + platform.Normalized().String(), key} {
		if n, ok := p.in.Named[key]; ok {
			return &replacement{Named: n, name: key}
		}
	}
	return nil
}

// replaceStage leaves a stage's own instructions out if a context has its name.
func (p *planner) replaceStage(s *stage, src *dockerfile.Stage) bool {
	if src.As == "" {
		return false
	}
	if s.instead = p.named(src.As, s.platform); s.instead == nil {
		return false
	}
	s.instead.stage = true
	s.base = nil
	return true
}

// fromFiles makes a stage of a context's files.
func (p *planner) fromFiles(s *stage) {
	if s.platform == nil {
		s.platform = &p.platform
	}
	s.config = emptyConfig(*s.platform)
	if s.instead.stage {
		s.config.Config = dockerspec.DockerOCIImageConfig{}
	}
	s.root = p.context(s.instead.name)
	s.done = s.index < 0 || s.instead.stage
}

func (p *planner) context(name string) *solve.Step {
	if p.contexts[name] == nil {
		p.contexts[name] = &solve.Step{Op: encode("context", Context{Name: name})}
	}
	return p.contexts[name]
}

// layered makes the files of a context a layer, for a stage that builds on
// them.
func (p *planner) layered(s *stage) *solve.Step {
	if s.instead == nil || s.instead.Image != "" || s.root != p.contexts[s.instead.name] {
		return s.root
	}
	op := Copy{Sources: []CopySource{{Input: 1, Path: "/"}}, Dest: "/", DestDir: true, Epoch: p.epoch}
	sel := Selection{Paths: []SelPath{{Path: "/"}}, Epoch: p.epoch}
	s.root = &solve.Step{
		Op: encode("copy", op), Fresh: p.in.NoCache,
		In: []solve.Input{{Step: p.scratch}, {Step: s.root, Sel: encode("", sel)}},
	}
	p.steps = append(p.steps, &StepInfo{
		Step: s.root, Name: "[context " + s.instead.name + "] load from client", Stage: s.name,
		Ranges: s.meta.Ranges, History: len(s.config.History),
	})
	s.config.History = append(s.config.History, ocispec.History{
		CreatedBy: "local source for " + s.instead.name, Comment: "buildkit.exporter.image.v0", Created: p.created,
	})
	return s.root
}

// takeTriggers sets aside the ONBUILD instructions of an image that replaces a
// stage, for those that are FROM it.
func (s *stage) takeTriggers() {
	s.onbuild = slices.Clone(s.config.Config.OnBuild)
	s.config.Config.OnBuild = nil
}
