package progress

import (
	"slices"
	"time"
)

// Timeline is a build as it was recorded.
type Timeline struct {
	Start, End time.Time
	Activities []Activity // in the order of their start
	Periods    []Period
	Warnings   []string // without those about a source
}

// Activity is a vertex in a Timeline.
type Activity struct {
	Number     int // as in Vertex.Number
	Name       string
	Start, End time.Time // End is that of the Timeline if it goes on
	Cached     bool
	Canceled   bool
	Err        error
	Reason     string
	Log        []byte // the end of its output
	Dropped    int64  // bytes of output before Log
	Transfers  []Transfer
}

// Transfer is a transfer of an activity.
type Transfer struct {
	ID    string
	Bytes int64
}

// Period is a span in a Timeline.
type Period struct {
	Lane, Kind, Name string
	Start, End       time.Time
}

const (
	maxWarnings  = 1000
	finishedTail = 32 << 10 // of the output of a vertex that did not fail
)

// KeepLogs sets the number of bytes of output that are kept of each vertex.
func (r *Reporter) KeepLogs(n int) {
	if r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.logBytes = n
	}
}

// keptLog returns the number of bytes of output to keep. The lock must be held.
func (r *Reporter) keptLog(otherwise int) int { return max(r.logBytes, otherwise) }

// Timeline returns the events since Record was called.
func (r *Reporter) Timeline() Timeline {
	if r == nil {
		return Timeline{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := Timeline{End: time.Now(), Warnings: slices.Clone(r.warnings)}
	for _, s := range r.spans {
		t.Periods = append(t.Periods, Period{s.lane, s.kind, s.name, s.start, s.end})
	}
	for _, v := range r.vertices {
		a := Activity{
			Number: v.number, Name: v.name, Start: v.start, End: v.end, Cached: v.cached, Reason: v.reason,
			Log: slices.Clone(v.tail), Dropped: v.dropped,
		}
		if a.End.IsZero() {
			a.End = t.End
		}
		if a.Canceled = v.canceled(); !a.Canceled {
			a.Err = v.err
		}
		for _, s := range v.statuses {
			a.Transfers = append(a.Transfers, Transfer{s.id, s.current})
		}
		t.Activities = append(t.Activities, a)
		if t.Start.IsZero() || v.start.Before(t.Start) {
			t.Start = v.start
		}
	}
	if t.Start.IsZero() {
		t.Start = t.End
	}
	return t
}
