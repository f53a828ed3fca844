package solve

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// world is a runner whose results are strings and whose store is a map. A result
// is the op and the results of the inputs, unless output has another one.
type world struct {
	mu     sync.Mutex
	pins   map[string]string // op -> pin
	output map[string]string // op -> result, whatever the inputs
	fail   map[string]error
	stored map[Key]record
	log    []string
	locked map[Key]int
}

type record struct {
	value   string
	content Key
}

func newWorld() *world {
	return &world{pins: map[string]string{}, output: map[string]string{}, fail: map[string]error{}, stored: map[Key]record{}, locked: map[Key]int{}}
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func (w *world) Pin(_ context.Context, s *Step) (string, error) { return w.pins[s.Op], nil }

// Observe selects by prefix: the words of a result that start with sel.
func (w *world) Observe(_ context.Context, r, sel string) (string, error) {
	var words []string
	for _, f := range strings.Fields(r) {
		if strings.HasPrefix(f, sel) {
			words = append(words, f)
		}
	}
	return "digest of " + strings.Join(words, " "), nil
}

func (w *world) Load(_ context.Context, _ *Step, key Key) (string, Key, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.stored[key]
	return r.value, r.content, ok
}

func (w *world) Alias(_ context.Context, s *Step, key, content Key, r string) {
	w.note("alias %s", s.Op)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stored[key] = record{r, content}
}

func (w *world) Lock(_ context.Context, _ *Step, key Key) (func(), error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.locked[key]++
	return func() { w.mu.Lock(); w.locked[key]--; w.mu.Unlock() }, nil
}

func (w *world) Run(_ context.Context, j Job[string]) (string, error) {
	defer j.Unlock()
	w.note("run %s", j.Step.Op)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fail[j.Step.Op]; err != nil {
		return "", err
	}
	out, ok := w.output[j.Step.Op]
	if !ok {
		out = strings.Join(append(j.In, j.Step.Op), " ")
	}
	if len(j.Step.In) > 0 {
		w.stored[j.Recipe] = record{out, j.Content}
		w.stored[j.Content] = record{out, j.Content}
	}
	return out, nil
}

// build solves a new copy of a graph, as a new process would, and returns the steps
// that ran.
func (w *world) build(t *testing.T, make func() *Step) (string, []string) {
	t.Helper()
	w.log = nil
	r, err := New[string](t.Context(), w).Solve(make())
	if err != nil {
		t.Fatal(err)
	}
	for k, n := range w.locked {
		if n != 0 {
			t.Errorf("lock of %s is held %d times after the build", k, n)
		}
	}
	return r, w.log
}

func step(op string, in ...Input) *Step { return &Step{Op: op, In: in} }
func all(s *Step) Input                 { return Input{Step: s} }
func some(s *Step, sel string) Input    { return Input{Step: s, Sel: sel} }

// twoStages is a graph in which stage A runs a compiler on the context; the final
// stage copies the words that start with "out" from it and runs a command on them.
func twoStages() *Step {
	src := step("copy", all(step("image")), some(step("context"), "src"))
	a := step("compile", all(src))
	b := step("copyfrom", all(step("image")), some(a, "out"))
	return step("final", all(b))
}

func twoStageWorld() *world {
	w := newWorld()
	w.pins["image"] = "sha256:base"
	w.output["context"] = "src1 doc1"
	w.output["compile"] = "out1 log1"
	return w
}

func TestSecondBuildRunsNothing(t *testing.T) {
	t.Parallel()
	w := twoStageWorld()
	first, _ := w.build(t, twoStages)
	second, log := w.build(t, twoStages)
	if first != second {
		t.Errorf("first %q, second %q", first, second)
	}
	if diff := cmp.Diff([]string{"run context"}, log); diff != "" {
		t.Errorf("second build (-want +got):\n%s", diff)
	}
}

func TestUnselectedContextIsNoInput(t *testing.T) {
	t.Parallel()
	w := twoStageWorld()
	w.build(t, twoStages)
	w.output["context"] = "src1 doc2"
	if _, log := w.build(t, twoStages); len(log) != 1 {
		t.Errorf("ran %q, want only the context", log)
	}
}

func TestEarlyCutoff(t *testing.T) {
	t.Parallel()
	w := twoStageWorld()
	w.build(t, twoStages)
	w.output["context"] = "src2 doc1" // another source ...
	w.output["compile"] = "out1 log2" // ... that compiles to the same
	_, log := w.build(t, twoStages)
	want := []string{"run context", "run image", "run copy", "run compile", "alias copyfrom"}
	got := map[string]bool{}
	for _, l := range log {
		got[l] = true
	}
	for _, l := range want {
		if !got[l] {
			t.Errorf("missing %q in %q", l, log)
		}
	}
	if got["run copyfrom"] || got["run final"] && !got["alias copyfrom"] {
		t.Errorf("ran %q", log)
	}
	if _, log := w.build(t, twoStages); len(log) != 1 {
		t.Errorf("third build ran %q, want only the context", log)
	}
}

// The step after an early cutoff is keyed by the content key of the one before,
// so it is a hit as well.
func TestCutoffReachesWhatFollows(t *testing.T) {
	t.Parallel()
	w := twoStageWorld()
	w.build(t, twoStages)
	w.output["context"] = "src2 doc1"
	_, log := w.build(t, twoStages)
	for _, l := range log {
		if l == "run final" || l == "run copyfrom" {
			t.Errorf("%s, though its input did not change", l)
		}
	}
}

func TestPrunedStageIsNotRebuilt(t *testing.T) {
	t.Parallel()
	w := twoStageWorld()
	w.build(t, twoStages)
	for k, r := range w.stored { // drop the result of the middle stage only
		if r.value == "out1 log1" {
			delete(w.stored, k)
		}
	}
	if _, log := w.build(t, twoStages); len(log) != 1 {
		t.Errorf("ran %q, want only the context", log)
	}
}

func TestChangedBaseRunsAll(t *testing.T) {
	t.Parallel()
	w := twoStageWorld()
	w.build(t, twoStages)
	w.pins["image"] = "sha256:other"
	if _, log := w.build(t, twoStages); len(log) != 6 {
		t.Errorf("ran %q, want each of the six once", log)
	}
}

func TestFreshRunsAndFiles(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.pins["image"] = "sha256:base"
	run := func(fresh bool) func() *Step {
		return func() *Step { s := step("date", all(step("image"))); s.NoCache = fresh; return s }
	}
	w.build(t, run(false))
	w.output["date"] = "tomorrow"
	if r, _ := w.build(t, run(true)); r != "tomorrow" {
		t.Errorf("fresh build gave %q", r)
	}
	if r, log := w.build(t, run(false)); r != "tomorrow" || len(log) != 0 {
		t.Errorf("build after the fresh one gave %q and ran %q", r, log)
	}
}

func TestSameStepTwiceRunsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.pins["image"] = "sha256:base"
	_, log := w.build(t, func() *Step {
		a, b := step("make", all(step("image"))), step("make", all(step("image")))
		return step("join", all(a), all(b))
	})
	n := 0
	for _, l := range log {
		if l == "run make" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("make ran %d times", n)
	}
}

