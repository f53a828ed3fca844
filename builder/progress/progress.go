// Package progress displays the progress of a build.
//
// The builder reports events of vertices (steps, pulls, exports, pushes) to a
// Reporter: their start, output, transferred bytes and end. A display turns them
// into lines in BuildKit's format (plain), a live picture on a terminal (tty), or
// one JSON object per line (rawjson).
//
// Events only update the state and append to a buffer; one goroutine draws and
// writes. A slow display therefore delays a step only if a megabyte of output is
// waiting to be written: output is never clipped.
//
// # rawjson
//
// Each line is an object as in BuildKit's rawjson, with one of these lists:
//
//	vertexes: digest, name, started, completed, cached, error
//	statuses: id, vertex, current, total, timestamp, started, completed
//	logs:     vertex, stream (1 stdout, 2 stderr), data (base64), timestamp
//	warnings: vertex (if it belongs to one), level, short (base64);
//	          of the linter also detail (base64), url, sourceInfo, range
//
// digest and vertex name a vertex within the stream. A vertex appears when it
// starts, and again with all fields when it ends. Times are RFC 3339. Extensions of
// Cairn, which BuildKit's readers ignore: a vertex that was not cached has a reason, and
// spans are the activities and waiting times of a step's parts, such as the upload of its
// layer.
package progress

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/cairn-build/cairn/builder/progress/termtext"
	"golang.org/x/term"
)

// Mode is the name of a display.
type Mode string

// The displays. Auto is TTY on a terminal and Plain otherwise; Quiet shows only
// warnings.
const (
	Auto    Mode = "auto"
	TTY     Mode = "tty"
	Plain   Mode = "plain"
	Quiet   Mode = "quiet"
	RawJSON Mode = "rawjson"
	None    Mode = "none"
)

// ParseMode parses the value of a --progress flag.
func ParseMode(s string) (Mode, error) {
	modes := []Mode{Auto, TTY, Plain, Quiet, RawJSON, None}
	if slices.Contains(modes, Mode(s)) {
		return Mode(s), nil
	}
	return "", fmt.Errorf("progress mode %q: not one of auto, tty, plain, quiet, rawjson, none", s)
}

// Reporter displays a stream of events. A nil Reporter ignores them.
type Reporter struct {
	w       io.Writer
	display display
	wake    chan struct{}
	done    chan struct{}

	mu      sync.Mutex
	drained *sync.Cond // signalled when buf is emptied
	buf     []byte     // not written yet
	last    []byte     // the same, while suspended: buf is held back
	writing bool
	closed  bool

	suspended bool
	count     int // vertices with a number
	known     int // all vertices, late ones when they have started
	ended     int
	title     string
	groups    []*group // of targets, in the order of their first vertex
	starved   int      // waits for a processor that have not ended

	recording bool
	logBytes  int // of each vertex that Timeline returns; 0: the default
	vertices  []*Vertex
	warnings  []string
	spans     []span
}

// A display draws into Reporter.buf. Its methods are called with the lock held.
type display interface {
	started(v *Vertex)
	reason(v *Vertex)
	log(v *Vertex, stream int, p []byte)
	status(v *Vertex, s *status)
	ended(v *Vertex)
	warn(v *Vertex, text string) // v may be nil
	advise(v *Vertex, w Warning)
	// tick draws pending changes, and returns when to call it again; 0 means not
	// before the next event.
	tick(now time.Time) time.Duration
	// pause draws pending changes and removes the lines that a later tick would draw over.
	pause()
	closing()
}

// New returns a Reporter that writes to w. An unknown mode means Auto.
func New(m Mode, w io.Writer) *Reporter {
	r := &Reporter{w: w, wake: make(chan struct{}, 1), done: make(chan struct{}), title: "Building"}
	r.drained = sync.NewCond(&r.mu)
	switch choose(m, w) {
	case TTY:
		r.display = newTTY(r, terminalOf(w), os.Getenv("NO_COLOR") == "")
	case RawJSON:
		r.display = &rawJSON{r: r}
	case Quiet:
		r.display = &quiet{r: r}
	case None:
		r.display = silent{}
	default:
		r.display = &plain{r: r}
	}
	go r.run()
	return r
}

func choose(m Mode, w io.Writer) Mode {
	switch m {
	case TTY, Plain, Quiet, RawJSON, None:
		return m
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		return TTY
	}
	return Plain
}

// Title sets the first word of the summary on a terminal, such as "Pushing". The
// default is "Building".
func (r *Reporter) Title(word string) {
	r.event(func() { r.title = word })
}

