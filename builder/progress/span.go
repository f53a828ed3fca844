package progress

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"
	"time"
)

// The kinds of spans.
const (
	Work = "work"
	Wait = "wait" // the name is the reason
)

// span is a period of work or waiting.
type span struct {
	lane, kind, name string
	start, end       time.Time
}

// Record makes the Reporter keep the timeline of the build for WriteTrace and Timeline:
// the vertices and the spans.
func (r *Reporter) Record() {
	if r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.recording = true
	}
}

// Span records a period that begins now and ends when the returned function is
// called. Spans that belong together have the same lane: the name of a step or of a
// part of the builder. kind is Work or Wait.
func (r *Reporter) Span(lane, kind, name string) (end func()) {
	if r == nil {
		return func() {}
	}
	start := time.Now()
	return func() { r.SpanSince(lane, kind, name, start) }
}

// Wait records a wait that begins now and ends when the returned function is
// called. Waits of less than a tenth of a millisecond are dropped.
func (r *Reporter) Wait(lane, name string) (end func()) {
	start := time.Now()
	return func() { r.WaitSince(lane, name, start) }
}

// Starve is Wait for a processor. The display counts these waits.
func (r *Reporter) Starve(lane string) (end func()) {
	if r == nil {
		return func() {}
	}
	r.event(func() { r.starved++ })
	waited := r.Wait(lane, "waits for a turn (--jobs)")
	return func() {
		r.event(func() { r.starved-- })
		waited()
	}
}

const shortWait = 100 * time.Microsecond

// WaitSince is like Wait for a wait that began at start and ends now.
func (r *Reporter) WaitSince(lane, name string, start time.Time) {
	if time.Since(start) >= shortWait {
		r.SpanSince(lane, Wait, name, start)
	}
}

// SpanSince records a period that began at start and ends now.
func (r *Reporter) SpanSince(lane, kind, name string, start time.Time) {
	end := time.Now()
	r.event(func() { r.note(span{oneLine(lane), kind, oneLine(name), start, end}) })
}

// note keeps and displays a span. The lock must be held.
func (r *Reporter) note(s span) {
	if r.recording {
		r.spans = append(r.spans, s)
	}
	if d, ok := r.display.(interface{ span(span) }); ok {
		d.span(s)
	}
}

// traceEvent is an event in the format of Chrome and Perfetto. Times are in
// microseconds.
type traceEvent struct {
	Name     string            `json:"name"`
	Category string            `json:"cat,omitempty"`
	Phase    string            `json:"ph"`
	Time     float64           `json:"ts"`
	Duration float64           `json:"dur,omitempty"`
	Process  int               `json:"pid"`
	Thread   int               `json:"tid"`
	Args     map[string]string `json:"args,omitempty"`
}

// WriteTrace writes the recorded timeline in Chrome's trace format: one thread for
// each lane, and more if spans of a lane overlap. chrome://tracing and
// ui.perfetto.dev display it.
func (r *Reporter) WriteTrace(w io.Writer) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	spans := slices.Clone(r.spans)
	r.mu.Unlock()
	events := []traceEvent{{Name: "process_name", Phase: "M", Process: 1, Args: map[string]string{"name": "cairn build"}}}
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Or(a.start.Compare(b.start), b.end.Compare(a.end)) })
	var rows []*row
	for _, s := range spans {
		thread := slices.IndexFunc(rows, func(r *row) bool { return r.lane == s.lane && r.fits(s) })
		if thread < 0 {
			thread = len(rows)
			rows = append(rows, &row{lane: s.lane})
			events = append(events, traceEvent{Name: "thread_name", Phase: "M", Process: 1, Thread: thread + 1, Args: map[string]string{"name": s.lane}})
		}
		rows[thread].open = append(rows[thread].open, s.end)
		events = append(events, traceEvent{
			Name: s.name, Category: s.kind, Phase: "X", Process: 1, Thread: thread + 1,
			Time: micros(s.start.Sub(spans[0].start)), Duration: micros(s.end.Sub(s.start)),
		})
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(map[string]any{"traceEvents": events, "displayTimeUnit": "ms"})
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// row is a thread of the trace. Its spans are disjoint or nested.
type row struct {
	lane string
	open []time.Time // ends of the spans that contain the next one, the innermost last
}

func (r *row) fits(s span) bool {
	for len(r.open) > 0 && !r.open[len(r.open)-1].After(s.start) {
		r.open = r.open[:len(r.open)-1]
	}
	return len(r.open) == 0 || !s.end.After(r.open[len(r.open)-1])
}
