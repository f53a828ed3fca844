package progress

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"
)

// rawJSON prints one object per event; see the package comment.
type rawJSON struct {
	silent
	r *Reporter
}

type (
	jsonEvent struct {
		Vertexes []jsonVertex `json:"vertexes,omitempty"`
		Statuses []jsonStatus `json:"statuses,omitempty"`
		Logs     []jsonLog    `json:"logs,omitempty"`
		Warnings []Warning    `json:"warnings,omitempty"`
		Spans    []jsonSpan   `json:"spans,omitempty"`
	}
	jsonSpan struct {
		Lane      string    `json:"lane"`
		Kind      string    `json:"kind"`
		Name      string    `json:"name"`
		Started   time.Time `json:"started"`
		Completed time.Time `json:"completed"`
	}
	jsonVertex struct {
		Digest    string     `json:"digest"`
		Name      string     `json:"name"`
		Started   *time.Time `json:"started,omitempty"`
		Completed *time.Time `json:"completed,omitempty"`
		Cached    bool       `json:"cached,omitempty"`
		Error     string     `json:"error,omitempty"`
		Reason    string     `json:"reason,omitempty"`
	}
	jsonStatus struct {
		ID        string     `json:"id"`
		Vertex    string     `json:"vertex"`
		Total     int64      `json:"total,omitempty"`
		Current   int64      `json:"current"`
		Timestamp time.Time  `json:"timestamp"`
		Started   *time.Time `json:"started,omitempty"`
		Completed *time.Time `json:"completed,omitempty"`
	}
	jsonLog struct {
		Vertex    string    `json:"vertex"`
		Stream    int       `json:"stream"`
		Data      []byte    `json:"data"`
		Timestamp time.Time `json:"timestamp"`
	}
)

func (j *rawJSON) emit(e jsonEvent) {
	b, err := json.Marshal(e)
	if err != nil {
		return // not reached: all values can be encoded
	}
	j.r.buf = append(append(j.r.buf, b...), '\n')
}

// id returns the name of a vertex in the form that readers of BuildKit's stream
// expect.
func id(v *Vertex) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(v.number) + " " + v.name))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (j *rawJSON) vertex(v *Vertex) {
	e := jsonVertex{Digest: id(v), Name: v.name, Started: &v.start, Cached: v.cached, Reason: v.reason}
	if !v.end.IsZero() {
		e.Completed = &v.end
	}
	if v.err != nil {
		e.Error = v.err.Error()
	}
	j.emit(jsonEvent{Vertexes: []jsonVertex{e}})
}

func (j *rawJSON) started(v *Vertex) { j.vertex(v) }
func (j *rawJSON) ended(v *Vertex)   { j.vertex(v) }

func (j *rawJSON) log(v *Vertex, stream int, p []byte) {
	j.emit(jsonEvent{Logs: []jsonLog{{Vertex: id(v), Stream: stream, Data: p, Timestamp: v.lastLog}}})
}

// status is printed at most ten times a second.
func (j *rawJSON) status(v *Vertex, s *status) {
	now := time.Now()
	if s.end.IsZero() && !s.shown.IsZero() && now.Sub(s.shown) < 100*time.Millisecond {
		return
	}
	s.shown = now
	e := jsonStatus{ID: s.id, Vertex: id(v), Total: s.total, Current: s.current, Timestamp: now, Started: &s.start}
	if !s.end.IsZero() {
		e.Completed = &s.end
	}
	j.emit(jsonEvent{Statuses: []jsonStatus{e}})
}

func (j *rawJSON) span(s span) {
	j.emit(jsonEvent{Spans: []jsonSpan{{s.lane, s.kind, s.name, s.start, s.end}}})
}

func (j *rawJSON) warn(v *Vertex, text string) {
	e := Warning{Level: 1, Short: []byte(text)}
	if v != nil {
		e.Vertex = id(v)
	}
	j.emit(jsonEvent{Warnings: []Warning{e}})
}
