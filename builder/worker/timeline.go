package worker

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer/store"
)

// display shows steps and notes them in the build's timeline.
type display struct {
	progress *progress.Reporter
	store    *store.Store // named in errors when its disk is full
	steps    map[*solve.Step]Step

	mu       sync.Mutex
	vertices map[*solve.Step]*progress.Vertex
	misses   map[*solve.Step]time.Time // when steps were found not to be cached
	started  map[*solve.Step]bool      // steps that were run
	used     map[*solve.Step]Usage     // by commands that have ended
}

// Usage is what the command of a step has used.
type Usage struct {
	CPU    time.Duration // processor time of its processes
	Memory int64         // bytes of the largest of them at its peak; 0 is unknown, or little
}

func newDisplay(p *progress.Reporter, s *store.Store, steps map[*solve.Step]Step) *display {
	return &display{progress: p, store: s, steps: steps, vertices: map[*solve.Step]*progress.Vertex{}, misses: map[*solve.Step]time.Time{}, started: map[*solve.Step]bool{}, used: map[*solve.Step]Usage{}}
}

// vertex returns the display of a step, which is nil for a hidden one.
func (d *display) vertex(s *solve.Step) *progress.Vertex {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, ok := d.vertices[s]
	if !ok {
		if name := d.steps[s].Name; name != "" {
			v = d.progress.StepOf(d.steps[s].Target, name)
		}
		d.vertices[s] = v
	}
	return v
}

// runs notes that a step is run.
func (d *display) runs(s *solve.Step) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.started[s] = true
}

// uses notes what the command of a step has used.
func (d *display) uses(s *solve.Step, u Usage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used[s] = u
}

// Used returns what the command of a step has used, zeros if it was not run.
func (w *Worker) Used(s *solve.Step) Usage {
	w.display.mu.Lock()
	defer w.display.mu.Unlock()
	return w.display.used[s]
}

func (d *display) ran(s *solve.Step) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.started[s]
}

// failed ends the display of a step with an error. A step that ended because the build
// did is canceled, not failed.
func (d *display) failed(ctx context.Context, v *progress.Vertex, err error) error {
	v.Start()
	err = d.store.ExplainFull(err)
	if ctx.Err() != nil {
		v.Done(context.Canceled)
		return context.Cause(ctx)
	}
	v.Done(err)
	return err
}

// span notes work of a step until the function that it returns is called.
func (d *display) span(s *solve.Step, name string) (end func()) {
	return d.progress.Span(d.lane(s), progress.Work, name)
}

// lane returns the lane of a step in the timeline.
func (d *display) lane(s *solve.Step) string {
	if name := d.steps[s].Name; name != "" {
		return name
	}
	return "other steps"
}

// missed notes that a step is not cached: from now on it waits for its inputs.
func (d *display) missed(s *solve.Step) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.misses[s]; !ok {
		d.misses[s] = time.Now()
	}
}

// hasInputs notes that a step has its inputs.
func (d *display) hasInputs(s *solve.Step) {
	d.mu.Lock()
	begin, ok := d.misses[s]
	d.mu.Unlock()
	if !ok {
		return
	}
	var names []string
	for _, in := range s.In {
		if name := d.steps[in.Step].Name; name != "" {
			names = append(names, name)
		}
	}
	d.progress.WaitSince(d.lane(s), "waits for "+strings.Join(names, ", "), begin)
}
