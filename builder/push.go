package builder

import (
	"context"
	"io"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
)

// pushes sends the layers of a build's images to each repository that it goes to,
// while the image is still being built.
type pushes struct {
	job    *job
	form   Form // of the layers
	repos  []*repository
	vertex *progress.Vertex
	slots  chan struct{}
	asked  sync.Once // for the right to push

	aheads sync.Map // *worker.Layer -> *registry.Ahead, to the first repository

	mu    sync.Mutex
	begun map[*worker.Layer]*sending
}

// sending is one layer on its way to every repository.
type sending struct {
	done chan struct{}
	err  error
}

// repository is one repository with the references to set in it.
type repository struct {
	*registry.Push
	name string
	refs []string
}

func repoOf(ref string) string {
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		return ref[:i]
	}
	return ref
}

// targets lists the references that the build pushes in a form.
func (j *job) targets(f Form) []string {
	var refs []string
	if j.opt.Push && f == j.opt.Compression {
		refs = append(refs, j.opt.Tags...)
	}
	for _, out := range j.opt.Outputs {
		if (out.Type == "registry" || out.Push) && !out.ByDigest && j.form(out) == f {
			refs = append(refs, out.Names...)
			if len(out.Names) == 0 && !j.opt.Push {
				refs = append(refs, j.opt.Tags...)
			}
		}
	}
	return refs
}

// byDigest lists the names that are pushed under no tag.
func (j *job) byDigest(f Form) []string {
	var refs []string
	for _, out := range j.opt.Outputs {
		if (out.Type == "registry" || out.Push) && out.ByDigest && j.form(out) == f {
			refs = append(refs, out.Names...)
		}
	}
	return refs
}

func (j *job) newPushes(f Form) (*pushes, error) {
	p := &pushes{job: j, form: f, slots: make(chan struct{}, 8), begun: map[*worker.Layer]*sending{}}
	for _, ref := range j.targets(f) {
		if r := p.repo(repoOf(ref)); r != nil {
			r.refs = append(r.refs, ref)
			continue
		}
		push, err := j.Registry.NewPush(ref)
		if err != nil {
			return nil, err
		}
		p.repos = append(p.repos, &repository{push, repoOf(ref), []string{ref}})
	}
	for _, ref := range j.byDigest(f) {
		if p.repo(repoOf(ref)) != nil {
			continue // the digest comes with a tag
		}
		push, err := j.Registry.NewPushByDigest(ref)
		if err != nil {
			return nil, err
		}
		p.repos = append(p.repos, &repository{push, repoOf(ref), nil})
	}
	if len(p.repos) > 0 {
		names := make([]string, len(p.repos))
		for i, r := range p.repos {
			names[i] = r.name
		}
		p.vertex = j.Progress.Vertex("pushing " + strings.Join(names, ", "))
	}
	return p, nil
}

func (p *pushes) repo(name string) *repository {
	for _, r := range p.repos {
		if r.name == name {
			return r
		}
	}
	return nil
}

// check asks at once whether pushing will be allowed: an error ends the build
// before its long part.
func (p *pushes) check(ctx context.Context, cancel context.CancelCauseFunc) {
	for _, r := range p.repos {
		go func() {
			if err := r.Check(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		}()
	}
}

// rights asks, before the first RUN that may take long, whether uploads will be
// taken, and warns if not. It is advice: the push decides.
func (p *pushes) rights(ctx context.Context) {
	p.asked.Do(func() {
		for _, r := range p.repos {
			go func() {
				if err := r.CheckRights(ctx); err != nil && ctx.Err() == nil {
					p.job.Progress.Warn("%v: going on, but the push will hardly succeed", err)
				}
			}()
		}
	})
}

// offer sends layers as soon as their blobs are there. Each is sent once.
func (p *pushes) offer(ctx context.Context, layers ...*worker.Layer) {
	if p == nil || len(p.repos) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range layers {
		if p.begun[l] == nil {
			s := &sending{done: make(chan struct{})}
			p.begun[l] = s
			go func() {
				defer close(s.done)
				s.err = p.layer(ctx, l)
			}()
		}
	}
}

// ahead begins to send a layer that is still being compressed. Other repositories
// than the first take it from there.
func (p *pushes) ahead(ctx context.Context, l *worker.Layer, blob io.ReadCloser) {
	p.aheads.Store(l, p.repos[0].Ahead(ctx, blob))
}

// layer sends one layer to each repository.
func (p *pushes) layer(ctx context.Context, l *worker.Layer) error {
	b, err := p.job.worker.ShippedAs(ctx, l, p.form)
	begun, _ := p.aheads.Load(l)
	ahead, _ := begun.(*registry.Ahead)
	defer ahead.Drop() // should nobody have waited for it
	if err != nil {
		return err
	}
	p.slots <- struct{}{}
	defer func() { <-p.slots }()
	defer p.job.Progress.Span("layers that go out", progress.Work, "pushes "+string(b.Digest))()
	src := registry.Source{Open: func() (io.ReadCloser, error) { return p.job.open(ctx, l, b) }}
	if own, err := l.Blob(ctx); err == nil && own.Digest == b.Digest {
		src.From, src.Ahead = l.From(), ahead
	}
	for _, r := range p.repos {
		if err := r.Blob(ctx, b, src, moving(p.vertex, b)); err != nil {
			return err
		}
	}
	return nil
}

// moving shows how far the upload of a blob is. One that the registry has already
// is never shown.
func moving(v *progress.Vertex, b layer.Blob) func(int64) {
	moved := false
	return func(n int64) {
		switch {
		case n < b.Size:
			moved = true
			v.Start()
			v.Status(string(b.Digest), n, b.Size)
		case moved:
			moved = false
			v.StatusDone(string(b.Digest))
		}
	}
}

// wait waits for every layer that is on its way, whether it gets there or not.
func (p *pushes) wait() (err error) {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.begun {
		if <-s.done; err == nil {
			err = s.err
		}
	}
	return err
}

// finish sends what is left of the layers, then config and manifest, and sets
// each reference.
func (p *pushes) finish(ctx context.Context) error {
	if len(p.repos) == 0 {
		return nil
	}
	built := p.job.formed[p.form]
	p.vertex.Start()
	err := p.wait()
	for _, r := range p.repos {
		if err == nil && len(r.refs) == 0 {
			err = end(ctx, r.Push, built.image, built.set)
		}
		for _, ref := range r.refs {
			if err == nil {
				err = p.set(ctx, r, ref, built)
			}
		}
	}
	p.vertex.Done(err)
	return err
}

func (p *pushes) set(ctx context.Context, r *repository, ref string, built formed) error {
	push := r.Push
	if ref != r.refs[0] {
		var err error
		if push, err = p.job.Registry.NewPush(ref); err != nil {
			return err
		}
	}
	return end(ctx, push, built.image, built.set)
}

// end sends what is left when the layers are there: of a set or, if that is nil,
// of an image.
func end(ctx context.Context, push *registry.Push, img layer.Image, set *layer.Set) error {
	if set != nil {
		return push.Set(ctx, *set)
	}
	return push.Image(ctx, img)
}
