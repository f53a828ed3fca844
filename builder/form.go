package builder

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
)

// formed is what was built, with its layers in one form.
type formed struct {
	image layer.Image // of several platforms the main one
	set   *layer.Set
}

func (f formed) digest() layer.Digest {
	if f.set != nil {
		return f.set.Digest
	}
	return f.image.Digest
}

// form is how the layers are compressed for an output.
func (j *job) form(out Output) Form {
	if out.Form != nil {
		return *out.Form
	}
	return j.opt.Compression
}

// forms lists those that are asked for, that of the image first.
func (j *job) forms() []Form {
	all := []Form{j.opt.Compression}
	for _, out := range j.opt.Outputs {
		if f := j.form(out); !slices.Contains(all, f) && out.Type != "local" && out.Type != "tar" {
			all = append(all, f)
		}
	}
	return all
}

// checkForms refuses a name that would mean two images.
func (j *job) checkForms() error {
	seen := map[string]Form{}
	for _, tag := range j.opt.Tags {
		seen[tag] = j.opt.Compression
	}
	for _, out := range j.opt.Outputs {
		if (out.Type != "image" && out.Type != "registry") || out.ByDigest {
			continue
		}
		names := out.Names
		if len(names) == 0 && !j.opt.Push {
			names = j.opt.Tags
		}
		for _, name := range names {
			if f, ok := seen[name]; ok && f != j.form(out) {
				return fmt.Errorf("%s would be two images, since two outputs compress it differently: name one otherwise", registry.Familiar(name))
			}
			seen[name] = j.form(out)
		}
	}
	return nil
}

// preparePushes makes ready to push, and asks at once whether that will be allowed.
func (j *job) preparePushes(ctx context.Context, cancel context.CancelCauseFunc) error {
	j.pushes = nil // of an attempt before this
	for _, f := range j.forms() {
		p, err := j.newPushes(f)
		if err != nil {
			return err
		}
		j.pushes = append(j.pushes, p)
		p.check(ctx, cancel)
	}
	return nil
}

// offer sends layers on their way, in each form that is pushed.
func (j *job) offer(ctx context.Context, layers ...*worker.Layer) {
	for _, p := range j.pushes {
		p.offer(ctx, layers...)
	}
}

// ahead sends a layer on its way that is still being compressed, if it is pushed in
// that form.
func (j *job) ahead(ctx context.Context, l *worker.Layer, blob io.ReadCloser) {
	for _, p := range j.pushes {
		if p.form == j.opt.Compression && len(p.repos) > 0 {
			p.ahead(ctx, l, blob)
			return
		}
	}
	blob.Close()
}

// reform makes the images again with their layers in a form. The configs stay,
// since they know the layers by what is in them.
func (j *job) reform(ctx context.Context, f Form) (formed, error) {
	var all []layer.Image
	for _, img := range j.images {
		blobs, err := img.blobs(ctx, f)
		if err != nil {
			return formed{}, err
		}
		made, err := img.of(img.made.Config, blobs)
		if err != nil {
			return formed{}, err
		}
		all = append(all, made)
	}
	return j.together(all)
}

// together puts the images of several platforms behind an index.
func (j *job) together(all []layer.Image) (formed, error) {
	if len(all) == 1 {
		return formed{image: all[0]}, nil
	}
	index, descriptor := j.annotations(func(a Annotation) bool { return a.Index })
	set, err := layer.NewSet(all, index, j.opt.DockerTypes)
	if err != nil {
		return formed{}, err
	}
	set.Annotations = descriptor
	return formed{set.Main(), &set}, nil
}

// blobs gives the image's layers in a form.
func (img *image) blobs(ctx context.Context, f Form) ([]layer.Blob, error) {
	blobs := make([]layer.Blob, len(img.layers))
	for i, l := range img.layers {
		b, err := img.worker.ShippedAs(ctx, l, f)
		if err != nil {
			return nil, err
		}
		blobs[i] = b
	}
	return blobs, nil
}

// of makes the image of a config and blobs.
func (img *image) of(config []byte, blobs []layer.Blob) (layer.Image, error) {
	manifest, descriptor := img.annotations(img.annotates)
	made, err := layer.NewImage(config, blobs, manifest, img.opt.DockerTypes)
	made.Annotations = descriptor
	return made, err
}