// Vertex returns a new vertex. It gets its number, and is shown, when it first
// starts or ends.
func (r *Reporter) Vertex(name string) *Vertex {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known++
	return &Vertex{r: r, name: oneLine(name)}
}

// LateVertex is like Vertex for an activity that may not be needed. It is counted from
// its start on.
func (r *Reporter) LateVertex(name string) *Vertex {
	if r == nil {
		return nil
	}
	return &Vertex{r: r, name: oneLine(name), late: true}
}

// Warn displays a warning without a vertex.
func (r *Reporter) Warn(format string, args ...any) {
	r.event(func() { r.warn(nil, termtext.Safe(fmt.Sprintf(format, args...))) })
}

// warn displays a warning and keeps it for Timeline. The lock must be held.
func (r *Reporter) warn(v *Vertex, text string) {
	if r.recording && len(r.warnings) < maxWarnings {
		kept := text
		if v != nil {
			kept = v.name + ": " + text
		}
		r.warnings = append(r.warnings, kept)
	}
	r.display.warn(v, text)
}

// Close draws the last frame and waits until everything is written. Later events
// are dropped.
func (r *Reporter) Close() {
	if r == nil {
		return
	}
	r.event(func() {
		r.display.closing()
		r.closed = true
	})
	<-r.done
}

// event calls f with the lock held, and wakes the writer.
func (r *Reporter) event(f func()) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.buf) > r.limit() && !r.closed {
		r.drained.Wait()
	}
	if r.closed {
		return
	}
	f()
	r.poke()
}

// Maximum sizes of the text to be written, in bytes.
const (
	maxBuffer = 1 << 20
	maxHeld   = 64 << 20 // while suspended
)

func (r *Reporter) limit() int {
	if r.suspended {
		return maxHeld
	}
	return maxBuffer
}

// Suspend removes the live picture and holds all later output back until the returned
// function is called. It returns when everything is written, so that the caller has the
// terminal to itself.
func (r *Reporter) Suspend() (resume func()) {
	if r == nil {
		return func() {}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.suspended && !r.closed {
		r.drained.Wait()
	}
	if r.closed {
		return func() {}
	}
	r.display.pause()
	r.last, r.buf, r.suspended = r.buf, nil, true
	r.poke()
	for len(r.last) > 0 || r.writing {
		r.drained.Wait()
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.suspended = false
		r.drained.Broadcast()
		r.poke()
	}
}

func (r *Reporter) poke() {
	select {
	case r.wake <- struct{}{}:
	default: // already woken
	}
}

// run draws and writes until the Reporter is closed.
func (r *Reporter) run() {
	defer close(r.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var spare []byte
	for {
		out, next, closed := r.take(spare[:0])
		if len(out) > 0 {
			// The error cannot be reported: the display is gone.
			_, _ = r.w.Write(out)
			r.written()
		}
		if closed {
			return
		}
		spare = out
		if next <= 0 {
			next = time.Hour
		}
		timer.Reset(next)
		select {
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// take returns the text to write, and replaces the buffer by another one.
func (r *Reporter) take(spare []byte) (out []byte, next time.Duration, closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.suspended && !r.closed:
		out, r.last = r.last, nil
	default:
		if !r.closed {
			next = r.display.tick(time.Now())
		}
		out, r.buf = r.buf, spare
	}
	r.writing = len(out) > 0
	r.drained.Broadcast()
	return out, next, r.closed
}

// written notes that the text of take is written.
func (r *Reporter) written() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writing = false
	r.drained.Broadcast()
}

// quiet displays only warnings, silent nothing.
type (
	quiet struct {
		silent
		r *Reporter
	}
	silent struct{}
)

func (q *quiet) warn(_ *Vertex, text string) {
	q.r.buf = append(append(append(q.r.buf, "WARN: "...), text...), '\n')
}

func (silent) started(*Vertex)              {}
func (silent) reason(*Vertex)               {}
func (silent) log(*Vertex, int, []byte)     {}
func (silent) status(*Vertex, *status)      {}
func (silent) ended(*Vertex)                {}
func (silent) warn(*Vertex, string)         {}
func (silent) tick(time.Time) time.Duration { return 0 }
func (silent) pause()                       {}
func (silent) closing()                     {}

// oneLine returns a name as one line without control characters. Heredocs and
// continued lines have several lines.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\r', r == '\n':
			return ' '
		case unicode.IsControl(r):
			return -1
		}
		return r
	}, s)
}
