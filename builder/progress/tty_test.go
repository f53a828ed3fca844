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

// screen is a small terminal emulator: what the display uses, and nothing
// else, which is an error.
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
			n := escapeLength(text)
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

// resize narrows or widens the screen, and reflows what is on it, as terminals
// do.
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

// film is what is on the screen at some times.
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
		}
		pause(2 * time.Second)
		all[7].Done(errors.New("boom"))
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

// TestTTYCalm counts frames: ten a second at most while things happen, one
// while only time goes by, none when nothing runs.
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

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                          "plain",
		"\x1b[1;31mred\x1b[0m text":      "red text",
		"10%\r50%\r100%":                 "100%",
		"line\r":                         "line",
		"a\tb":                           "a       b",
		"\x1b]0;title\a x":               " x",
		"\x1b]8;;http://x\x1b\\link":     "link",
		"bell\a back\b null\x00 del\x7f": "bell back null del",
		"\xff\xfe":                       "\ufffd\ufffd",
		"世界":                             "世界",
		"cut \x1b":                       "cut ",
		"cut \x1b[31":                    "cut ",
		"c1 \u009b31m":                   "c1 31m",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// TestLegible: names, warnings and errors quote what others have written.
func TestLegible(t *testing.T) {
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

func FuzzPrintable(f *testing.F) {
	f.Add("\x1b[1;31mred\x1b[0m\ttext\r\n", 10)
	f.Fuzz(func(t *testing.T, s string, n int) {
		p := printable(s)
		if strings.ContainsAny(p, "\x00\x1b\r\n\t\a\b\x7f") {
			t.Errorf("%q became %q", s, p)
		}
		if n >= 0 && n < 1000 {
			if got := fit(p, n); width(got) > n {
				t.Errorf("%q cut to %d columns is %q", p, n, got)
			}
		}
	})
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
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abcdefghijk", 10, "abcdefg..."}, {"abcdef", 4, "abcd"}, {"世界世界世界", 9, "世界世..."}, {"x", 0, ""}} {
		if got := fit(c.in, c.n); got != c.want {
			t.Errorf("fit %q to %d: %q", c.in, c.n, got)
		}
	}
}
