package worker

import (
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/solve"
)

// span notes work of a step for the build's timeline.
func (w *Worker) span(s *solve.Step, name string) (end func()) {
	return w.Progress.Span(w.lane(s), progress.Work, name)
}

// wait notes that a step waits. A wait that nobody would see is left out.
func (w *Worker) wait(s *solve.Step, name string) (end func()) {
	begin := time.Now()
	return func() { w.waited(s, name, begin) }
}

const shortWait = 100 * time.Microsecond

func (w *Worker) waited(s *solve.Step, name string, begin time.Time) {
	if time.Since(begin) >= shortWait {
		w.Progress.SpanSince(w.lane(s), progress.Wait, name, begin)
	}
}

// lane is where a step's spans are: at its name.
func (w *Worker) lane(s *solve.Step) string {
	if name := w.Name(s); name != "" {
		return name
	}
	return "other steps"
}

// missed notes when a step was found not to be known: from there on it waits for
// its inputs.
func (w *Worker) missed(s *solve.Step) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.misses[s]; !ok {
		w.misses[s] = time.Now()
	}
}

// begun notes that a step has its inputs.
func (w *Worker) begun(s *solve.Step) {
	w.mu.Lock()
	begin, ok := w.misses[s]
	w.mu.Unlock()
	if !ok {
		return
	}
	var names []string
	for _, in := range s.In {
		if name := w.Name(in.Step); name != "" {
			names = append(names, name)
		}
	}
	w.waited(s, "waits for "+strings.Join(names, ", "), begin)
}
