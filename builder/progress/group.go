package progress

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// group is the vertices of one target. A terminal shows them below a line of the target,
// and only that line once it is finished.
type group struct {
	name          string
	steps, cached int  // steps, and those with a cached result
	ended         int  // steps
	failed        bool // a vertex failed
	start, end    time.Time
}

// VertexOf is like Vertex for an activity of a target of several. The target "" is none.
func (r *Reporter) VertexOf(target, name string) *Vertex {
	v := r.Vertex(name)
	if v == nil || target == "" {
		return v
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	v.group = r.group(target)
	return v
}

// StepOf is like VertexOf for a step of the target, which its line counts.
func (r *Reporter) StepOf(target, name string) *Vertex {
	v := r.VertexOf(target, name)
	if v == nil || v.group == nil {
		return v
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	v.step = true
	v.group.steps++
	return v
}

// group returns the group of a target, with the lock held.
func (r *Reporter) group(target string) *group {
	target = oneLine(target)
	for _, g := range r.groups {
		if g.name == target {
			return g
		}
	}
	g := &group{name: target}
	r.groups = append(r.groups, g)
	return g
}

// TargetDone ends a target: with context.Canceled it is displayed as CANCELED unless one of
// its vertices failed, with another error as ERROR.
func (r *Reporter) TargetDone(target string, err error) {
	if r == nil || target == "" {
		return
	}
	r.event(func() {
		g := r.group(target)
		if !g.end.IsZero() {
			return
		}
		g.end = time.Now()
		if d, isTTY := r.display.(*tty); isTTY {
			d.folded(g, err)
		}
	})
}

// noteStart counts the start of a vertex.
func (g *group) noteStart(v *Vertex) {
	if g == nil {
		return
	}
	if g.start.IsZero() {
		g.start = v.start
	}
	g.end = time.Time{} // it runs again
}

// noteEnd counts the end of a vertex.
func (g *group) noteEnd(v *Vertex) {
	if g == nil {
		return
	}
	if v.step {
		g.ended++
	}
	if v.step && v.cached {
		g.cached++
	}
	g.failed = g.failed || v.err != nil && !v.canceled()
}

// folds reports whether the line of the group stands for a vertex that has ended.
func (g *group) folds(v *Vertex) bool { return g != nil && (v.err == nil || v.canceled()) }

// elapsed returns the time from the first start of a vertex.
func (g *group) elapsed(now time.Time) time.Duration {
	if g.start.IsZero() {
		return 0
	}
	if !g.end.IsZero() {
		now = g.end
	}
	return now.Sub(g.start)
}

// folded draws the permanent line of a group.
func (t *tty) folded(g *group, err error) {
	left, color := " => "+g.name, ""
	switch {
	case g.failed || err != nil && !errors.Is(err, context.Canceled):
		left, color = " => ERROR "+g.name, red
	case err != nil:
		left, color = " => CANCELED "+g.name, magenta
	case g.steps > 0 && g.cached == g.steps:
		left, color = " => CACHED "+g.name, faint
	}
	t.keep(left+g.count(), clock(g.elapsed(g.end)), color)
}

// count returns the numbers of steps, as in " (3/7, 2 cached)", or "" without steps.
func (g *group) count() string {
	switch {
	case g.steps == 0:
		return ""
	case g.cached == 0 || g.cached == g.steps:
		return fmt.Sprintf(" (%d/%d)", g.ended, g.steps)
	}
	return fmt.Sprintf(" (%d/%d, %d cached)", g.ended, g.steps, g.cached)
}

// item is an entry of the picture: a vertex that is running, or the group of the next
// ones.
type item struct {
	vertex *Vertex
	group  *group
}

// items returns the running vertices without a group, then the groups that have started
// with their running vertices.
func (t *tty) items() (all []item) {
	for _, v := range t.live {
		if v.group == nil {
			all = append(all, item{vertex: v})
		}
	}
	for _, g := range t.r.groups {
		if g.start.IsZero() || !g.end.IsZero() {
			continue
		}
		all = append(all, item{group: g})
		for _, v := range t.live {
			if v.group == g {
				all = append(all, item{vertex: v, group: g})
			}
		}
	}
	return all
}

// text returns the line of an entry.
func (i item) text(now time.Time, columns int) string {
	switch {
	case i.vertex == nil:
		return justify(" => "+i.group.name+i.group.count(), clock(i.group.elapsed(now)), columns)
	case i.group != nil:
		return justify(" => => "+i.vertex.name, i.right(now, columns), columns)
	}
	return justify(" => "+i.vertex.name, i.right(now, columns), columns)
}

func (i item) right(now time.Time, columns int) string {
	return i.vertex.because(strings.TrimSpace(sum(i.vertex.statuses)+" "+clock(i.vertex.elapsed(now))), columns)
}
