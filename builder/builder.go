// Package builder builds images from Dockerfiles: it is the one place that
// knows all the parts.
//
// A build reads as five lines in [Builder.Build]: the Dockerfile is parsed, the
// stages become a graph of steps, the graph is solved, the layers that came of
// it become an image, and the image is handed over. Layers are compressed and
// pushed while later steps still run. The same [Builder] pushes, pulls, runs
// and lists the images of its store.
package builder

import (
	"context"
	"errors"
	"fmt"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
)

// Builder works on one store with one set of registries.
type Builder struct {
	Store    *store.Store
	Registry *registry.Client
	Progress *progress.Reporter // may be nil
	// Isolation is how commands are kept apart from the machine.
	Isolation sandbox.Isolation
	Limits    Limits // of what comes from elsewhere
}

// Limits bound what comes from elsewhere.
type Limits = worker.Limits

// worker makes a worker for something other than a build: it only fetches and
// unpacks.
func (b *Builder) worker(ctx context.Context) *worker.Worker {
	return worker.New(ctx, worker.Options{
		Store: b.Store, Cache: cache.New(b.Store), Registry: b.Registry, Progress: b.Progress, Jobs: 1,
		Isolation: b.Isolation, Limits: b.Limits,
		Name: func(*solve.Step) string { return "" }, Ships: func(*solve.Step) bool { return false },
	})
}

// Image finds an image of the store by reference, or by (the beginning of) its
// ID or digest. Of several platforms it is the main one.
func (b *Builder) Image(ref string) (layer.Image, string, error) {
	t, err := b.Tagged(ref)
	return t.Image, t.Ref, err
}

// Tagged is Image with all platforms.
func (b *Builder) Tagged(ref string) (store.Tagged, error) {
	named, ok, nameErr := b.storedAs(ref)
	if ok {
		return named, nil
	}
	t, err := b.byID(ref)
	if err != nil || t.Ref != "" {
		return t, err
	}
	if nameErr != nil {
		return t, nameErr
	}
	return t, fmt.Errorf("%w, cairn pull %s fetches it", &notStored{ref}, ref)
}

// A notStored says that there is no image of this name or ID.
type notStored struct{ ref string }

func (e *notStored) Error() string {
	return "image " + e.ref + " is not in the store: cairn images lists those that are"
}

var errAmbiguous = errors.New("is the ID of more than one image, or its beginning: name the one that is meant")

// byID finds an image by the beginning of a digest; at least six digits.
func (b *Builder) byID(id string) (found store.Tagged, err error) {
	if hex := trimDigest(id); len(hex) < 6 {
		return found, nil
	}
	all, err := b.Store.Images()
	if err != nil {
		return found, err
	}
	for _, t := range all {
		if !begins(t.Image.ConfigDigest, id) && !begins(t.Digest(), id) {
			continue
		}
		if found.Ref != "" && found.Digest() != t.Digest() {
			return store.Tagged{}, fmt.Errorf("%s %w", id, errAmbiguous)
		}
		found = t
	}
	return found, nil
}

func trimDigest(id string) string {
	if len(id) > 7 && id[:7] == "sha256:" {
		id = id[7:]
	}
	for _, c := range id {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
	}
	return id
}

func begins(d layer.Digest, id string) bool {
	hex := trimDigest(id)
	return hex != "" && len(d.Hex()) >= len(hex) && d.Hex()[:len(hex)] == hex
}
