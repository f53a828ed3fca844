// Package progress shows people what a build is doing, while it does it.
//
// The builder tells a Reporter of vertices (steps, pulls, exports, pushes):
// that they start, what they print, how many bytes have moved, how they end. A
// display makes of it lines as BuildKit prints them (plain), a calm live
// picture on a terminal (tty), or one JSON object a line (rawjson).
//
// Events only change what is known and append to a buffer; one goroutine draws
// and writes. So a step that prints much is not held up by a display that is
// slow, until a megabyte waits to be written: output is never clipped.
//
// # rawjson
//
// Each line is an object as in BuildKit's rawjson, with one of these lists:
//
//	vertexes: digest, name, started, completed, cached, error
//	statuses: id, vertex, current, total, timestamp, started, completed
//	logs:     vertex, stream (1 stdout, 2 stderr), data (base64), timestamp
//	warnings: vertex (missing if it belongs to none), level, short (base64);
//	          of the linter also detail (base64), url, sourceInfo, range
//
// digest and vertex name a vertex within the stream. A vertex appears when it
// starts and again, whole, when it ends. Times are RFC 3339. Spans are Cairn's
// own: what the parts of a step, its layer's way to the registry among them, did
// and waited for. BuildKit's readers pass over them.
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

	"golang.org/x/term"
)

// Mode names a display.
type Mode string

// The displays. Auto is TTY on a terminal and Plain elsewhere; Quiet shows
// warnings only.
const (
	Auto    Mode = "auto"
	TTY     Mode = "tty"
	Plain   Mode = "plain"
	Quiet   Mode = "quiet"
	RawJSON Mode = "rawjson"
	None    Mode = "none"
)

// ParseMode reads the value of a --progress flag.
func ParseMode(s string) (Mode, error) {
	modes := []Mode{Auto, TTY, Plain, Quiet, RawJSON, None}
	if slices.Contains(modes, Mode(s)) {
		return Mode(s), nil
	}
	return "", fmt.Errorf("progress mode %q: not one of auto, tty, plain, quiet, rawjson, none", s)
}

// Reporter turns a stream of events into a display. A nil Reporter takes
// events and shows nothing.
type Reporter struct {
	w       io.Writer
	display display
	wake    chan struct{}
	done    chan struct{}

	mu      sync.Mutex
	drained *sync.Cond // buf was taken
	buf     []byte     // to be written
	closed  bool
	count   int // vertices that have a number
	known   int // vertices
	ended   int

	recording bool
	spans     []span
}

// A display draws into Reporter.buf. All its methods are called under the lock.
type display interface {
	started(v *Vertex)
	log(v *Vertex, stream int, p []byte)
	status(v *Vertex, s *status)
	ended(v *Vertex)
	warn(v *Vertex, text string) // v may be nil
	advise(v *Vertex, w Warning)
	// tick draws what is due, and returns when to call it again; 0 means that
	// there is no need.
	tick(now time.Time) time.Duration
	closing()
}

// New returns a Reporter that writes to w. A mode that is not known is Auto.
func New(m Mode, w io.Writer) *Reporter {
	r := &Reporter{w: w, wake: make(chan struct{}, 1), done: make(chan struct{})}
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

// Warn shows a warning that belongs to no vertex.
func (r *Reporter) Warn(format string, args ...any) {
	r.event(func() { r.display.warn(nil, Legible(fmt.Sprintf(format, args...))) })
}

// Close draws the last frame and waits until all is written. Events after it
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

// event calls f under the lock, and wakes the writer.
func (r *Reporter) event(f func()) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.buf) > maxBuffer && !r.closed {
		r.drained.Wait()
	}
	if r.closed {
		return
	}
	f()
	r.poke()
}

const maxBuffer = 1 << 20

func (r *Reporter) poke() {
	select {
	case r.wake <- struct{}{}:
	default: // it will wake anyway
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
			// There is nobody to tell when the reader has gone away.
			_, _ = r.w.Write(out)
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

// take takes what is to be written, and gives a buffer for what comes next.
func (r *Reporter) take(spare []byte) (out []byte, next time.Duration, closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		next = r.display.tick(time.Now())
	}
	out, r.buf = r.buf, spare
	r.drained.Broadcast()
	return out, next, r.closed
}

// quiet shows warnings only, silent nothing.
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
func (silent) log(*Vertex, int, []byte)     {}
func (silent) status(*Vertex, *status)      {}
func (silent) ended(*Vertex)                {}
func (silent) warn(*Vertex, string)         {}
func (silent) tick(time.Time) time.Duration { return 0 }
func (silent) closing()                     {}

// oneLine makes a name fit for a line: heredocs and continued lines have
// several, and control characters would reach the terminal.
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
