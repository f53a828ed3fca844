package progress

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/progress/termtext"
)

// plain prints lines in BuildKit's format. It does not interleave the lines of
// concurrent vertices: one vertex is current and prints immediately. The output of
// the others is held until they end, until the current one ends or is quiet, or
// until the held text is too long or too old.
type plain struct {
	r       *Reporter
	current *Vertex
	waiting []*Vertex // others that started or have output, in this order
	printed bool      // any line was printed
	spoke   time.Time // when the current vertex last printed
}

// plainState is the state of a vertex for plain.
type plainState struct {
	named   bool   // its name was printed
	held    []byte // formatted lines, not printed yet
	since   time.Time
	partial [3][]byte // incomplete line of each stream
	cut     time.Time // when the incomplete line began
	open    int       // stream whose incomplete line is printed already; 0 for none
}

const (
	quietTime  = 500 * time.Millisecond // a current vertex without output for so long is replaced
	switchTime = 5 * time.Second        // a current vertex with output is replaced if others wait so long
	heldBytes  = 256 << 10
	statusTime = 10 * time.Second // the least time between two lines about a transfer that goes on
	openTime   = time.Second      // an incomplete line is printed after so long
)

func (p *plain) started(v *Vertex) {
	if p.current == nil {
		p.switchTo(v)
	} else {
		p.wait(v)
	}
}

func (p *plain) log(v *Vertex, stream int, b []byte) {
	if stream < 1 || stream > 2 {
		stream = 1
	}
	i := bytes.LastIndexByte(b, '\n') + 1
	st := &v.plain
	if i > 0 {
		p.say(v, func(out []byte) []byte { return appendLines(out, v, stream, b[:i]) })
	}
	if i < len(b) {
		if len(st.partial[stream]) == 0 {
			st.cut = time.Now()
		}
		st.partial[stream] = append(st.partial[stream], b[i:]...)
		if len(st.partial[stream]) > heldBytes {
			p.say(v, func(out []byte) []byte { return appendOpen(out, v, stream) })
		}
	}
}

// appendLines formats complete lines, the first of which begins with the
// stream's incomplete line.
func appendLines(out []byte, v *Vertex, stream int, b []byte) []byte {
	st := &v.plain
	prefix := linePrefix(v)
	if st.open == stream {
		st.open = 0
	} else {
		out = append(finishOpen(out, v), prefix...)
	}
	out = append(out, st.partial[stream]...)
	st.partial[stream] = st.partial[stream][:0]
	for {
		i := bytes.IndexByte(b, '\n') + 1
		out = append(out, b[:i]...)
		if b = b[i:]; len(b) == 0 {
			return out
		}
		out = append(out, prefix...)
	}
}

// appendOpen prints an incomplete line, which may be continued later.
func appendOpen(out []byte, v *Vertex, stream int) []byte {
	st := &v.plain
	if len(st.partial[stream]) == 0 {
		return out
	}
	if st.open != stream {
		out = append(finishOpen(out, v), linePrefix(v)...)
	}
	st.open = stream
	out = append(out, st.partial[stream]...)
	st.partial[stream] = st.partial[stream][:0]
	return out
}

// finishOpen ends an incomplete line before another line.
func finishOpen(out []byte, v *Vertex) []byte {
	if v.plain.open != 0 {
		v.plain.open = 0
		return append(out, '\n')
	}
	return out
}

// linePrefix returns the prefix of a line, as in "#5 0.123 ".
func linePrefix(v *Vertex) []byte {
	seconds := time.Since(v.start).Seconds()
	precision := 1
	switch {
	case seconds < 10:
		precision = 3
	case seconds < 100:
		precision = 2
	}
	b := strconv.AppendInt(append(make([]byte, 0, 24), '#'), int64(v.number), 10)
	return append(strconv.AppendFloat(append(b, ' '), seconds, 'f', precision, 64), ' ')
}

// say prints the text that f appends if v is current or can become current.
// Otherwise it holds the text.
func (p *plain) say(v *Vertex, f func([]byte) []byte) {
	if p.current == nil {
		p.switchTo(v)
	}
	if p.current == v {
		p.r.buf = f(p.r.buf)
		p.spoke = time.Now()
		return
	}
	p.wait(v)
	v.plain.held = f(v.plain.held)
	if len(v.plain.held) > heldBytes {
		p.switchTo(v)
	}
}

func (p *plain) wait(v *Vertex) {
	if !slices.Contains(p.waiting, v) {
		v.plain.since = time.Now()
		p.waiting = append(p.waiting, v)
	}
}

// switchTo makes v current and prints its held text.
func (p *plain) switchTo(v *Vertex) {
	p.waiting = slices.DeleteFunc(p.waiting, func(w *Vertex) bool { return w == v })
	if old := p.current; old != nil && old != v {
		p.r.buf = finishOpen(p.r.buf, old)
		p.r.buf = fmt.Appendf(p.r.buf, "#%d ...\n", old.number)
		p.wait(old)
	}
	if p.printed {
		p.r.buf = append(p.r.buf, '\n')
	}
	p.printed = true
	p.current, p.spoke, v.plain.named = v, time.Now(), true
	p.r.buf = fmt.Appendf(p.r.buf, "#%d %s\n", v.number, v.name)
	p.r.buf = append(p.r.buf, v.plain.held...)
	v.plain.held = nil
}

