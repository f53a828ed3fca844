package progress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// screen is a terminal emulator with the control sequences that the display uses.
// Others are an error.
type screen struct {
	mu            sync.Mutex
	columns, rows int
	lines         []string
	row, column   int
	hidden        bool
	writes        int
	bytes         int
	problem       string
	colors        bool
}

func (s *screen) Size() (int, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.columns, s.rows
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	s.bytes += len(p)
	text := string(p)
	for len(text) > 0 {
		if text[0] == 0x1b {
			n := 2 + strings.IndexFunc(text[2:], func(r rune) bool { return r >= 0x40 && r <= 0x7e }) + 1 // a control sequence ends with such a letter
			s.escape(text[2:n-1], text[n-1])
			text = text[n:]
			continue
		}
		for i, r := range text {
			s.put(r)
			text = text[i+len(string(r)):]
			break
		}
	}
	if s.hidden {
		s.problem = "the cursor is hidden between frames"
	}
	return len(p), nil
}

func (s *screen) escape(args string, op byte) {
	switch {
	case op == 'A':
		n, _ := strconv.Atoi(args)
		if s.row -= n; s.row < 0 || len(s.lines)-s.row > s.rows {
			s.problem = "the cursor went above the screen"
			s.row = max(s.row, 0)
		}
	case op == 'K' && s.row < len(s.lines):
		if r := []rune(s.lines[s.row]); len(r) > s.column {
			s.lines[s.row] = string(r[:s.column])
		}
	case op == 'J' && s.row < len(s.lines):
		s.lines = s.lines[:s.row]
	case op == 'K', op == 'J', args == "?7" && (op == 'l' || op == 'h'):
	case args == "?25":
		s.hidden = op == 'l'
	case op == 'm':
		s.colors = true
	default:
		s.problem = fmt.Sprintf("unknown sequence %q%c", args, op)
	}
}

func (s *screen) put(r rune) {
	switch r {
	case '\n':
		s.grow()
		s.row, s.column = s.row+1, 0
		return
	case '\r':
		s.column = 0
		return
	}
	s.grow()
	line := []rune(s.lines[s.row])
	for len(line) <= s.column {
		line = append(line, ' ')
	}
	line[s.column] = r
	s.lines[s.row] = string(line)
	if s.column++; s.column >= s.columns {
		s.problem = "a line reaches the last column"
	}
}

func (s *screen) grow() {
	for len(s.lines) <= s.row {
		s.lines = append(s.lines, "")
	}
}

// resize changes the width of the screen and reflows its lines, as terminals do.
func (s *screen) resize(columns int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, l := range s.lines {
		for len(l) > columns {
			out = append(out, l[:columns])
			l = l[columns:]
		}
		out = append(out, l)
	}
	s.row += len(out) - len(s.lines)
	s.lines, s.columns = out, columns
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, l := range s.lines {
		b.WriteString("|" + strings.TrimRight(l, " ") + "\n")
	}
	return b.String()
}

// film records the content of the screen over time.
func film(t *testing.T, s *screen, times []time.Duration, play func(r *Reporter)) string {
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		r := New(TTY, s)
		begin := time.Now()
		go func() {
			play(r)
			r.Close()
		}()
		for _, at := range times {
			time.Sleep(at - time.Since(begin))
			synctest.Wait()
			fmt.Fprintf(&out, "after %v:\n%s\n", at, s)
		}
		<-r.done
		synctest.Wait()
		fmt.Fprintf(&out, "at the end:\n%s", s)
	})
	if s.problem != "" {
		t.Error(s.problem)
	}
	return out.String()
}

func TestTTYGolden(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	s := &screen{columns: 80, rows: 24}
	times := []time.Duration{50 * time.Millisecond, 700 * time.Millisecond, 1350 * time.Millisecond, 2500 * time.Millisecond, 9 * time.Second}
	golden(t, "tty.txt", film(t, s, times, story))
	if s.colors {
		t.Error("NO_COLOR is not honoured")
	}
}

func TestTTYColors(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	s := &screen{columns: 80, rows: 24}
	film(t, s, nil, story)
	if !s.colors {
		t.Error("no colours")
	}
}

func TestTTYSmall(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	s := &screen{columns: 40, rows: 8}
	golden(t, "tty-small.txt", film(t, s, []time.Duration{time.Second, 3 * time.Second}, func(r *Reporter) {
		var all []*Vertex
		for i := range 9 {
			v := r.Vertex(fmt.Sprintf("[stage%d 1/1] RUN something that is longer than the screen", i))
			v.Start()
			v.Log(1, []byte("building 世界 世界 世界 世界 世界 世界 世界\nmore\n"))
			v.Status("layer", 1_000_000, 0)
			all = append(all, v)
		}
		pause(2 * time.Second)
		for _, v := range all[:6] {
			v.Done(nil)
			drawn()
		}
		pause(2 * time.Second)
		all[7].Done(errors.New("boom"))
		drawn()
		all[8].Done(context.Canceled)
	}))
}

func TestTTYResize(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	s := &screen{columns: 100, rows: 24}
	got := film(t, s, []time.Duration{time.Second, 3 * time.Second, 5 * time.Second}, func(r *Reporter) {
		a, b := r.Vertex("[a 1/2] RUN first of the commands"), r.Vertex("[a 2/2] RUN second of the commands")
		a.Start()
		b.Start()
		b.Log(1, []byte("some output of it\n"))
		pause(2 * time.Second)
		s.resize(50)
		pause(2 * time.Second)
		s.resize(70)
		pause(2 * time.Second)
		a.Done(nil)
		b.Done(nil)
	})
	golden(t, "tty-resize.txt", got)
}

