package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
	"golang.org/x/sync/errgroup"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// maxRounds limits how often ONBUILD triggers may add images that have triggers
// of their own.
const maxRounds = 100

type imageKey struct{ ref, platform string }

// image is a base image, resolved once.
type image struct {
	ref      string
	platform layer.Platform
	image    layer.Image
	config   dockerspec.DockerOCIImage
	unknown  bool        // nothing is known of it: see Input.Base
	linked   *Plan       // the target that makes the image; nil: it exists
	step     *solve.Step // nil: the image has no layers
}

// linkScheme precedes the name of a target in the ref of an image.
const linkScheme = "target:"

// loaded reports whether the configuration of the image is known.
func (im *image) loaded() bool { return im.image.Config != nil || im.linked != nil }

// resolver finds the base images of stages.
type resolver struct {
	*planner
	images map[imageKey]*image
}

// resolve resolves the images that the target needs. It repeats this while ONBUILD
// triggers of the images add further ones.
func (r *resolver) resolve(ctx context.Context, target *stage) error {
	for range maxRounds {
		needed := r.needed(target)
		if err := r.resolveImages(ctx, needed); err != nil {
			return err
		}
		more := false
		for _, s := range slices.Clone(r.stages) {
			if !needed[s] {
				continue
			}
			found, err := r.trigger(s)
			if err != nil {
				return err
			}
			more = more || found
		}
		if err := r.checkCircles(); err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
	return r.file.At(fmt.Errorf("ONBUILD triggers still name new images after %d rounds", maxRounds))
}

// resolveImages resolves all images of needed stages concurrently. An invalid
// image name is an error in any stage.
func (r *resolver) resolveImages(ctx context.Context, needed map[*stage]bool) error {
	g, ctx := errgroup.WithContext(ctx)
	errs := make([]error, len(r.stages))
	asked := map[imageKey]bool{}
	for i, s := range r.stages {
		if s.base != nil || s.resolved {
			continue
		}
		s.resolved = needed[s]
		im, err := r.start(ctx, s)
		if err != nil {
			return r.file.At(err, s.meta.Ranges...)
		}
		if im == nil {
			continue
		}
		key := imageKey{im.ref, im.platform.Full()}
		if !needed[s] || asked[key] || im.loaded() {
			continue
		}
		asked[key] = true
		g.Go(func() error {
			errs[i] = r.load(ctx, im, s)
			return errs[i]
		})
	}
	if err := firstError(g.Wait(), errs); err != nil {
		return err
	}
	return r.fromImages(needed)
}

// firstError returns the first of errs, in the order of the file, that is not the
// consequence of another error, or else err.
func firstError(err error, errs []error) error {
	for _, e := range errs {
		if e != nil && !errors.Is(e, context.Canceled) {
			return e
		}
	}
	return err
}

// start resolves the base of a stage. The image is nil if the base is something
// else.
func (r *resolver) start(ctx context.Context, s *stage) (*image, error) {
	if s.baseName == scratchName && s.instead == nil {
		r.fromScratch(s)
		return nil, nil
	}
	ref, err := reference.Normalize(s.baseName)
	if err != nil {
		return nil, nameError(s.baseName, r.guessArg(s, err))
	}
	if s.instead == nil {
		s.instead = r.named(ref, s.platform)
	}
	if s.instead == nil && r.in.TargetOf != nil {
		if name := r.in.TargetOf(ref); name != "" {
			s.instead = &replacement{Named: Named{Target: name}, name: reference.Familiar(ref)}
		}
	}
	switch {
	case s.instead == nil && r.in.Full != nil:
		if ref, err = r.in.Full(ctx, s.baseName); err != nil {
			return nil, err
		}
	case s.instead == nil:
	case s.instead.Target != "":
		ref = linkScheme + s.instead.Target
	case s.instead.Image == "":
		r.fromFiles(s)
		return nil, nil
	case s.instead.Image == scratchName:
		r.fromScratch(s)
		s.done = s.done || s.instead.stage
		return nil, nil
	default:
		ref = s.instead.Image
	}
	return r.imageOf(s, ref), nil
}

// imageOf returns the base image of a stage, which other stages may share.
func (r *resolver) imageOf(s *stage, ref string) *image {
	platform := r.platform
	if s.platform != nil {
		platform = *s.platform
	}
	key := imageKey{ref, platform.Full()}
	if r.images[key] == nil {
		r.images[key] = &image{ref: ref, platform: platform}
	}
	s.image = r.images[key]
	return s.image
}

func (r *resolver) load(ctx context.Context, im *image, s *stage) error {
	if s.instead != nil && s.instead.Target != "" {
		return r.file.At(r.loadLinked(ctx, im, s.instead.Target), s.meta.Ranges...)
	}
	base, err := r.in.Base(ctx, im.ref, im.platform)
	if err != nil {
		if len(s.missing) > 0 {
			err = r.guessArg(s, err)
		} else if stage := dockerfile.Suggest(s.baseName, r.names()); stage != "" {
			err = fmt.Errorf("no stage is named %s (did you mean %s?); taken as an image: %w", s.baseName, stage, err)
		} else {
			err = dockerfile.DidYouMean(err, s.baseName, commonImages())
		}
		return r.file.At(err, s.meta.Ranges...)
	}
	if base.Config == nil {
		im.unknown, im.config, im.image.Config = true, emptyConfig(im.platform), []byte("{}")
		return nil
	}
	if err := layer.Unmarshal(base.Config, &im.config); err != nil {
		return r.file.At(fmt.Errorf("%s: image config: %w", s.baseName, err), s.meta.Ranges...)
	}
	im.image = base
	return nil
}

// loadLinked takes the configuration and the steps of another target.
func (r *resolver) loadLinked(ctx context.Context, im *image, target string) error {
	made, err := r.in.Linked(ctx, target, im.platform)
	if err != nil {
		return err
	}
	im.linked, im.config, im.step = made, made.Config, made.Root
	return nil
}

func commonImages() []string {
	var out []string
	for _, name := range []string{"alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"} {
		out = append(out, name, "docker.io/library/"+name, name+":latest", "docker.io/library/"+name+":latest")
	}
	return out
}

func (r *resolver) fromScratch(s *stage) {
	s.platform = &r.platform
	s.config = emptyConfig(r.platform)
	s.root = r.scratch
	s.done = s.index < 0
}

// fromImages initialises the needed stages from the configurations of their
// images.
func (r *resolver) fromImages(needed map[*stage]bool) error {
	for _, s := range r.stages {
		if s.base != nil || s.image == nil || !needed[s] || s.root != nil {
			continue
		}
		im := s.image
		s.config = cloneConfig(im.config)
		s.config.Created = nil
		for _, name := range r.in.UnsetLabels {
			delete(s.config.Config.Labels, name)
		}
		s.config.RootFS.Type, s.config.RootFS.DiffIDs = "layers", nil
		s.platform = &im.platform
		s.root = r.scratch
		if im.step == nil && len(im.image.Layers) > 0 {
			im.step = imageStep(im)
		}
		if im.step != nil {
			s.root = im.step
			if s.instead == nil {
				r.lintBasePlatform(s)
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

// actualPlatform returns the platform in an image's configuration.
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
		ref = "" // the image is not in a registry
	}
	var ids []layer.Digest
	for _, l := range im.image.Layers {
		ids = append(ids, l.DiffID)
	}
	return op.NewStep(op.Image{DiffIDs: ids, Extra: op.ImageExtra{
		Ref: ref, Digest: im.image.Digest, Platform: im.platform, Layers: im.image.Layers,
	}})
}

// trigger prepends the ONBUILD instructions of a stage's base to its own. It
// reports whether they name further stages or images.
func (r *resolver) trigger(s *stage) (more bool, err error) {
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
		in, err := r.file.ParseTrigger(text, s.meta.Ranges)
		if err != nil {
			return false, err
		}
		c := command{Instruction: in, onbuild: true}
		if err := r.linkCommand(s, &c); err != nil {
			return false, r.file.At(err, s.meta.Ranges...)
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

// guessArg adds the ARG that was probably meant to an error about the image of a stage
// whose FROM has a variable that is not set.
func (r *resolver) guessArg(s *stage, err error) error {
	if len(s.missing) == 0 {
		return err
	}
	name, known := s.missing[0], r.globals.Keys()
	if guess := dockerfile.Suggest(name, known); guess != "" {
		return fmt.Errorf("%w: $%s is not set (did you mean $%s?)", err, name, guess)
	}
	return fmt.Errorf("%w: $%s is not set: FROM needs an ARG %s above the first FROM, with a default or with --build-arg", err, name, name)
}

// nameError gives an error about the name of an image BuildKit's text.
func nameError(name string, err error) error {
	var format *reference.FormatError
	if errors.As(err, &format) {
		return dockerfile.InBuildKit(err, fmt.Sprintf("failed to parse stage name %q: %v", name, format.Err))
	}
	return err
}
