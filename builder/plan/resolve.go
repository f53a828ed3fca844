package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	"golang.org/x/sync/errgroup"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// maxRounds bounds how often ONBUILD triggers may bring in new images with
// triggers of their own.
const maxRounds = 100

type imageKey struct{ ref, platform string }

// image is a base image, asked for once.
type image struct {
	ref      string
	platform layer.Platform
	image    layer.Image
	config   dockerspec.DockerOCIImage
	unknown  bool        // the registry could not be asked
	step     *solve.Step // nil: it has no layers
}

// resolve finds the images that the target needs. The ONBUILD triggers of an
// image may name more, so it goes on until they don't.
func (p *planner) resolve(ctx context.Context, target *stage) error {
	for range maxRounds {
		needed := p.needed(target)
		if err := p.resolveImages(ctx, needed); err != nil {
			return err
		}
		more := false
		for _, s := range slices.Clone(p.stages) {
			if !needed[s] {
				continue
			}
			found, err := p.trigger(s)
			if err != nil {
				return err
			}
			more = more || found
		}
		if err := p.checkCircles(); err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
	return p.file.At(fmt.Errorf("ONBUILD triggers still name new images after %d rounds", maxRounds))
}

// resolveImages asks for all images of needed stages at once. A name that can't
// be one is an error in any stage.
func (p *planner) resolveImages(ctx context.Context, needed map[*stage]bool) error {
	g, ctx := errgroup.WithContext(ctx)
	errs := make([]error, len(p.stages))
	asked := map[imageKey]bool{}
	for i, s := range p.stages {
		if s.base != nil || s.resolved {
			continue
		}
		s.resolved = needed[s]
		im, err := p.start(ctx, s)
		if err != nil {
			return p.file.At(err, s.meta.Ranges...)
		}
		if im == nil {
			continue
		}
		key := imageKey{im.ref, im.platform.Full()}
		if !needed[s] || asked[key] || im.image.Config != nil {
			continue
		}
		asked[key] = true
		g.Go(func() error {
			errs[i] = p.load(ctx, im, s)
			return errs[i]
		})
	}
	if err := firstError(g.Wait(), errs); err != nil {
		return err
	}
	return p.fromImages(needed)
}

// firstError prefers the first error in order of the file that is not the
// consequence of another.
func firstError(err error, errs []error) error {
	for _, e := range errs {
		if e != nil && !errors.Is(e, context.Canceled) {
			return e
		}
	}
	return err
}

// start finds what a stage is FROM; the image is nil if it is none.
func (p *planner) start(ctx context.Context, s *stage) (*image, error) {
	if s.baseName == scratchName && s.instead == nil {
		p.fromScratch(s)
		return nil, nil
	}
	ref, err := normalize(s.baseName)
	if err != nil {
		return nil, err
	}
	if s.instead == nil {
		s.instead = p.named(ref, s.platform)
	}
	switch {
	case s.instead == nil && p.in.Full != nil:
		if ref, err = p.in.Full(ctx, s.baseName); err != nil {
			return nil, err
		}
	case s.instead == nil:
	case s.instead.Image == "":
		p.fromFiles(s)
		return nil, nil
	case s.instead.Image == scratchName:
		p.fromScratch(s)
		s.done = s.done || s.instead.stage
		return nil, nil
	default:
		ref = s.instead.Image
	}
	return p.imageOf(s, ref), nil
}

// imageOf finds or makes the image that a stage is FROM.
func (p *planner) imageOf(s *stage, ref string) *image {
	platform := p.platform
	if s.platform != nil {
		platform = *s.platform
	}
	key := imageKey{ref, platform.Full()}
	if p.images[key] == nil {
		p.images[key] = &image{ref: ref, platform: platform}
	}
	s.image = p.images[key]
	return s.image
}

func (p *planner) load(ctx context.Context, im *image, s *stage) error {
	base, err := p.in.Base(ctx, im.ref, im.platform)
	if err != nil {
		if stage := dockerfile.Suggest(s.baseName, p.names()); stage != "" {
			err = fmt.Errorf("there is no stage %s (did you mean %s?), and as an image: %w", s.baseName, stage, err)
		} else {
			err = dockerfile.DidYouMean(err, s.baseName, commonImages())
		}
		return p.file.At(err, s.meta.Ranges...)
	}
	if base.Config == nil {
		im.unknown, im.config, im.image.Config = true, emptyConfig(im.platform), []byte("{}")
		return nil
	}
	if err := layer.Unmarshal(base.Config, &im.config); err != nil {
		return p.file.At(fmt.Errorf("%s: image config: %w", s.baseName, err), s.meta.Ranges...)
	}
	im.image = base
	return nil
}

func commonImages() []string {
	var out []string
	for _, name := range []string{"alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"} {
		out = append(out, name, "docker.io/library/"+name, name+":latest", "docker.io/library/"+name+":latest")
	}
	return out
}

func (p *planner) fromScratch(s *stage) {
	s.platform = &p.platform
	s.config = emptyConfig(p.platform)
	s.root = p.scratch
	s.done = s.index < 0
}

// fromImages starts the needed stages off with their images' configurations.
func (p *planner) fromImages(needed map[*stage]bool) error {
	for _, s := range p.stages {
		if s.base != nil || s.image == nil || !needed[s] || s.root != nil {
			continue
		}
		im := s.image
		s.config = cloneConfig(im.config)
		s.config.Created = nil
		s.config.RootFS.Type, s.config.RootFS.DiffIDs = "layers", nil
		s.platform = &im.platform
		s.root = p.scratch
		if len(im.image.Layers) > 0 {
			if im.step == nil {
				im.step = imageStep(im)
			}
			s.root = im.step
			if s.instead == nil {
				p.lintBasePlatform(s)
			}
		}
		s.done = s.index < 0
		if s.instead != nil && s.instead.stage {
			s.done = true
			s.takeTriggers()
			s.platform = actualPlatform(im)
		}
	}
	return nil
}

// actualPlatform is the platform that an image says it has.
func actualPlatform(im *image) *layer.Platform {
	c := im.config.Platform
	if c.OS == "" || c.Architecture == "" {
		return &im.platform
	}
	return &layer.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant, OSVersion: c.OSVersion, OSFeatures: c.OSFeatures}
}

