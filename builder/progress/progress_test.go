package progress

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
}

// story is a build with events of all kinds.
func story(r *Reporter) {
	load := r.Vertex("[internal] load build definition from Dockerfile")
	from := r.Vertex("[build 1/4] FROM docker.io/library/busybox:latest")
	work := r.Vertex("[build 2/4] WORKDIR /src")
	copying := r.Vertex("[build 3/4] COPY . .")
	run := r.Vertex("[build 4/4] RUN make &&\n\tmake test")
	lint := r.Vertex("[lint 1/1] RUN lint")
	never := r.Vertex("exporting to image")

	load.Start()
	pause(20 * time.Millisecond)
	load.Done(nil)
	drawn()
	from.Start()
	from.Status("sha256:abc", 0, 2_500_000)
	for i := range 20 {
		pause(50 * time.Millisecond)
		from.Status("sha256:abc", int64(i+1)*125_000, 2_500_000)
		drawn()
	}
	from.StatusDone("sha256:abc")
	from.Done(nil)
	work.Cached()
	copying.Start()
	pause(100 * time.Millisecond)
	copying.Done(nil)
	drawn()

	run.Start()
	lint.Start()
	out, errs := run.Writer(1), run.Writer(2)
	fmt.Fprint(out, "cc -c a.c\ncc -c b.c\ncc")
	pause(300 * time.Millisecond)
	fmt.Fprint(out, " -c c.c\n")
	drawn()
	fmt.Fprint(errs, "warning: \x1b[31munused\x1b[0m\tvariable\n")
	lint.Log(1, []byte("linting\n"))
	lint.Warn("%d files are large", 3)
	r.Warn("using the stored pin of busybox: %s", "registry down")
	pause(2 * time.Second)
	lint.Done(context.Canceled)
	drawn()
	fmt.Fprint(out, "tests: 10%\rtests: 90%\rtests: 100%")
	pause(12 * time.Second)
	fmt.Fprint(out, " ok\nlast words")
	drawn()
	run.Done(errors.New("process \"/bin/sh -c make\" did not complete successfully: exit code: 2\nsecond line"))
	never.Done(fmt.Errorf("solve: %w", context.Canceled))
}

// pause sleeps a little longer, so that no event happens at the time of a frame:
// their order would be undefined.
func pause(d time.Duration) { time.Sleep(d + 13*time.Microsecond) }

// drawn waits until the display has drawn the first of several events that happen at
// the same time. Otherwise the number of them in that frame would be undefined.
func drawn() { synctest.Wait() }

// safe is a buffer that may be read while it is written to.
type safe struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safe) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safe) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestGolden(t *testing.T) {
	for _, m := range []Mode{Plain, RawJSON, Quiet, None, Auto} {
		t.Run(string(m), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out safe
				r := New(m, &out)
				story(r)
				r.Close()
				golden(t, string(m)+".txt", out.String())
			})
		})
	}
}

func TestParseMode(t *testing.T) {
	for _, s := range []string{"auto", "tty", "plain", "quiet", "rawjson", "none"} {
		if m, err := ParseMode(s); string(m) != s || err != nil {
			t.Errorf("%s: %q, %v", s, m, err)
		}
	}
	if _, err := ParseMode("fancy"); err == nil || !strings.Contains(err.Error(), "rawjson") {
		t.Errorf("got %v", err)
	}
}

func TestNil(t *testing.T) {
	var r *Reporter
	v := r.Vertex("x")
	synctest.Test(t, func(*testing.T) { story(r) })
	v.Done(nil)
	if _, err := v.Writer(1).Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if got := v.Tail(3); got != nil {
		t.Errorf("tail %q", got)
	}
	r.Warn("x")
	r.Close()
}

