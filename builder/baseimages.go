package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/input"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/once"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/reference"
)

// baseImages resolves the images that a Dockerfile uses.
type baseImages struct {
	*images.Manager
	pull  bool // ignore the images of the store
	newer bool // with pull: use an image of the store if the registry does not answer with one
	never bool // use only the images of the store
	// resolved, unless nil, has the images that targets of the build share.
	resolved *once.Map[string, layer.Image]
}

// fullName returns the full reference of an image. A short name means an image of the
// store, if it has one, otherwise one of a registry.
func (b baseImages) fullName(ctx context.Context, name string) (string, error) {
	first, err := reference.Normalize(name)
	if err != nil {
		return "", err
	}
	if found, err := b.Registry.Candidates(name); err == nil && len(found) == 1 && found[0] == first {
		return first, nil
	}
	if !b.pull || b.newer {
		if t, ok, _ := b.LookupName(name); ok {
			return t.Ref, nil
		}
	}
	if b.never {
		return first, nil
	}
	return b.Registry.ResolveName(ctx, name)
}

// resolve returns the image of a FROM or COPY --from for a platform. An image of the
// store takes precedence over the registry, as with Docker. If the registry is
// unreachable, resolve falls back to the digest that the reference had last time.
func (b baseImages) resolve(ctx context.Context, ref string, p layer.Platform) (layer.Image, error) {
	if b.resolved == nil {
		return b.resolveOnce(ctx, ref, p)
	}
	key := fmt.Sprint(ref, " ", p.Full(), b.pull, b.newer, b.never)
	return b.resolved.Do(ctx, key, func() (layer.Image, error) { return b.resolveOnce(ctx, ref, p) })
}

func (b baseImages) resolveOnce(ctx context.Context, ref string, p layer.Platform) (layer.Image, error) {
	if strings.HasPrefix(ref, input.LayoutScheme) {
		return input.LayoutImage(b.Store, ref, p)
	}
	stored, hint, err := b.stored(ref, p)
	if err != nil || stored.Config != nil && !b.newer {
		return stored, err
	}
	if b.never {
		return layer.Image{}, fmt.Errorf("the store has no image %s for %s%s, and --pull=never excludes registries", reference.Familiar(ref), p, hint)
	}
	v := b.Progress.Vertex("[internal] load metadata for " + ref)
	v.Start()
	img, err := b.Resolve(ctx, ref, p)
	if t := img.Foreign(); t != "" && err == nil {
		err = fmt.Errorf("pull %s: it is an artifact with a layer of type %.200q, not an image", ref, t)
	}
	if err != nil && ctx.Err() != nil { // the look-up that failed first has the error
		v.Done(context.Cause(ctx))
		return img, context.Cause(ctx)
	}
	if err != nil && stored.Config != nil {
		v.Done(nil)
		b.Progress.Warn("%v: going on with %s of the store, %s", err, reference.Familiar(ref), stored.Digest)
		return stored, nil
	}
	if err != nil && !b.pull && errors.Is(err, registry.ErrUnreachable) {
		if old, pinErr := b.Store.Pin(ref, p.String()); pinErr == nil {
			v.Done(nil)
			b.Progress.Warn("%v: going on with %s as it was last time, %s", err, reference.Familiar(ref), old.Digest)
			return old, nil
		}
	}
	v.Done(err)
	if hint == "" && (errors.Is(err, registry.ErrNotFound) || errors.Is(err, registry.ErrUnreachable)) {
		hint = b.similar(ref)
	}
	if errors.Is(err, registry.ErrUnreachable) && hint == "" {
		hint = " (build an image of this name, or name a mirror with --registry-mirror)"
	}
	if err != nil && hint != "" {
		err = fmt.Errorf("%w%s", err, hint)
	}
	return img, err
}

// similar names the image of the store whose name is most similar to one that does not
// exist.
func (b baseImages) similar(ref string) string {
	all, err := b.Store.Images()
	if err != nil {
		return ""
	}
	var names []string
	for _, t := range all {
		names = append(names, reference.Familiar(t.Ref))
	}
	if guess := dockerfile.Suggest(reference.Familiar(ref), names); guess != "" {
		return fmt.Sprintf(" (did you mean %s, which is in the store?)", guess)
	}
	return ""
}

// stored returns the image that the store has of a name for a platform, unless images of
// the store are ignored. Without one its Config is nil, and hint tells of an image for
// another platform.
func (b baseImages) stored(ref string, p layer.Platform) (img layer.Image, hint string, err error) {
	if b.pull && !b.newer {
		return img, "", nil
	}
	t, err := b.Store.Tagged(ref)
	if errors.Is(err, fs.ErrNotExist) {
		return img, "", nil
	}
	if err != nil {
		return img, "", err
	}
	if found, ok := forPlatform(t, p); ok {
		return found, "", nil
	}
	got, _ := t.Image.Platform()
	return img, fmt.Sprintf(" (the store has %s, but for %s, not %s)", reference.Familiar(ref), got, p), nil
}

// forPlatform returns the stored image for a platform.
func forPlatform(t store.Tagged, p layer.Platform) (layer.Image, bool) {
	images := []layer.Image{t.Image}
	if t.Index != nil {
		images = t.Index.Images
	}
	for _, img := range images {
		if got, err := img.Platform(); err == nil && p.Normalized().Matches(got) {
			return img, true
		}
	}
	return layer.Image{}, false
}
