// Package progress shows people what a build is doing, while it does it.
//
// The builder tells a Reporter of vertices (steps, pulls, exports, pushes): that they start, what they print, how many bytes
// have moved, how they end. The Reporter keeps this as one stream of events and hands it to a display: lines as BuildKit prints
// them (plain), a calm live picture on a terminal (tty), one JSON object a line (rawjson), errors and warnings only (quiet), or
// nothing (none).
//
// All methods may be called from any goroutine, and on a nil Reporter or Vertex, where they do nothing. A display never holds a
// step up longer than its writer does.
package progress

import (
	"io"
)

// Mode names a display.
type Mode string

// The displays. Auto is TTY on a terminal and Plain elsewhere.
const (
	Auto    Mode = "auto"
	TTY     Mode = "tty"
	Plain   Mode = "plain"
	Quiet   Mode = "quiet"
	RawJSON Mode = "rawjson"
	None    Mode = "none"
)

// ParseMode reads the value of a --progress flag.
func ParseMode(s string) (Mode, error) { panic("soon") }

// Reporter turns a stream of events into a display.
type Reporter struct{}

// New returns a Reporter that writes to w. A mode that is not known counts as Auto.
func New(m Mode, w io.Writer) *Reporter { panic("soon") }

// Vertex returns a new vertex. It gets its number, and is shown, when it is first started (or cached, or done).
func (r *Reporter) Vertex(name string) *Vertex { panic("soon") }

// Warn shows a warning that belongs to no vertex.
func (r *Reporter) Warn(format string, args ...any) {}

// Close draws the last frame and gives the terminal back. Events after it are dropped.
func (r *Reporter) Close() {}

// Vertex is one line of the display: a step, a pull, an export, a push.
type Vertex struct{}

// Start marks the vertex as running. Only the first call counts.
func (v *Vertex) Start() {}

// Cached ends the vertex: its result was known already.
func (v *Vertex) Cached() {}

// Done ends the vertex; only the first end counts. With context.Canceled (wrapped or not) it is shown as CANCELED, with another error as ERROR.
func (v *Vertex) Done(err error) {}

// Log shows output of the vertex: stream is 1 for stdout, 2 for stderr. p is not kept. Nothing is ever clipped.
func (v *Vertex) Log(stream int, p []byte) {}

// Writer returns Log for one stream as an io.Writer; it never fails.
func (v *Vertex) Writer(stream int) io.Writer { panic("soon") }

// Status says how many bytes of the part id have moved; total is 0 when it is not known.
func (v *Vertex) Status(id string, current, total int64) {}

// StatusDone says that the part id is complete.
func (v *Vertex) StatusDone(id string) {}

// Warn shows a warning that belongs to the vertex.
func (v *Vertex) Warn(format string, args ...any) {}

// Tail returns the last lines of output, at most n (and at most 100), the oldest first.
func (v *Vertex) Tail(n int) []string { panic("soon") }