func TestTail(t *testing.T) {
	r := New(None, io.Discard)
	defer r.Close()
	for _, c := range []struct {
		name, log string
		n         int
		want      []string
	}{
		{"nothing", "", 5, nil},
		{"no newline", "a", 5, []string{"a"}},
		{"fewer", "a\nb\n", 5, []string{"a", "b"}},
		{"more", "a\nb\nc\nd", 2, []string{"c", "d"}},
		{"empty lines", "\n\na\n\n", 3, []string{"", "a", ""}},
		{"only newlines", "\n\n", 5, []string{"", ""}},
		{"one newline", "\n", 5, []string{""}},
		{"carriage returns", "a\r\nb\rc\r\n", 5, []string{"a", "b\rc"}},
		{"none asked", "a\n", 0, nil},
	} {
		v := r.Vertex(c.name)
		for _, b := range []byte(c.log) {
			v.Log(1, []byte{b})
		}
		if diff := cmp.Diff(c.want, v.Tail(c.n)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	v := r.Vertex("much")
	for i := range 50_000 {
		fmt.Fprintf(v.Writer(1), "line %d\n", i)
	}
	got := v.Tail(1000)
	if len(got) != tailLines || got[tailLines-1] != "line 49999" || got[0] != "line 49900" {
		t.Errorf("%d lines, %q", len(got), got)
	}
	v.Log(2, bytes.Repeat([]byte("x"), 10*tailBytes))
	if got := v.Tail(5); len(got) != 1 || len(got[0]) != tailBytes {
		t.Errorf("%d lines after a huge one", len(got))
	}
	if cap(v.tail) > 8*tailBytes {
		t.Errorf("the tail takes %d bytes", cap(v.tail))
	}
}

// TestNothingLost runs many vertices concurrently, which write pieces of lines, and
// finds all lines of each in order.
func TestNothingLost(t *testing.T) {
	var out safe
	r := New(Plain, &out)
	const vertices, lines = 20, 3000
	var wg sync.WaitGroup
	for i := range vertices {
		wg.Go(func() {
			v := r.Vertex(fmt.Sprint("step ", i))
			v.Start()
			for j := range lines {
				text := fmt.Sprintf("<%d:%d>\n", i, j)
				v.Log(1+j%2, []byte(text[:j%len(text)]))
				v.Log(1+j%2, []byte(text[j%len(text):]))
			}
			v.Done(nil)
		})
	}
	wg.Wait()
	r.Close()
	next := make([]int, vertices)
	for s := range strings.Lines(out.String()) {
		_, rest, ok := strings.Cut(s, "<")
		if !ok {
			continue
		}
		var i, j int
		if n, err := fmt.Sscanf(rest, "%d:%d>\n", &i, &j); n != 2 || err != nil {
			t.Fatalf("damaged line %q", s)
		}
		if j != next[i] {
			t.Fatalf("step %d: line %d, want %d", i, j, next[i])
		}
		next[i]++
	}
	for i, n := range next {
		if n != lines {
			t.Errorf("step %d: %d lines", i, n)
		}
	}
}

// stuck is a writer that blocks.
type stuck struct{ free chan struct{} }

func (s stuck) Write(p []byte) (int, error) {
	<-s.free
	return len(p), nil
}

func TestSlowWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := stuck{make(chan struct{})}
		r := New(Plain, w)
		v := r.Vertex("step")
		for range 100 {
			v.Log(1, []byte("some text, which must not have to wait\n"))
		}
		full := false
		go func() {
			for range 1000 {
				v.Log(1, bytes.Repeat([]byte("0123456789abcde\n"), 1000))
			}
			full = true
		}()
		time.Sleep(time.Minute)
		if full {
			t.Error("an endless amount is held in memory")
		}
		close(w.free)
		synctest.Wait()
		if !full {
			t.Error("the step is stuck")
		}
		r.Close()
	})
}

