package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/layout"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/taghistory"
)

// Environment has the destinations of exports other than files.
type Environment struct {
	Store    *store.Store
	Registry *registry.Client
	Progress *progress.Reporter
	Stdout   io.Writer            // for outputs to "-"
	Writers  map[string]io.Writer // for outputs that name one
	Now      time.Time            // the time of images without layers
	History  *taghistory.Recorder // records the images that pushed tags replace; may be nil
}

// Exporter exports the images of one target, in one attempt to build it. Layers are
// pushed as soon as they are known; [Exporter.Export] does the rest.
type Exporter struct {
	Environment
	Options
	ctx     context.Context // of uploads
	steps   map[*solve.Step]bool
	pushers []*Pusher // for the compressions that are pushed

	images  []*Image // set by Assemble
	results map[Compression]Result
}

// New returns an exporter, and checks in the background that the registries accept its
// pushes. It calls fail if they don't. steps are the steps whose layers are in the
// images. Call [Exporter.Wait] before closing the store.
func New(ctx context.Context, fail context.CancelCauseFunc, env Environment, o Options, steps map[*solve.Step]bool) (*Exporter, error) {
	e := &Exporter{Environment: env, Options: o, ctx: ctx, steps: steps}
	for _, c := range o.compressions() {
		p, err := newPusher(env.Registry, env.Progress, c, o.pushedRefs(c), o.pushedByDigest(c))
		if err != nil {
			return nil, err
		}
		if p != nil {
			p.history = env.History
			e.pushers = append(e.pushers, p)
			if !o.Unchecked {
				p.Check(ctx, fail)
			}
		}
	}
	return e, nil
}

// Enqueue starts to push layers of the images.
func (e *Exporter) Enqueue(layers ...*snapshot.Layer) {
	for _, p := range e.pushers {
		p.Enqueue(e.ctx, layers...)
	}
}

// stream starts to push a layer that is still being compressed. It returns the pusher that
// took the reader, or nil.
func (e *Exporter) stream(l *snapshot.Layer, blob io.ReadCloser) *Pusher {
	for _, p := range e.pushers {
		if p.compression == e.Compression {
			p.Stream(e.ctx, l, blob)
			return p
		}
	}
	return nil
}

// Wait waits for uploads, which read from the store. It ignores their errors: Export
// returns them, unless another error came first.
func (e *Exporter) Wait() {
	for _, p := range e.pushers {
		p.Wait()
	}
}

// Exported is the result of [Exporter.Export].
type Exported struct {
	Result
	Pushed []string // references, and names with a digest
}

// Export assembles the images, tags them in the store, writes the outputs and completes
// the pushes.
func (e *Exporter) Export(ctx context.Context, images []*Image) (Exported, error) {
	if err := e.Assemble(ctx, images); err != nil {
		return e.exported(nil), err
	}
	if err := (Group{e}).Destinations().Add(ctx, "", e); err != nil {
		return e.exported(nil), err
	}
	defer e.Progress.Span("build", progress.Work, "export")()
	if err := e.tag(); err != nil {
		return e.exported(nil), err
	}
	if err := e.WriteOutputs(ctx); err != nil {
		return e.exported(nil), err
	}
	return e.push(ctx)
}

// Assemble makes the manifests and configs of the images.
func (e *Exporter) Assemble(ctx context.Context, images []*Image) error {
	end := e.Progress.Span("build", progress.Work, "assemble")
	results, err := e.assemble(ctx, images, e.Now)
	end()
	if err != nil {
		return err
	}
	e.images, e.results = images, results
	for _, img := range images {
		if err := img.Files.SaveOrigins(ctx); err != nil {
			return err
		}
	}
	return nil
}

// WriteOutputs writes the outputs that are not images of the store or a registry.
func (e *Exporter) WriteOutputs(ctx context.Context) error {
	for _, o := range e.Outputs {
		if o.isImage() || o.Type == "cacheonly" {
			continue
		}
		if err := e.output(ctx, e.images, o, e.results[e.compression(o)]); err != nil {
			return err
		}
	}
	return nil
}

// Send waits for the uploads and pushes configs and manifests by their digests. Then
// Finish has only the tags to set.
func (e *Exporter) Send(ctx context.Context) error {
	for _, p := range e.pushers {
		if err := p.Send(ctx, e.results[p.compression]); err != nil {
			return err
		}
	}
	return nil
}

// Finish sets the names of the images in the store and the tags in registries, after
// Send.
func (e *Exporter) Finish(ctx context.Context) (Exported, error) {
	if err := e.tag(); err != nil {
		return e.exported(nil), err
	}
	return e.push(ctx)
}

// push completes the pushes.
func (e *Exporter) push(ctx context.Context) (Exported, error) {
	var all pushes
	for _, p := range e.pushers {
		all.join(p.Finish(ctx, e.results[p.compression]))
	}
	return e.exported(all.done), all.err()
}

