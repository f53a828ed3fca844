package progress

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A step that was not cached says why: at the right of its line on a terminal, on a line of
// its own in plain output, and in the stream of events.
func TestReason(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	play := func(r *Reporter) {
		v := r.Vertex("[2/3] COPY . .")
		v.Start()
		v.Reason("package.json\x1b changed")
		pause(2 * time.Second)
		v.Done(nil)
	}
	s := &screen{columns: 80, rows: 10}
	got := film(t, s, []time.Duration{time.Second, 3 * time.Second}, play)
	for _, want := range []string{" package.json\uFFFD changed 0.1s\n", " package.json\uFFFD changed 2.0s\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no line %q in\n%s", want, got)
		}
	}
	for mode, want := range map[Mode]string{Plain: "#1 [2/3] COPY . .\n#1 not cached: package.json\uFFFD changed\n", RawJSON: `"reason":"package.json` + "\uFFFD" + ` changed"`} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			r := New(mode, &out)
			play(r)
			r.Close()
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%s", mode, want, out.String())
			}
		})
	}
}

// The time in which the user looks at a step is not that of the step.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(None, io.Discard)
		defer r.Close()
		r.Record()
		failed, again, done := r.Vertex("failed"), r.Vertex("again"), r.Vertex("done")
		for _, v := range []*Vertex{failed, again, done} {
			v.Start()
		}
		time.Sleep(time.Second)
		done.Done(nil)
		failed.Pause()
		restart, late := again.Pause(), done.Pause()
		time.Sleep(time.Minute)
		restart()
		late()
		time.Sleep(2 * time.Second)
		failed.Done(errors.New("boom"))
		again.Done(nil)
		for i, want := range []time.Duration{time.Second, 2 * time.Second, time.Second} {
			if a := r.Timeline().Activities[i]; a.End.Sub(a.Start) != want {
				t.Errorf("%s took %v, want %v", a.Name, a.End.Sub(a.Start), want)
			}
		}
	})
}

// Timeline returns vertices with the end of their output, also of those that go on.
func TestTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(None, io.Discard)
		defer r.Close()
		r.Record()
		done, failed, running := r.Vertex("done"), r.Vertex("failed"), r.Vertex("running")
		done.Start()
		done.Log(1, bytes.Repeat([]byte("0123456789abcde\n"), 100_000))
		done.Status("layer", 5, 10)
		failed.Start()
		failed.Log(1, bytes.Repeat([]byte("0123456789abcde\n"), 100_000))
		running.Start()
		done.Done(nil)
		failed.Done(errors.New("boom"))
		r.Warn("odd")
		end := r.Span("done", Work, "packs")
		time.Sleep(time.Second)
		end()
		got := r.Timeline()
		if len(got.Activities) != 3 || len(got.Periods) != 3 || len(got.Warnings) != 1 {
			t.Fatalf("%d activities, %d periods, %d warnings", len(got.Activities), len(got.Periods), len(got.Warnings))
		}
		a, b, c := got.Activities[0], got.Activities[1], got.Activities[2]
		if len(a.Log) != 32<<10 || a.Dropped != 1_600_000-32<<10 || a.Transfers[0].Bytes != 5 {
			t.Errorf("done: %d bytes of output, %d dropped, %v", len(a.Log), a.Dropped, a.Transfers)
		}
		if len(b.Log) < 64<<10 || b.Err == nil || b.Dropped+int64(len(b.Log)) != 1_600_000 {
			t.Errorf("failed: %d bytes of output, %d dropped, %v", len(b.Log), b.Dropped, b.Err)
		}
		if d := c.End.Sub(c.Start); d != time.Second {
			t.Errorf("the running one has taken %v", d)
		}
	})
}
