package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/appear"
	"github.com/cairn-build/cairn/registry/layout"
)

// export hands the image over in every form that was asked for.
func (j *job) export(ctx context.Context) error {
	for _, img := range j.images {
		if err := j.worker.Remember(ctx, img.root); err != nil {
			return err
		}
	}
	for _, f := range j.forms() {
		made := j.formed[f]
		for _, ref := range j.kept(f) {
			if err := j.Builder.tag(ref, made.image, made.set); err != nil {
				return fmt.Errorf("tagging the image: %w", err)
			}
		}
	}
	j.built.Tags = j.opt.Tags
	for _, out := range j.opt.Outputs {
		if err := j.output(ctx, out); err != nil {
			return err
		}
	}
	j.built.Pushed = nil // by an attempt before this
	for _, p := range j.pushes {
		if err := p.finish(ctx); err != nil {
			return err
		}
		j.built.Pushed = append(j.built.Pushed, j.targets(p.form)...)
		for _, ref := range j.byDigest(p.form) {
			j.built.Pushed = append(j.built.Pushed, repoOf(ref)+"@"+string(j.formed[p.form].digest()))
		}
	}
	return nil
}

// kept lists the names under which the store keeps the image in a form. Without any
// it can still be found by its ID.
func (j *job) kept(f Form) []string {
	var names []string
	main := f == j.opt.Compression
	if main {
		names = append(names, j.opt.Tags...)
	}
	digest := string(j.formed[f].digest())
	files := false
	for _, out := range j.opt.Outputs {
		if j.form(out) != f {
			files = true // the image need not be kept in the main form
			continue
		}
		if out.Type == "image" || out.Type == "registry" {
			if !out.ByDigest {
				names = append(names, out.Names...)
			}
			if out.Canonical {
				for _, name := range append(append([]string(nil), j.opt.Tags...), out.Names...) {
					names = append(names, repoOf(name)+"@"+digest)
				}
			}
		} else {
			files = true
		}
	}
	if len(names) == 0 && !files {
		names = append(names, untagged+digest)
	}
	return names
}

const untagged = "<none>@"

// Untagged is the name under which the store keeps an image that has none.
func Untagged(img layer.Image) string { return untagged + string(img.Digest) }

// tag names an image or, if that is not nil, a set.
func (b *Builder) tag(ref string, img layer.Image, set *layer.Set) error {
	if set != nil {
		return b.Store.TagSet(ref, *set)
	}
	return b.Store.Tag(ref, img)
}

func (j *job) output(ctx context.Context, out Output) error {
	if out.Type == "image" || out.Type == "registry" {
		return nil // tagged and pushed with the others
	}
	v := j.Progress.Vertex(cmp.Or(out.Title, fmt.Sprintf("exporting to %s %s", out.Type, out.Dest)))
	v.Start()
	err := j.write(ctx, out)
	v.Done(err)
	if err != nil {
		return fmt.Errorf("exporting to %s: %w", out.Type, err)
	}
	return nil
}

func (j *job) write(ctx context.Context, out Output) error {
	names := append(append([]string(nil), j.opt.Tags...), out.Names...)
	made := j.formed[j.form(out)]
	blobs := func(b layer.Blob) (io.ReadCloser, error) { return j.blob(ctx, j.form(out), b) }
	switch out.Type {
	case "oci":
		return j.writeOCI(out, names, blobs)
	case "docker":
		return toFile(out, func(w io.Writer) error { return layout.WriteDocker(w, names, made.image, blobs) })
	case "tar":
		return toFile(out, func(w io.Writer) error { return j.writeTrees(ctx, out, w) })
	case "local":
		return j.writeDirs(ctx, out)
	}
	return fmt.Errorf("unknown type")
}

func (j *job) writeOCI(out Output, names []string, blobs layout.Open) error {
	set, img := j.formed[j.form(out)].set, j.formed[j.form(out)].image
	switch {
	case set != nil && out.Unpacked:
		return layout.WriteOCISetDir(out.Dest, names, *set, blobs)
	case set != nil:
		return toFile(out, func(w io.Writer) error { return layout.WriteOCISet(w, names, *set, blobs) })
	case out.Unpacked:
		return layout.WriteOCIDir(out.Dest, names, img, blobs)
	}
	return toFile(out, func(w io.Writer) error { return layout.WriteOCI(w, names, img, blobs) })
}

// blob reads one of the image's blobs in a form.
func (j *job) blob(ctx context.Context, f Form, want layer.Blob) (io.ReadCloser, error) {
	for _, img := range j.images {
		for _, l := range img.layers {
			b, err := j.worker.ShippedAs(ctx, l, f)
			if err != nil {
				return nil, err
			}
			if b.Digest == want.Digest {
				return j.open(ctx, l, b)
			}
		}
	}
	return nil, fmt.Errorf("the image has no layer %s", want.Digest)
}

// open reads a layer in the form that ships; one that the store never had comes
// from its registry.
func (j *job) open(ctx context.Context, l *worker.Layer, b layer.Blob) (io.ReadCloser, error) {
	if f, err := j.Store.OpenVerified(b.Digest); err == nil {
		return f, nil
	}
	return l.Open(ctx)
}

// toFile writes an archive to stdout, or to a file that appears when it is
// complete.
func toFile(out Output, write func(io.Writer) error) error {
	if out.Dest == "-" {
		return write(out.Stdout)
	}
	if fi, err := os.Stat(out.Dest); err == nil && !fi.Mode().IsRegular() {
		return toDevice(out.Dest, write)
	}
	return appear.File(out.Dest, 0o644, func(f *os.File) error { return write(f) })
}

// toDevice writes into what is no regular file, a pipe or /dev/null, and must
// stay what it is.
func toDevice(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