func imageStep(im *image) *solve.Step {
	ref := im.ref
	if strings.Contains(ref, "://") {
		ref = "" // not in a registry
	}
	var ids []layer.Digest
	for _, l := range im.image.Layers {
		ids = append(ids, l.DiffID)
	}
	s := Base(ids)
	s.Extra = encode("", ImageExtra{Ref: ref, Digest: im.image.Digest, Platform: im.platform, Layers: im.image.Layers})
	return s
}

// Base is the step that gives an image of these layers, wherever it comes from; none is
// the empty tree.
func Base(diffIDs []layer.Digest) *solve.Step {
	if len(diffIDs) == 0 {
		return &solve.Step{Op: encode("scratch", Scratch{})}
	}
	return &solve.Step{Op: encode("image", Image{DiffIDs: diffIDs})}
}

// trigger puts the ONBUILD instructions of what a stage is FROM before its own.
// It tells whether they name further stages or images.
func (p *planner) trigger(s *stage) (more bool, err error) {
	if s.triggered || s.index < 0 {
		return false, nil
	}
	s.triggered = true
	texts := s.config.Config.OnBuild
	s.config.Config.OnBuild = nil
	if s.base != nil {
		texts = slices.Clone(s.base.onbuild)
		for _, c := range s.base.commands {
			if t, ok := c.Instruction.(*dockerfile.Onbuild); ok {
				texts = append(texts, t.Trigger)
			}
		}
	}
	var triggered []command
	for _, text := range texts {
		in, err := p.file.ParseTrigger(text, s.meta.Ranges)
		if err != nil {
			return false, err
		}
		c := command{Instruction: in, onbuild: true}
		if err := p.linkCommand(s, &c); err != nil {
			return false, p.file.At(err, s.meta.Ranges...)
		}
		more = more || c.brings()
		triggered = append(triggered, c)
	}
	s.commands = append(triggered, s.commands...)
	s.total += len(triggered)
	return more, nil
}

func emptyConfig(p layer.Platform) dockerspec.DockerOCIImage {
	var c dockerspec.DockerOCIImage
	setPlatform(&c, p)
	c.RootFS.Type = "layers"
	c.Config.WorkingDir = "/"
	c.Config.Env = []string{"PATH=" + defaultPath}
	return c
}

func setPlatform(c *dockerspec.DockerOCIImage, p layer.Platform) {
	c.OS, c.Architecture, c.Variant, c.OSVersion = p.OS, p.Architecture, p.Variant, p.OSVersion
	c.OSFeatures = slices.Clone(p.OSFeatures)
}

func cloneConfig(c dockerspec.DockerOCIImage) dockerspec.DockerOCIImage {
	k := &c.Config
	k.Env, k.Cmd, k.Entrypoint = slices.Clone(k.Env), slices.Clone(k.Cmd), slices.Clone(k.Entrypoint)
	k.OnBuild, k.Shell = slices.Clone(k.OnBuild), slices.Clone(k.Shell)
	k.ExposedPorts, k.Volumes, k.Labels = maps.Clone(k.ExposedPorts), maps.Clone(k.Volumes), maps.Clone(k.Labels)
	if k.Healthcheck != nil {
		h := *k.Healthcheck
		h.Test = slices.Clone(h.Test)
		k.Healthcheck = &h
	}
	c.History = slices.Clone(c.History)
	return c
}
