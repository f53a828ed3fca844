package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Named is a --build-context, which replaces a stage or an image.
type Named struct {
	// Image is a reference for [Input].Base: a normalised image reference, or one
	// with a scheme that Base knows. "" means files: an [op.Context] of this name.
	Image string
	// Target, unless "", is the name of another target for [Input].Linked.
	Target string
}

// ContextName returns the name of a --build-context as a key of [Input].Named: the
// familiar form of an image reference, without :latest. A context for one platform
// has a suffix, as in alpine::linux/arm64.
func ContextName(text string) (string, error) {
	name, platform, only := strings.Cut(text, "::")
	full, err := reference.Normalize(name)
	if err != nil {
		return "", fmt.Errorf("not the name of a stage or an image: %w", err)
	}
	name = strings.TrimSuffix(reference.Familiar(full), ":latest")
	if !only {
		return name, nil
	}
	p, err := layer.ParsePlatform(platform)
	if err != nil {
		return "", err
	}
	return name + "::" + p.Normalized().String(), nil
}

// replacement is the Named of a stage or image.
type replacement struct {
	Named
	name  string
	stage bool // replaces the whole stage, not only its base
}

// named returns the replacement for a name on a platform, or nil.
func (p *planner) named(name string, platform *layer.Platform) *replacement {
	if len(p.in.Named) == 0 || strings.EqualFold(name, scratchName) || strings.EqualFold(name, "context") {
		return nil
	}
	key, err := ContextName(name)
	if err != nil {
		return nil // no build context can have this name
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

// replaceStage replaces a stage by the build context of its name. It reports
// whether there is one.
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

// fromFiles initialises a stage from the files of a build context.
func (r *resolver) fromFiles(s *stage) {
	if s.platform == nil {
		s.platform = &r.platform
	}
	s.config = emptyConfig(*s.platform)
	if s.instead.stage {
		s.config.Config = dockerspec.DockerOCIImageConfig{}
	}
	s.root = r.context(s.instead.name)
	s.done = s.index < 0 || s.instead.stage
}

// layered copies the files of a build context into a layer if they are the tree
// of the stage, so that other steps can build on it. It returns the stage's tree.
func (p *planner) layered(s *stage) *solve.Step {
	if s.instead == nil || s.instead.Image != "" || s.instead.Target != "" || s.root != p.contexts[s.instead.name] {
		return s.root
	}
	o := op.Copy{Sources: []op.CopySource{{Input: 1, Path: "/"}}, Dest: "/", DestDir: true, Epoch: p.epoch}
	sel := op.Selection{Paths: []op.SelPath{{Path: "/"}}, Epoch: p.epoch}
	s.root = op.NewStep(o, solve.Input{Step: p.scratch}, solve.Input{Step: s.root, Sel: sel.Encode()})
	s.root.NoCache = p.in.NoCache
	p.steps = append(p.steps, &StepInfo{
		Step: s.root, Name: "[context " + s.instead.name + "] load from client", Stage: s.name,
		Ranges: s.meta.Ranges, History: len(s.config.History),
	})
	s.config.History = append(s.config.History, ocispec.History{
		CreatedBy: "local source for " + s.instead.name, Comment: "buildkit.exporter.image.v0", Created: p.created,
	})
	return s.root
}

// takeTriggers moves the ONBUILD instructions of an image that replaces a stage
// out of the configuration. They apply to the stages that build on it.
func (s *stage) takeTriggers() {
	s.onbuild = slices.Clone(s.config.Config.OnBuild)
	s.config.Config.OnBuild = nil
}