// TestTTYCalm counts frames: at most ten a second with events, one if only the
// times change, none if nothing runs.
func TestTTYCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{columns: 80, rows: 24}
		r := New(TTY, s)
		counted := func() (writes, bytes int) {
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.writes, s.bytes
		}
		count := func(f func()) (writes, bytes int) {
			w, b := counted()
			f()
			writes, bytes = counted()
			return writes - w, bytes - b
		}
		v := r.Vertex("RUN noise")
		v.Start()
		busy, bytes := count(func() {
			for range 10_000 {
				v.Log(1, []byte("x\n"))
				v.Status("layer", 1, 2)
				time.Sleep(time.Millisecond)
			}
		})
		if busy > 101 || busy < 95 || bytes > 101*1500 {
			t.Errorf("%d frames, %d bytes in ten busy seconds", busy, bytes)
		}
		time.Sleep(time.Second)
		if idle, _ := count(func() { time.Sleep(60 * time.Second) }); idle < 59 || idle > 61 {
			t.Errorf("%d frames in an idle minute", idle)
		}
		v.Done(nil)
		time.Sleep(time.Second)
		if none, _ := count(func() { time.Sleep(time.Hour) }); none != 0 {
			t.Errorf("%d frames while nothing runs", none)
		}
		r.Close()
	})
}

func TestTTYEmpty(t *testing.T) {
	s := &screen{columns: 80, rows: 24}
	r := New(TTY, s)
	r.Vertex("never started")
	r.Close()
	if got := s.String(); got != "" {
		t.Errorf("a build without vertices draws %q", got)
	}
}

// Names, warnings and errors quote text from untrusted sources.
func TestControlCharacters(t *testing.T) {
	const hostile = "\x1b[2Ja\tb\x07\r\u009b1m"
	var out bytes.Buffer
	r := New(Plain, &out)
	v := r.Vertex(hostile)
	v.Start()
	v.Warn("%s", hostile)
	v.Done(errors.New(hostile + "\nx"))
	r.Warn("%s", hostile)
	r.Close()
	if text := out.String(); strings.ContainsAny(text, "\x1b\x07\r\u009b") || strings.Count(text, "a\tb") != 3 {
		t.Errorf("got %q", text)
	}
}

func TestText(t *testing.T) {
	for n, want := range map[int64]string{0: "0B", 999: "999B", 1000: "1.00kB", 2_500_000: "2.50MB", 12_345_678_901: "12.35GB"} {
		if got := size(n); got != want {
			t.Errorf("size %d: %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0.0s", 1234 * time.Millisecond: "1.2s", 100 * time.Second: "1m40s", 3599 * time.Second: "59m59s", 3 * time.Hour: "3h00m",
	} {
		if got := clock(d); got != want {
			t.Errorf("clock %v: %s, want %s", d, got, want)
		}
	}
	if got := gauge(5, 10); got != "[============            ]" {
		t.Errorf("gauge: %s", got)
	}
	if got := gauge(20, 10); strings.Count(got, "=") != barWidth {
		t.Errorf("gauge above its total: %s", got)
	}
}

// TestTTYLastLine checks the last line: the vertices are counted, late ones if they were
// needed, and the word is the end of the build.
func TestTTYLastLine(t *testing.T) {
	for want, play := range map[string]func(r *Reporter, v, late *Vertex){
		"(1/1) FINISHED": func(_ *Reporter, v, _ *Vertex) { v.Done(nil) },
		"(2/2) FINISHED": func(_ *Reporter, v, late *Vertex) { v.Done(nil); late.Status("x", 1, 2); late.Done(nil) },
		"(1/1) FAILED":   func(_ *Reporter, v, late *Vertex) { late.Done(context.Canceled); v.Done(errors.New("x")) },
		"(1/1) CANCELED": func(_ *Reporter, v, _ *Vertex) { v.Start(); v.Done(context.Canceled) },
		"(1/2) CANCELED": func(r *Reporter, v, _ *Vertex) { v.Done(nil); r.Vertex("other").Start() },
	} {
		s := &screen{columns: 60, rows: 10}
		r := New(TTY, s)
		play(r, r.Vertex("step"), r.LateVertex("late"))
		r.Close()
		if text := strings.TrimSpace(s.String()); !strings.HasSuffix(text, want) {
			t.Errorf("got %q, want %q at the end", text, want)
		}
	}
}

// TestTTYWaits checks the total of several transfers, and that the summary has its title
// and counts the steps that wait for a processor.
func TestTTYWaits(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	s := &screen{columns: 90, rows: 10}
	times := []time.Duration{700 * time.Millisecond, 2700 * time.Millisecond, 4700 * time.Millisecond}
	golden(t, "tty-waits.txt", film(t, s, times, func(r *Reporter) {
		r.Title("Pulling")
		v := r.Vertex("pulling docker.io/library/debian:12")
		v.Start()
		v.Status("sha256:a", 1_000_000, 2_500_000)
		v.Status("sha256:b", 500_000, 7_500_000)
		first, second := r.Starve("RUN a"), r.Starve("RUN b")
		pause(2 * time.Second)
		first()
		pause(2 * time.Second)
		second()
		v.Status("sha256:c", 1, 0) // of unknown size
		pause(2 * time.Second)
		v.Done(nil)
	}))
}
