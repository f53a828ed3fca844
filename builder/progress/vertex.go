package progress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/progress/termtext"
)

// Vertex is an activity of the build: a step, a pull, an export or a push. A nil
// Vertex ignores events.
type Vertex struct {
	r      *Reporter
	name   string
	number int // 0 until it is displayed
	late   bool
	group  *group // nil: it is not part of one of several targets
	step   bool   // counted as a step of the group

	start, end time.Time
	paused     time.Time // when a shell was opened; zero: it goes on
	cached     bool
	err        error
	reason     string // why it was not cached

	tail     []byte
	dropped  int64 // bytes of output that are no longer in tail
	statuses []*status
	plain    plainState
	lastLog  time.Time
}

// status is the state of a transfer of a vertex.
type status struct {
	id             string
	current, total int64
	start, end     time.Time
	shown          time.Time // when it was last displayed
}

const (
	tailLines = 100
	tailBytes = 64 << 10
)

// Start marks the vertex as running. Only the first call counts.
func (v *Vertex) Start() {
	v.event(func() { v.begin() })
}

// begin starts the vertex unless it has started.
func (v *Vertex) begin() {
	if v.number != 0 {
		return
	}
	v.r.count++
	if v.late {
		v.r.known++
	}
	v.number = v.r.count
	v.start = time.Now()
	v.group.noteStart(v)
	if v.r.recording {
		v.r.vertices = append(v.r.vertices, v)
	}
	v.r.display.started(v)
}

// Cached ends the vertex, whose result came from the cache. Only the first end
// counts.
func (v *Vertex) Cached() { v.finish(nil, true) }

// Done ends the vertex. With context.Canceled it is displayed as CANCELED, or not at
// all if it never started; with another error as ERROR.
func (v *Vertex) Done(err error) { v.finish(err, false) }

func (v *Vertex) finish(err error, cached bool) {
	v.event(func() {
		if !v.end.IsZero() {
			return
		}
		if v.number == 0 && errors.Is(err, context.Canceled) {
			v.end = time.Now()
			if !v.late {
				v.r.ended++
			}
			return
		}
		v.begin()
		v.r.ended++
		v.end, v.err, v.cached = time.Now(), err, cached
		if !v.paused.IsZero() {
			v.end = v.paused
		}
		v.group.noteEnd(v)
		if v.r.recording {
			v.r.spans = append(v.r.spans, span{v.name, Work, v.name, v.start, v.end})
			if err == nil {
				v.shorten(v.r.keptLog(finishedTail))
			}
		}
		v.r.display.ended(v)
	})
}

// Pause says that the vertex does not go on, because the user looks at it: if it ends, its
// end is that of now. The returned function lets it start again.
func (v *Vertex) Pause() (restart func()) {
	running := false
	v.event(func() {
		if running = v.number != 0 && v.end.IsZero(); running {
			v.paused = time.Now()
		}
	})
	return func() {
		v.event(func() {
			if running && v.end.IsZero() {
				v.start, v.paused = time.Now(), time.Time{}
			}
		})
	}
}

// Log displays output of the vertex: stream is 1 for stdout, 2 for stderr. It does
// not keep p.
func (v *Vertex) Log(stream int, p []byte) {
	if len(p) == 0 {
		return
	}
	v.event(func() {
		v.begin()
		v.keep(p)
		v.lastLog = time.Now()
		v.r.display.log(v, stream, p)
	})
}

// keep keeps the end of the output for Tail and Timeline.
func (v *Vertex) keep(p []byte) {
	limit := v.r.keptLog(tailBytes)
	if len(p) > limit {
		v.shorten(0)
		v.dropped += int64(len(p) - limit)
		p = p[len(p)-limit:]
	}
	if len(v.tail)+len(p) > 4*limit {
		v.shorten(limit)
	}
	v.tail = append(v.tail, p...)
}

// shorten drops output until n bytes are left.
func (v *Vertex) shorten(n int) {
	if extra := len(v.tail) - n; extra > 0 {
		v.dropped += int64(extra)
		v.tail = append([]byte(nil), v.tail[extra:]...)
	}
}

// Reason shows why the vertex was not cached, in a few words. It has to be called before
// the vertex ends.
func (v *Vertex) Reason(text string) {
	v.event(func() {
		v.begin()
		v.reason = oneLine(termtext.Safe(text))
		v.r.display.reason(v)
	})
}

// IsCached reports whether Cached has ended the vertex.
func (v *Vertex) IsCached() bool {
	if v == nil || v.r == nil {
		return false
	}
	v.r.mu.Lock()
	defer v.r.mu.Unlock()
	return v.cached
}

// Number returns the number of the vertex in the display, 0 if it has not started.
func (v *Vertex) Number() int {
	if v == nil || v.r == nil {
		return 0
	}
	v.r.mu.Lock()
	defer v.r.mu.Unlock()
	return v.number
}

// Writer returns an io.Writer that calls Log for one stream. It never fails.
func (v *Vertex) Writer(stream int) io.Writer { return logWriter{v, stream} }

type logWriter struct {
	v      *Vertex
	stream int
}

func (w logWriter) Write(p []byte) (int, error) {
	w.v.Log(w.stream, p)
	return len(p), nil
}

// Status reports the transferred bytes of the part id; total is 0 if unknown.
func (v *Vertex) Status(id string, current, total int64) {
	v.event(func() {
		v.begin()
		s := v.part(id)
		s.current, s.total = current, total
		v.r.display.status(v, s)
	})
}

// StatusDone reports that the part id is complete: all its bytes, if their number is known,
// have been transferred.
func (v *Vertex) StatusDone(id string) {
	v.event(func() {
		v.begin()
		if s := v.part(id); s.end.IsZero() {
			s.end, s.current = time.Now(), max(s.current, s.total)
			v.r.display.status(v, s)
		}
	})
}

func (v *Vertex) part(id string) *status {
	for _, s := range slices.Backward(v.statuses) {
		if s.id == id {
			return s
		}
	}
	s := &status{id: id, start: time.Now()}
	v.statuses = append(v.statuses, s)
	return s
}

// Warn displays a warning of the vertex.
func (v *Vertex) Warn(format string, args ...any) {
	v.event(func() {
		v.begin()
		v.r.warn(v, termtext.Safe(fmt.Sprintf(format, args...)))
	})
}

// Tail returns the last lines of output, at most n and at most 100, the oldest
// first.
func (v *Vertex) Tail(n int) []string {
	if v == nil || v.r == nil {
		return nil
	}
	v.r.mu.Lock()
	defer v.r.mu.Unlock()
	return v.lastLines(min(n, tailLines))
}

// lastLines is Tail with the lock held.
func (v *Vertex) lastLines(n int) (lines []string) {
	rest := bytes.TrimSuffix(v.tail, []byte("\n"))
	for more := len(v.tail) > 0; more && len(lines) < n; {
		i := bytes.LastIndexByte(rest, '\n')
		lines = append(lines, strings.TrimSuffix(string(rest[i+1:]), "\r"))
		rest, more = rest[:max(i, 0)], i >= 0
	}
	slices.Reverse(lines)
	return lines
}

func (v *Vertex) event(f func()) {
	if v != nil {
		v.r.event(f)
	}
}

// elapsed returns how long the vertex has been running, or ran.
func (v *Vertex) elapsed(now time.Time) time.Duration {
	if !v.end.IsZero() {
		now = v.end
	}
	return now.Sub(v.start)
}

func (v *Vertex) canceled() bool { return errors.Is(v.err, context.Canceled) }
