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
	Wait = "wait" // for something that the name tells
)

// span is a stretch of time in which something was done or waited for.
type span struct {
	lane, kind, name string
	start, end       time.Time
}

// Record makes the Reporter keep the timeline of the build for WriteTrace: what
// vertices did and what Span tells.
func (r *Reporter) Record() {
	if r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.recording = true
	}
}

// Span notes that something begins, which ends when the function that it returns
// is called. Spans of one lane belong together: it is the name of a step, or of
// a part of the builder. kind is Work or Wait.
func (r *Reporter) Span(lane, kind, name string) (end func()) {
	if r == nil {
		return func() {}
	}
	start := time.Now()
	return func() { r.SpanSince(lane, kind, name, start) }
}

// SpanSince notes what began at start and ends now.
func (r *Reporter) SpanSince(lane, kind, name string, start time.Time) {
	end := time.Now()
	r.event(func() { r.note(span{oneLine(lane), kind, oneLine(name), start, end}) })
}

// note keeps and shows a span; under the lock.
func (r *Reporter) note(s span) {
	if r.recording {
		r.spans = append(r.spans, s)
	}
	if d, ok := r.display.(interface{ span(span) }); ok {
		d.span(s)
	}
}

// traceEvent is an event as Chrome and Perfetto read it. Times are microseconds.
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

// WriteTrace writes what was recorded in Chrome's trace format: a thread for
// each lane, and more where spans of one overlap. Chrome shows it at
// chrome://tracing, others at ui.perfetto.dev.
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

// row is a thread of the trace: its spans lie apart or one within another.
type row struct {
	lane string
	open []time.Time // ends of the spans that one would lie in, the innermost last
}

func (r *row) fits(s span) bool {
	for len(r.open) > 0 && !r.open[len(r.open)-1].After(s.start) {
		r.open = r.open[:len(r.open)-1]
	}
	return len(r.open) == 0 || !s.end.After(r.open[len(r.open)-1])
}
