package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
)

// full gives the reference of an image in full. What the store has counts before
// what registries may have, unless all is to be pulled.
func (j *job) full(ctx context.Context, name string) (string, error) {
	first, err := registry.Normalize(name)
	if err != nil {
		return "", err
	}
	if found, err := j.Registry.Candidates(name); err == nil && len(found) == 1 && found[0] == first {
		return first, nil
	}
	if !j.opt.Pull {
		if t, ok, _ := j.storedAs(name); ok {
			return t.Ref, nil
		}
	}
	return j.Registry.Full(ctx, name)
}

// storedAs finds a name in the store, or what it may be short for.
func (b *Builder) storedAs(name string) (t store.Tagged, ok bool, err error) {
	first, err := registry.Normalize(name)
	if err != nil {
		return t, false, err
	}
	more, err := b.Registry.Candidates(name)
	for _, full := range append([]string{first}, more...) {
		t, missing := b.Store.Tagged(full)
		if missing == nil {
			return t, true, nil
		}
		if !errors.Is(missing, fs.ErrNotExist) {
			return t, false, missing
		}
	}
	return t, false, err
}

// base tells what an image of a FROM or COPY --from is. An image that was built
// or pulled under that name comes first, as with docker; then the registry is
// asked what the name means now, with one HEAD when that is known already. If
// the registry is down, what the name meant last time serves, with a warning.
func (j *job) base(ctx context.Context, ref string, p layer.Platform) (layer.Image, error) {
	if strings.HasPrefix(ref, layoutScheme) {
		return j.layoutImage(ref, p)
	}
	other := ""
	if !j.opt.Pull {
		t, err := j.Store.Tagged(ref)
		if err == nil {
			if img, ok := suiting(t, p); ok {
				return img, nil
			}
			got, _ := t.Image.Platform()
			other = fmt.Sprintf(" (the store has %s, but for %s, not %s)", registry.Familiar(ref), got, p)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return layer.Image{}, err
		}
	}
	v := j.Progress.Vertex("[internal] load metadata for " + ref)
	v.Start()
	img, err := j.resolve(ctx, ref, p)
	if err != nil && ctx.Err() != nil { // another look-up has failed, which is the error then
		v.Done(context.Cause(ctx))
		return img, context.Cause(ctx)
	}
	if err != nil && !j.opt.Pull && errors.Is(err, registry.ErrUnreachable) {
		if old, pinErr := j.Store.Pin(ref, p.String()); pinErr == nil {
			v.Done(nil)
			j.Progress.Warn("%v: going on with %s as it was last time, %s", err, registry.Familiar(ref), old.Digest)
			return old, nil
		}
	}
	v.Done(err)
	if errors.Is(err, registry.ErrUnreachable) && other == "" {
		other = " (an image that you build under this name would serve, or a mirror: --registry-mirror)"
	}
	if err != nil && other != "" {
		err = fmt.Errorf("%w%s", err, other)
	}
	return img, err
}

// suiting gives the stored image for the platform that is asked for.
func suiting(t store.Tagged, p layer.Platform) (layer.Image, bool) {
	images := []layer.Image{t.Image}
	if t.Set != nil {
		images = t.Set.Images
	}
	for _, img := range images {
		if got, err := img.Platform(); err == nil && p.Normalized().Matches(got) {
			return img, true
		}
	}
	return layer.Image{}, false
}

// resolve asks the registry. A name's digest leads to the image that was found
// under it before.
func (j *job) resolve(ctx context.Context, ref string, p layer.Platform) (layer.Image, error) {
	return resolve(ctx, j.Builder, ref, p)
}

func resolve(ctx context.Context, b *Builder, ref string, p layer.Platform) (layer.Image, error) {
	d, err := b.Registry.ResolveDigest(ctx, ref)
	if err != nil {
		return layer.Image{}, err
	}
	exact := ref + " " + string(d)
	img, err := b.Store.Pin(exact, p.String())
	if err != nil {
		if img, err = b.Registry.Resolve(ctx, ref, p); err != nil {
			return layer.Image{}, err
		}
		if err := b.Store.SetPin(exact, p.String(), img); err != nil {
			return layer.Image{}, fmt.Errorf("keeping what %s means: %w", ref, err)
		}
	}
	if err := b.Store.SetPin(ref, p.String(), img); err != nil {
		return layer.Image{}, fmt.Errorf("keeping what %s means: %w", ref, err)
	}
	return img, nil
}
