package export

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/reference"
	"github.com/cairn-build/cairn/registry/taghistory"
)

// Pusher pushes an image to all its repositories. Layers are uploaded while the image
// is still being built.
type Pusher struct {
	compression  Compression // of the layers
	registry     *registry.Client
	history      *taghistory.Recorder // may be nil
	progress     *progress.Reporter
	repositories []*repository // at least one
	vertex       *progress.Vertex
	sent         bool          // the repositories have the manifests
	slots        chan struct{} // limits concurrent uploads
	rightsOnce   sync.Once

	streams sync.Map // *snapshot.Layer -> *registry.StreamUpload, to the first repository

	mu      sync.Mutex
	uploads map[*snapshot.Layer]*upload
	leaders map[*snapshot.Layer]*Pusher // of other targets, which stream the layer
}

// upload is the upload of one layer to all repositories.
type upload struct {
	done chan struct{}
	errs []error // of each repository
}

// repository is one repository with the references to set in it.
type repository struct {
	*registry.Push
	name     string
	refs     []string
	byDigest bool // push without a tag, which pushing a tag does too
}

// newPusher returns a pusher for references, and for names that are pushed without a
// tag. It returns nil if there are none.
func newPusher(client *registry.Client, p *progress.Reporter, c Compression, refs, byDigest []string) (*Pusher, error) {
	pusher := &Pusher{
		compression: c, registry: client, progress: p,
		slots: make(chan struct{}, 8), uploads: map[*snapshot.Layer]*upload{}, leaders: map[*snapshot.Layer]*Pusher{},
	}
	for _, ref := range refs {
		if r := pusher.repository(repositoryOf(ref)); r != nil {
			r.refs = append(r.refs, ref)
			continue
		}
		push, err := client.NewPush(ref)
		if err != nil {
			return nil, err
		}
		pusher.repositories = append(pusher.repositories, &repository{Push: push, name: repositoryOf(ref), refs: []string{ref}})
	}
	for _, ref := range byDigest {
		if r := pusher.repository(repositoryOf(ref)); r != nil {
			r.byDigest = true
			continue
		}
		push, err := client.NewPushByDigest(ref)
		if err != nil {
			return nil, err
		}
		pusher.repositories = append(pusher.repositories, &repository{Push: push, name: repositoryOf(ref), byDigest: true})
	}
	if len(pusher.repositories) == 0 {
		return nil, nil
	}
	names := make([]string, len(pusher.repositories))
	for i, r := range pusher.repositories {
		names[i] = r.name
	}
	pusher.vertex = p.Vertex("pushing " + strings.Join(names, ", "))
	return pusher, nil
}

func (p *Pusher) repository(name string) *repository {
	for _, r := range p.repositories {
		if r.name == name {
			return r
		}
	}
	return nil
}

// Check checks in the background that the repositories accept pushes, and calls fail
// otherwise, so that the build ends before it does expensive work.
func (p *Pusher) Check(ctx context.Context, fail context.CancelCauseFunc) {
	for _, r := range p.repositories {
		go func() {
			if err := r.Check(ctx); err != nil && ctx.Err() == nil {
				fail(err)
			}
		}()
	}
}

// CheckRights warns if a registry does not accept uploads; it may still accept the push.
// The first call starts the check in the background, later calls do nothing.
func (p *Pusher) CheckRights(ctx context.Context) {
	p.rightsOnce.Do(func() {
		for _, r := range p.repositories {
			go func() {
				if err := r.CheckRights(ctx); err != nil && ctx.Err() == nil {
					p.progress.Warn("%v: continuing, but the push will probably fail", err)
				}
			}()
		}
	})
}

// Enqueue uploads layers as soon as their blobs are ready. Each layer is uploaded once.
func (p *Pusher) Enqueue(ctx context.Context, layers ...*snapshot.Layer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range layers {
		if p.uploads[l] == nil {
			u := &upload{done: make(chan struct{})}
			p.uploads[l] = u
			go func() {
				defer close(u.done)
				u.errs = p.upload(ctx, l)
			}()
		}
	}
}

// Stream starts to upload a layer that is still being compressed to the first
// repository. The others mount it from there.
func (p *Pusher) Stream(ctx context.Context, l *snapshot.Layer, blob io.ReadCloser) {
	p.streams.Store(l, p.repositories[0].StartStream(ctx, blob))
}

// after makes the upload of a layer wait for that of another pusher, which streams it: its
// repository is the one to mount the blob from.
func (p *Pusher) after(leader *Pusher, l *snapshot.Layer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaders[l] = leader
}

// await waits for the pusher that streams a layer, if that is another one.
func (p *Pusher) await(ctx context.Context, l *snapshot.Layer) {
	p.mu.Lock()
	leader := p.leaders[l]
	p.mu.Unlock()
	if leader == nil {
		return
	}
	leader.Enqueue(ctx, l)
	leader.mu.Lock()
	u := leader.uploads[l]
	leader.mu.Unlock()
	select {
	case <-u.done:
	case <-ctx.Done():
	}
}

