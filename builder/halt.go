package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
)

// Break is a line of a Dockerfile before whose instruction the build halts.
type Break struct {
	In   string // the name of a stage, or of a Dockerfile; "" if there is only one
	Line int
}

func (b Break) String() string {
	if b.In == "" {
		return strconv.Itoa(b.Line)
	}
	return b.In + ":" + strconv.Itoa(b.Line)
}

// place describes a step to people.
func place(p *planned, info *plan.StepInfo) worker.Place {
	out := worker.Place{File: p.inputs.File.Name, Stage: info.Stage, Text: info.Name, Folder: folderOf(p.Context), Shell: info.Shell}
	if len(info.Ranges) > 0 {
		out.Line = info.Ranges[0].First
	}
	return out
}

// halter adds breaks to a debugger.
type halter struct {
	worker.Debugger
	points []*breakpoint

	mu   sync.Mutex
	used map[*breakpoint]bool
}

// breakpoint is the steps of an instruction, one for each platform.
type breakpoint struct {
	steps []*solve.Step
	below map[*solve.Step]*solve.Step // the trees below COPYs that do not depend on them
}

// HaltsBefore implements [worker.Debugger]. The build halts once at each break.
func (h *halter) HaltsBefore(s *solve.Step) bool {
	for _, point := range h.points {
		if slices.Contains(point.steps, s) && point.below[s] == nil && h.take(point) {
			return true
		}
	}
	return false
}

// take reports whether the build has not halted at a break yet, and notes that it does.
func (h *halter) take(point *breakpoint) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.used[point]
	h.used[point] = true
	return !was
}

// findBreaks finds the steps of all breaks.
func (b *build) findBreaks() error {
	s := b.session
	if s.Debugger == nil || len(s.Breaks) == 0 {
		return nil
	}
	h := &halter{Debugger: s.Debugger, used: map[*breakpoint]bool{}}
	for _, at := range s.Breaks {
		point, err := b.find(at)
		if err != nil {
			return fmt.Errorf("--break %s: %w", at, err)
		}
		h.points = append(h.points, point)
	}
	b.halter = h
	return nil
}

// debugger returns the debugger of the build, nil for none.
func (b *build) debugger() worker.Debugger {
	if b.halter != nil {
		return b.halter
	}
	return b.session.Debugger
}

// find finds the steps of the first instruction with a layer at or after a line in its
// stage.
func (b *build) find(at Break) (*breakpoint, error) {
	type stage struct {
		p           *planned
		name        string
		first, last int // lines
	}
	var stages []stage
	var files, names []string
	for _, p := range b.targets {
		file := p.inputs.File
		if slices.Contains(files, file.Name) && at.In == "" && !sameFile(b.targets, p) {
			return nil, fmt.Errorf("there are several Dockerfiles: name one, as in %s:%d", file.Name, at.Line)
		}
		files = append(files, file.Name)
		whole := at.In == "" || at.In == file.Name || strings.HasSuffix(file.Name, "/"+at.In) || at.In == p.Name && p.Name != ""
		for i, s := range file.Stages {
			first, last := s.Ranges[0].First, strings.Count(string(file.Text), "\n")+1
			if i+1 < len(file.Stages) {
				last = file.Stages[i+1].Ranges[0].First - 1
			}
			if s.As != "" {
				names = append(names, s.As)
			}
			if (whole || strings.EqualFold(at.In, s.As)) && first <= at.Line && at.Line <= last {
				stages = append(stages, stage{p, s.As, first, last})
			}
		}
	}
	if len(stages) == 0 {
		return nil, fmt.Errorf("there is no such line in a stage (%s)", b.places(names))
	}
	point := &breakpoint{below: map[*solve.Step]*solve.Step{}}
	line := 0
	for _, s := range stages {
		for _, info := range s.p.steps() {
			if info.History < 0 || len(info.Ranges) == 0 {
				continue
			}
			first, last := info.Ranges[0].First, info.Ranges[len(info.Ranges)-1].Last
			if first < s.first || last > s.last || last < at.Line || line != 0 && first > line {
				continue
			}
			if first != line {
				line, point.steps = first, nil
			}
			point.steps = append(point.steps, info.Step)
			if below := belowLink(s.p, info.Step); below != nil {
				point.below[info.Step] = below
			}
		}
	}
	if len(point.steps) == 0 {
		return nil, fmt.Errorf("no RUN, COPY, ADD or WORKDIR that this build needs is at or after the line in its stage")
	}
	return point, nil
}