func TestAfterClose(t *testing.T) {
	for _, m := range []Mode{Plain, TTY, RawJSON} {
		var out safe
		r := New(m, &out)
		v := r.Vertex("x")
		v.Start()
		r.Close()
		before := out.String()
		v.Log(1, []byte("late\n"))
		v.Done(nil)
		r.Warn("late")
		r.Close()
		if out.String() != before {
			t.Errorf("%s: %q was written after Close", m, strings.TrimPrefix(out.String(), before))
		}
	}
}

// BenchmarkLog logs 100 MB of lines.
func BenchmarkLog(b *testing.B) {
	for _, m := range []Mode{Plain, TTY, RawJSON, Quiet} {
		b.Run(string(m), func(b *testing.B) {
			chunk := []byte(strings.Repeat("the compiler says something about file number 12345 in some folder of it\n", 450))
			b.SetBytes(100 << 20)
			for b.Loop() {
				r := New(m, io.Discard)
				v := r.Vertex("RUN make")
				for n := 0; n < 100<<20; n += len(chunk) {
					v.Log(1, chunk)
				}
				v.Done(nil)
				r.Close()
			}
		})
	}
}

// Line-oriented displays show advice where it is reported, even if its vertex ended
// before.
func TestAdvise(t *testing.T) {
	for mode, want := range map[Mode]string{
		Plain:   "\n#1 WARN: Rule: two lines (line 3)\n",
		RawJSON: `"level":1,"short":"UnVsZTogdHdvCmxpbmVzIChsaW5lIDMp","range":[{"start":{"line":3},"end":{"line":4}}]}]}`,
		TTY:     "", Quiet: "", None: "",
	} {
		var out bytes.Buffer
		r := New(mode, &out)
		v := r.Vertex("load")
		v.Done(nil)
		v.Advise(Warning{Level: 1, Short: []byte("Rule: two\nlines (line 3)"), Ranges: []Span{{Place{3}, Place{4}}}})
		r.Close()
		if got := out.String(); !strings.Contains(got, want) || want == "" && strings.Contains(got, "Rule") {
			t.Errorf("%s: got %q, want %q", mode, got, want)
		}
	}
}

// A transfer has a line every ten seconds, and one at its end.
func TestPlainTransfers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out safe
		r := New(Plain, &out)
		v := r.Vertex("exporting layers")
		for n := range 250 {
			v.Status("layer of [2/3]", int64(n), 250)
			time.Sleep(100 * time.Millisecond)
		}
		v.StatusDone("layer of [2/3]")
		v.Done(nil)
		r.Close()
		const want = "#1 exporting layers\n" +
			"#1 layer of [2/3] 100B / 250B 10.0s 10B/s\n#1 layer of [2/3] 200B / 250B 20.0s 10B/s\n" +
			"#1 layer of [2/3] 250B / 250B 25.0s 10B/s done\n#1 DONE 25.0s\n"
		if got := out.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// While a display is suspended, nothing is written; then all of it is.
func TestSuspend(t *testing.T) {
	for _, mode := range []Mode{TTY, Plain, RawJSON, Quiet, None} {
		t.Run(string(mode), func(t *testing.T) {
			var out lockedBuffer
			r := New(mode, &out)
			v, w := r.Vertex("first"), r.Vertex("second")
			v.Start()
			v.Log(1, []byte("early\n"))
			w.Start()
			resume := r.Suspend()
			before := out.String()
			w.Log(1, bytes.Repeat([]byte("late output\n"), 200_000)) // more than the usual buffer
			v.Done(errors.New("failed"))
			second := make(chan func())
			go func() { second <- r.Suspend() }()
			if got := out.String(); got != before {
				t.Errorf("written while suspended: %d bytes", len(got)-len(before))
			}
			resume()
			(<-second)()
			r.Close()
			if got := out.String(); (mode == TTY || mode == Plain) && !strings.Contains(got[len(before):], "ERROR") && !strings.Contains(got[len(before):], "late output") {
				t.Errorf("held output was lost: %q", got[len(before):])
			}
		})
	}
	var none *Reporter
	none.Suspend()()
}

// lockedBuffer is a buffer for concurrent use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