// upload uploads one layer to each repository and returns the error of each.
func (p *Pusher) upload(ctx context.Context, l *snapshot.Layer) []error {
	b, err := l.Variant(ctx, p.compression)
	started, _ := p.streams.Load(l)
	stream, _ := started.(*registry.StreamUpload)
	defer stream.Cancel() // no-op if it was used
	if err != nil {
		return slices.Repeat([]error{err}, len(p.repositories))
	}
	p.await(ctx, l)
	p.slots <- struct{}{}
	defer func() { <-p.slots }()
	defer p.progress.Span("uploads", progress.Work, "pushes "+string(b.Digest))()
	src := registry.Source{Open: func() (io.ReadCloser, error) { return l.OpenVariant(ctx, b) }}
	if own, err := l.Blob(ctx); err == nil && own.Digest == b.Digest {
		src.From, src.Stream = l.Ref(), stream
	}
	errs := make([]error, len(p.repositories))
	for i, r := range p.repositories {
		errs[i] = r.Blob(ctx, b, src, ShowUpload(p.vertex, b))
	}
	return errs
}

// Wait waits for all uploads and returns the first error of each repository.
func (p *Pusher) Wait() []error {
	p.mu.Lock()
	uploads := slices.Collect(maps.Values(p.uploads))
	p.mu.Unlock()
	errs := make([]error, len(p.repositories))
	for _, u := range uploads {
		<-u.done
		for i, err := range u.errs {
			if errs[i] == nil {
				errs[i] = err
			}
		}
	}
	return errs
}

// Finish waits for the layers, pushes config and manifest, and sets the references. It
// goes on after an error, so that a tag which a registry refuses does not keep the
// others from being pushed.
func (p *Pusher) Finish(ctx context.Context, built Result) pushes {
	p.vertex.Start()
	var all pushes
	for i, err := range p.Wait() {
		all.join(p.finish(ctx, p.repositories[i], err, built))
	}
	p.vertex.Done(all.err())
	return all
}

// Send waits for the layers and pushes config and manifest to each repository without a
// tag.
func (p *Pusher) Send(ctx context.Context, built Result) error {
	p.vertex.Start()
	var all pushes
	for i, err := range p.Wait() {
		r := p.repositories[i]
		if err == nil {
			err = p.send(ctx, r, built)
		}
		if err != nil {
			all.join(pushes{errs: []error{err}})
		}
	}
	p.sent = true
	if err := all.err(); err != nil {
		p.vertex.Done(err)
		return err
	}
	return nil
}

// send pushes config and manifest to a repository, unless it has them under a tag that
// is pushed.
func (p *Pusher) send(ctx context.Context, r *repository, built Result) error {
	if len(r.refs) > 0 {
		if has, err := r.Refers(ctx, built.Digest()); has || err != nil {
			return err
		}
	}
	return p.setNone(ctx, r, built)
}

// finish pushes to one repository, unless err is an error of uploading its layers.
func (p *Pusher) finish(ctx context.Context, r *repository, err error, built Result) (all pushes) {
	if err != nil {
		all.errs = append(all.errs, err)
		return all
	}
	for _, ref := range r.refs {
		all.add(ref, p.set(ctx, r, ref, built))
	}
	if !r.byDigest {
		return all
	}
	if len(all.done) == 0 && !p.sent { // pushing a tag pushes the digest too
		err = p.setNone(ctx, r, built)
	}
	all.add(r.name+"@"+string(built.Digest()), err)
	return all
}

// setNone pushes config and manifest without a tag.
func (p *Pusher) setNone(ctx context.Context, r *repository, built Result) error {
	push := r.Push
	if len(r.refs) > 0 {
		var err error
		if push, err = p.registry.NewPushByDigest(r.name); err != nil {
			return err
		}
	}
	return FinishPush(ctx, push, built.Image, built.Index)
}

// set pushes config and manifest under one reference.
func (p *Pusher) set(ctx context.Context, r *repository, ref string, built Result) error {
	push := r.Push
	if ref != r.refs[0] {
		var err error
		if push, err = p.registry.NewPush(ref); err != nil {
			return err
		}
	}
	if p.history == nil && !p.sent {
		return FinishPush(ctx, push, built.Image, built.Index)
	}
	if !p.sent {
		if err := p.send(ctx, r, built); err != nil {
			return err
		}
	}
	return SetTag(ctx, p.history, push, ref, built)
}

// pushes is the outcome of pushing to several references.
type pushes struct {
	done []string // references, and names with a digest
	errs []error
}

// add adds the outcome of one push.
func (p *pushes) add(ref string, err error) {
	if err != nil {
		p.errs = append(p.errs, err)
		return
	}
	p.done = append(p.done, ref)
}

// join adds the outcome of other pushes. An error that several repositories have in
// common is added once.
func (p *pushes) join(other pushes) {
	p.done = append(p.done, other.done...)
	for _, err := range other.errs {
		if !slices.Contains(p.errs, err) {
			p.errs = append(p.errs, err)
		}
	}
}

func (p *pushes) err() error { return (&PushError{Errs: p.errs, Pushed: p.done}).Err() }

// PushError reports that some of several pushes failed. Its text names each failure and
// the references that were pushed nevertheless.
type PushError struct {
	Errs   []error
	Pushed []string // references, and names with a digest
}

// Err returns e, or nil if it has no errors, or a single error if nothing was pushed.
func (e *PushError) Err() error {
	switch {
	case len(e.Errs) == 0:
		return nil
	case len(e.Errs) == 1 && len(e.Pushed) == 0:
		return e.Errs[0]
	}
	return e
}

func (e *PushError) Error() string {
	var text strings.Builder
	for i, err := range e.Errs {
		if i > 0 {
			text.WriteString("; ")
		}
		text.WriteString(err.Error())
	}
	for i, ref := range e.Pushed {
		if i == 0 {
			text.WriteString("; pushed nevertheless: ")
		} else {
			text.WriteString(", ")
		}
		text.WriteString(reference.Familiar(ref))
	}
	return text.String()
}

func (e *PushError) Unwrap() []error { return e.Errs }