func TestFirstErrorIsTheOne(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.pins["image"] = "sha256:base"
	boom := errors.New("boom")
	w.fail["bad"] = boom
	s := New[string](t.Context(), w)
	_, err := s.Solve(step("join", all(step("bad", all(step("image")))), all(step("good", all(step("image"))))))
	if !errors.Is(err, boom) {
		t.Errorf("error %v, want boom", err)
	}
	if s.ctx.Err() == nil {
		t.Error("the build goes on after the first error")
	}
}

// Keys hash fields with their lengths: moving a byte from one to the next is
// another key.
func TestKeysDoNotCollide(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.pins["image"] = "p"
	image := step("image")
	seen := map[Key]string{}
	for _, s := range []*Step{
		step("ab", some(image, "c")), step("a", some(image, "bc")), step("abc", all(image)),
		step("abc", all(image), all(image)), step("ab", some(image, "c"), all(image)),
	} {
		k, err := New[string](t.Context(), w).Key(s)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[k]; ok {
			t.Errorf("%q and %q have one key", other, s.Op)
		}
		seen[k] = s.Op
	}
}

func BenchmarkWarmChain(b *testing.B) {
	w := newWorld()
	w.pins["image"] = "p"
	for _, name := range []string{"cold", "warm"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s := step("image")
				for i := range 500 {
					s = step(fmt.Sprint("run ", i), all(s))
				}
				w.log = nil
				if name == "cold" {
					clear(w.stored)
				}
				if _, err := New[string](b.Context(), w).Solve(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// meeting is a world in which two steps wait for each other. They only end if they
// run concurrently.
type meeting struct {
	*world
	here map[string]chan struct{}
}

func (m meeting) Run(ctx context.Context, j Job[string]) (string, error) {
	if own, ok := m.here[j.Step.Op]; ok {
		close(own)
		for _, other := range m.here {
			<-other
		}
	}
	return m.world.Run(ctx, j)
}

func TestIndependentStepsRunAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.pins["image"] = "sha256:base"
	m := meeting{w, map[string]chan struct{}{"left": make(chan struct{}), "right": make(chan struct{})}}
	image := step("image")
	if _, err := New[string](t.Context(), m).Solve(step("join", all(step("left", all(image))), all(step("right", all(image))))); err != nil {
		t.Error(err)
	}
}