func (p *plain) status(v *Vertex, s *status) {
	now := time.Now()
	last := s.shown
	if last.IsZero() {
		last = s.start
	}
	if s.end.IsZero() && now.Sub(last) < statusTime {
		return
	}
	s.shown = now
	line := fmt.Sprintf("#%d %s", v.number, oneLine(s.id))
	if s.total != 0 {
		line += " " + size(s.current) + " / " + size(s.total)
	} else if s.current != 0 {
		line += " " + size(s.current)
	}
	end := s.end
	if end.IsZero() {
		end = now
	}
	if d := end.Sub(s.start); d > 10*time.Millisecond {
		line += " " + seconds(d)
		if d >= time.Second { // a rate over less time is inaccurate
			line += rate(s.current, d)
		}
	}
	if !s.end.IsZero() {
		line += " done"
	}
	p.say(v, func(out []byte) []byte { return append(append(finishOpen(out, v), line...), '\n') })
}

func (p *plain) warn(v *Vertex, text string) {
	if v != nil {
		line := fmt.Sprintf("#%d WARN: %s\n", v.number, text)
		p.say(v, func(out []byte) []byte { return append(finishOpen(out, v), line...) })
		return
	}
	if p.current != nil {
		p.r.buf = finishOpen(p.r.buf, p.current)
	}
	p.r.buf = append(append(append(p.r.buf, "WARN: "...), text...), '\n')
	p.printed = true
}

// ended prints the end of a vertex immediately, even if another one is current.
func (p *plain) ended(v *Vertex) {
	if p.current != v {
		p.switchTo(v)
	}
	out := appendOpen(p.r.buf, v, 1)
	out = finishOpen(appendOpen(out, v, 2), v)
	switch {
	case v.canceled():
		out = fmt.Appendf(out, "#%d CANCELED\n", v.number)
	case v.err != nil:
		text := strings.ReplaceAll(strings.TrimRight(termtext.Safe(v.err.Error()), "\n"), "\n", fmt.Sprintf("\n#%d ", v.number))
		out = fmt.Appendf(out, "#%d ERROR: %s\n", v.number, text)
	case v.cached:
		out = fmt.Appendf(out, "#%d CACHED\n", v.number)
	default:
		out = fmt.Appendf(out, "#%d DONE %s\n", v.number, seconds(v.elapsed(v.end)))
	}
	p.r.buf = out
	p.current = nil
	if next := p.next(); next != nil {
		p.switchTo(next)
	}
}

// next returns the vertex that has waited longest to print.
func (p *plain) next() *Vertex {
	for _, v := range p.waiting {
		if len(v.plain.held) > 0 {
			return v
		}
	}
	return nil
}

// reason prints why a step is not cached.
func (p *plain) reason(v *Vertex) {
	p.say(v, func(out []byte) []byte {
		return fmt.Appendf(finishOpen(out, v), "#%d not cached: %s\n", v.number, v.reason)
	})
}

// tick switches to another vertex if it is due, and prints incomplete lines.
func (p *plain) tick(now time.Time) time.Duration {
	due := p.turn(now)
	v := p.current
	if v == nil || len(v.plain.partial[1])+len(v.plain.partial[2]) == 0 {
		return due
	}
	if left := openTime - now.Sub(v.plain.cut); left > 0 {
		return sooner(due, left)
	}
	p.r.buf = appendOpen(appendOpen(p.r.buf, v, 1), v, 2)
	return due
}

// turn makes another vertex current if it is due. It returns when to call it
// again; 0 is never.
func (p *plain) turn(now time.Time) time.Duration {
	next, left := p.candidate(now)
	if next == nil || left > 0 {
		return max(left, 0)
	}
	p.switchTo(next)
	return p.turn(now)
}

// candidate returns the vertex to switch to next, and when.
func (p *plain) candidate(now time.Time) (*Vertex, time.Duration) {
	quiet := now.Sub(p.spoke)
	next := p.next()
	switch {
	case next != nil && p.current == nil:
		return next, 0
	case next != nil:
		return next, min(quietTime-quiet, switchTime-now.Sub(next.plain.since))
	case len(p.waiting) > 0 && p.current == nil:
		return p.waiting[0], quietTime - quiet
	}
	for _, v := range p.waiting {
		if !v.plain.named { // a vertex without output is named once
			return v, switchTime - quiet
		}
	}
	return nil, 0
}

func sooner(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

func (p *plain) pause() {}

func (p *plain) closing() {
	for _, v := range slices.Clone(p.waiting) {
		if len(v.plain.held) > 0 {
			p.switchTo(v)
		}
	}
	if p.current != nil {
		p.r.buf = appendOpen(appendOpen(p.r.buf, p.current, 1), p.current, 2)
		p.r.buf = finishOpen(p.r.buf, p.current)
	}
}