// places lists the Dockerfiles with their numbers of lines, and the names of their stages.
func (b *build) places(stages []string) string {
	var files []string
	for _, p := range b.targets {
		lines := strings.Count(strings.TrimSuffix(string(p.inputs.File.Text), "\n"), "\n") + 1
		if text := fmt.Sprintf("%s has %d lines", p.inputs.File.Name, lines); !slices.Contains(files, text) {
			files = append(files, text)
		}
	}
	text := strings.Join(files, ", ")
	if len(stages) > 0 {
		text += "; stages: " + strings.Join(stages, ", ")
	}
	return text
}

// sameFile reports whether all targets with a Dockerfile of the same name have the same one.
func sameFile(targets []*planned, p *planned) bool {
	return !slices.ContainsFunc(targets, func(q *planned) bool {
		return q.inputs.File.Name != p.inputs.File.Name || string(q.inputs.File.Text) != string(p.inputs.File.Text)
	})
}

// belowLink returns the step below a COPY --link, which is made without it; nil for other
// steps.
func belowLink(p *planned, s *solve.Step) *solve.Step {
	for _, info := range p.ownSteps() {
		if op.Kind(info) == "stack" && info.In[1].Step == s {
			return info.In[0].Step
		}
	}
	return nil
}

// stopAtBreaks solves the steps of all breaks, one break after the other. It halts at the
// results of those that are cached.
func (a *attempt) stopAtBreaks() error {
	if a.halter == nil {
		return nil
	}
	for _, point := range a.halter.points {
		var g errgroup.Group
		for _, s := range point.steps {
			g.Go(func() error { return a.stopAt(point, s) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// stopAt solves a step of a break, and halts before it if its tree does not depend on
// another, or else at its result if that is cached.
func (a *attempt) stopAt(point *breakpoint, s *solve.Step) error {
	if below := point.below[s]; below != nil {
		r, err := a.solver.Solve(below)
		if err == nil && a.halter.take(point) {
			err = a.inspect(s, func(ctx context.Context) error { return a.worker.InspectBelow(ctx, s, r) })
		}
		return err
	}
	r, err := a.solver.Solve(s)
	if err == nil && a.halter.take(point) {
		err = a.inspect(s, func(ctx context.Context) error { return a.worker.Inspect(ctx, s, r) })
	}
	return err
}

// inspect adds the step to the error of a function.
func (a *attempt) inspect(s *solve.Step, f func(context.Context) error) error {
	if err := f(a.ctx); err != nil {
		return &solve.Error{Step: s, Err: err}
	}
	return nil
}

// Enter calls f with the tree of an image, in which commands can be run as a RUN with the
// secrets and agents of the session, and kept inputs of mounts. It reads the image from the
// store.
func (s *Session) Enter(ctx context.Context, img layer.Image, run op.Run, inputs []worker.KeptInput, f func(*worker.Halt) error) error {
	w := worker.New(ctx, worker.Options{
		Store: s.Store, Cache: cache.New(s.Store), Registry: s.Registry, Progress: s.Progress, Isolation: s.Isolation,
		Limits: s.InputLimits, ResolvConf: s.ResolvConf, Credentials: map[string]worker.Credentials{"": s.own.Credentials},
	})
	err := w.Enter(ctx, w.Layers().StoredImage(img, ""), run, inputs, f)
	return errors.Join(err, w.Wait())
}