// exported returns the result, which is empty before Assemble.
func (e *Exporter) exported(pushed []string) Exported {
	return Exported{Result: e.results[e.Compression], Pushed: pushed}
}

// tag sets the names of the images in the store.
func (e *Exporter) tag() error {
	for _, c := range e.compressions() {
		built := e.results[c]
		for _, ref := range e.storedNames(c, built.Digest()) {
			if err := Tag(e.Store, ref, built.Image, built.Index); err != nil {
				return fmt.Errorf("tagging the image: %w", err)
			}
		}
	}
	return nil
}

// output writes one output that is not an image of the store or a registry.
func (e *Exporter) output(ctx context.Context, images []*Image, out Output, built Result) error {
	v := e.Progress.Vertex(cmp.Or(out.Title, fmt.Sprintf("exporting to %s %s", out.Type, out.Dest)))
	v.Start()
	err := e.write(ctx, images, out, built, v.Warn)
	v.Done(err)
	if err != nil {
		return fmt.Errorf("exporting to %s: %w", out.Type, err)
	}
	return nil
}

func (e *Exporter) write(ctx context.Context, images []*Image, out Output, built Result, warn warnFunc) error {
	names := slices.Concat(e.Tags, out.Names)
	open := func(b layer.Descriptor) (io.ReadCloser, error) { return openBlob(ctx, images, e.compression(out), b) }
	switch out.Type {
	case "oci":
		return e.writeOCI(out, names, built, open)
	case "docker":
		if built.Index != nil && !out.One {
			return e.writeArchive(out, func(w io.Writer) error { return layout.WriteDockerIndex(w, names, *built.Index, open) })
		}
		return e.writeArchive(out, func(w io.Writer) error { return layout.WriteDocker(w, names, built.Image, open) })
	case "tar":
		return e.writeArchive(out, func(w io.Writer) error { return writeTars(ctx, images, out, w) })
	case "local":
		return writeDirs(ctx, images, out, warn)
	}
	return errors.New("unknown type")
}

// writeArchive writes an archive to the writer or file of an output.
func (e *Exporter) writeArchive(out Output, write func(io.Writer) error) error {
	if out.Writer == "" {
		return WriteFile(out.Dest, e.Stdout, write)
	}
	w, ok := e.Writers[out.Writer]
	if !ok {
		return fmt.Errorf("there is no writer %q", out.Writer)
	}
	return write(w)
}

// writeOCI writes an OCI layout, as an archive or a directory.
func (e *Exporter) writeOCI(out Output, names []string, built Result, open layout.Open) error {
	switch {
	case built.Index != nil && out.Unpacked:
		return layout.WriteOCIIndexDir(out.Dest, names, *built.Index, open)
	case built.Index != nil:
		return e.writeArchive(out, func(w io.Writer) error { return layout.WriteOCIIndex(w, names, *built.Index, open) })
	case out.Unpacked:
		return layout.WriteOCIDir(out.Dest, names, built.Image, open)
	}
	return e.writeArchive(out, func(w io.Writer) error { return layout.WriteOCI(w, names, built.Image, open) })
}

// openBlob opens the blob of a layer in a compression.
func openBlob(ctx context.Context, images []*Image, c Compression, want layer.Descriptor) (io.ReadCloser, error) {
	for _, img := range images {
		for _, l := range img.Files.Layers() {
			b, err := l.Variant(ctx, c)
			if err != nil {
				return nil, err
			}
			if b.Digest == want.Digest {
				return l.OpenVariant(ctx, b)
			}
		}
	}
	return nil, fmt.Errorf("the image has no layer %s", want.Digest)
}

// Group is the exporters of all targets of a build. It implements the worker's
// Exporter.
type Group []*Exporter

// Add pushes the layer of a step to the repositories of the targets that have it.
func (g Group) Add(s *solve.Step, l *snapshot.Layer) {
	for _, e := range g {
		if e.steps[s] {
			e.Enqueue(l)
		}
	}
}

// Follow pushes the layer of a step that is still being compressed.
func (g Group) Follow(s *solve.Step, l *snapshot.Layer, blob io.ReadCloser) {
	for i, e := range g {
		if !e.steps[s] {
			continue
		}
		if leader := e.stream(l, blob); leader != nil {
			for _, other := range g[i+1:] {
				other.follow(leader, s, l)
			}
			return
		}
	}
	blob.Close()
}

// follow makes the pushes of a step's layer wait for the one that streams it.
func (e *Exporter) follow(leader *Pusher, s *solve.Step, l *snapshot.Layer) {
	if e.steps[s] {
		for _, p := range e.pushers {
			p.after(leader, l)
		}
	}
}

// BeforeRun checks that uploads will be accepted before a RUN that may take long.
func (g Group) BeforeRun() {
	for _, e := range g {
		for _, p := range e.pushers {
			p.CheckRights(e.ctx)
		}
	}
}

// Wait waits for the uploads of all targets.
func (g Group) Wait() {
	for _, e := range g {
		e.Wait()
	}
}
