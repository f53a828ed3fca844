package progress

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTrace(t *testing.T) {
	r := New(None, nil)
	r.Span("lane", Work, "before it records")()
	r.Record()
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	r.mu.Lock()
	for _, s := range []span{
		{"a", Work, "outer", at(0), at(10)},
		{"a", Work, "inner", at(2), at(8)},
		{"a", Wait, "overlaps", at(5), at(12)},
		{"b", Work, "other", at(1), at(2)},
		{"a", Work, "later", at(20), at(21)},
	} {
		r.note(s)
	}
	r.mu.Unlock()
	r.Close()
	var out bytes.Buffer
	if err := r.WriteTrace(&out); err != nil {
		t.Fatal(err)
	}
	var got struct{ TraceEvents []traceEvent }
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	threads := map[int]string{}
	where := map[string]int{}
	for _, e := range got.TraceEvents {
		switch e.Phase {
		case "M":
			threads[e.Thread] = e.Args["name"]
		case "X":
			where[e.Name] = e.Thread
		}
	}
	want := map[string]int{"outer": 1, "inner": 1, "later": 1, "other": 2, "overlaps": 3}
	if diff := cmp.Diff(want, where); diff != "" {
		t.Errorf("threads of spans (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[int]string{0: "cairn build", 1: "a", 2: "b", 3: "a"}, threads); diff != "" {
		t.Errorf("names of threads (-want +got):\n%s", diff)
	}
}

func TestSpansInRawJSON(t *testing.T) {
	var out strings.Builder
	r := New(RawJSON, &out)
	r.Span("[1/2] RUN x", Wait, "waits for y")()
	r.Close()
	var got jsonEvent
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatalf("%v in %q", err, &out)
	}
	if len(got.Spans) != 1 || got.Spans[0].Lane != "[1/2] RUN x" || got.Spans[0].Kind != Wait || got.Spans[0].Completed.Before(got.Spans[0].Started) {
		t.Errorf("spans %+v", got.Spans)
	}
}

func TestNilReporterHasNoTimeline(t *testing.T) {
	var r *Reporter
	r.Record()
	r.Span("a", Work, "b")()
	if err := r.WriteTrace(nil); err != nil {
		t.Error(err)
	}
}
