package export

import (
	"context"
	"strings"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/taghistory"
)

// untaggedPrefix begins the name of an image without tags in the store; its digest
// follows.
const untaggedPrefix = "<none>@"

// Untagged returns the name under which the store keeps an image or index without tags.
func Untagged(d layer.Digest) string { return untaggedPrefix + string(d) }

// Tag sets a name in the store to an index or, if that is nil, to an image.
func Tag(s *store.Store, ref string, img layer.Image, index *layer.Index) error {
	if index != nil {
		return s.TagIndex(ref, *index)
	}
	return s.Tag(ref, img)
}

// FinishPush pushes the configs and manifests of an index or, if that is nil, of an
// image, whose layers have been pushed.
func FinishPush(ctx context.Context, push *registry.Push, img layer.Image, index *layer.Index) error {
	if index != nil {
		return push.Index(ctx, *index)
	}
	return push.Image(ctx, img)
}

// SetTag sets the tag of a push to an image or index that has been pushed without one,
// and records in the tag's history, if there is one, the image that it replaces.
func SetTag(ctx context.Context, history *taghistory.Recorder, push *registry.Push, ref string, built Result) error {
	top := built.Image
	if x := built.Index; x != nil {
		top = layer.Image{MediaType: x.MediaType, Digest: x.Digest, Manifest: x.Raw}
	}
	if has, err := push.Refers(ctx, top.Digest); has || err != nil {
		return err
	}
	e := taghistory.NewEntry(top)
	e.ImageSize = built.size()
	return history.Set(ctx, ref, e, func(ctx context.Context) error { return push.Tag(ctx, top) })
}

// ShowUpload returns a function that shows how many bytes of a blob have been uploaded.
// Nothing is shown of a blob that the registry has already.
func ShowUpload(v *progress.Vertex, b layer.Descriptor) func(int64) {
	uploading := false
	return func(n int64) {
		switch {
		case n < b.Size:
			uploading = true
			v.Start()
			v.Status(string(b.Digest), n, b.Size)
		case uploading:
			uploading = false
			v.StatusDone(string(b.Digest))
		}
	}
}

// repositoryOf returns a reference without its tag.
func repositoryOf(ref string) string {
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		return ref[:i]
	}
	return ref
}
