package worker

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
)

// TestPin checks the pins of steps that no server is asked about.
func TestPin(t *testing.T) {
	t.Parallel()
	w := newWorker(t, Options{})
	digest := layer.FromBytes([]byte("x"))
	for want, s := range map[string]*solve.Step{
		"":             op.NewStep(op.Context{Name: "x"}),
		OpPin:          op.NewStep(op.Image{}),
		string(digest): op.NewStep(op.HTTP{Name: "f", Digest: digest}),
	} {
		if got, err := w.Pin(t.Context(), s); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", s.Op, got, err, want)
		}
	}
	if _, err := w.Pin(t.Context(), &solve.Step{Op: "nonsense"}); err == nil {
		t.Error("a malformed step has a pin")
	}
}

// TestRunRoots checks the results of steps that make no layer, and the errors of others,
// which release the step's lock.
func TestRunRoots(t *testing.T) {
	t.Parallel()
	w := newWorker(t, Options{})
	run := func(s *solve.Step, in ...*Result) (*Result, bool, error) {
		unlocked := false
		r, err := w.Run(t.Context(), solve.Job[*Result]{Step: s, In: in, Unlock: func() { unlocked = true }})
		return r, unlocked, err
	}
	if r, _, err := run(op.NewStep(op.Scratch{})); err != nil || r.Stack() == nil || r.Stack().Top() != nil {
		t.Errorf("scratch: %+v, %v", r, err)
	}
	if _, _, err := run(op.NewStep(op.Context{Name: "other"})); err == nil || err.Error() != `there is no build context "other"` {
		t.Errorf("a context: %v", err)
	}
	if _, unlocked, err := run(&solve.Step{Op: "nonsense"}); err == nil || !unlocked {
		t.Errorf("a malformed step: %v, unlocked: %v", err, unlocked)
	}
	scratch := op.NewStep(op.Scratch{})
	empty := &Result{stack: w.layers.Empty()}
	if r, unlocked, err := run(op.NewStep(op.Stack{}, solve.Input{Step: scratch}, solve.Input{Step: scratch}), empty, empty); err != nil || !unlocked || r.Stack().Top() != nil {
		t.Errorf("a stack: %v, unlocked: %v", err, unlocked)
	}
	missing := op.NewStep(op.Copy{Sources: []op.CopySource{{Input: 1, Path: "/x"}}, Dest: "/x"}, solve.Input{Step: scratch}, solve.Input{Step: scratch, Sel: selection("/x")})
	if _, unlocked, err := run(missing, empty, empty); err == nil || !unlocked {
		t.Errorf("a copy of a missing file: %v, unlocked: %v", err, unlocked)
	}
}

// TestSlots checks that a step which waits for its turn ends with the build.
func TestSlots(t *testing.T) {
	t.Parallel()
	w := newWorker(t, Options{Jobs: -1})
	if cap(w.slots) != 1 {
		t.Fatalf("%d slots", cap(w.slots))
	}
	w.slots <- struct{}{}
	ended := errors.New("another step failed")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ended)
	unlocked := false
	_, err := w.Run(ctx, solve.Job[*Result]{
		Step: op.NewStep(op.Workdir{Path: "/w"}, solve.Input{Step: op.NewStep(op.Scratch{})}), In: []*Result{{stack: w.layers.Empty()}}, Unlock: func() { unlocked = true },
	})
	if err != ended || !unlocked {
		t.Errorf("got %v, unlocked: %v", err, unlocked)
	}
}

// TestSpec checks how a RUN is described to the sandbox.
func TestSpec(t *testing.T) {
	t.Parallel()
	w := newWorker(t, Options{})
	o := op.Run{
		Args: []string{"make", "all"}, Env: []string{"A=1"}, Dir: "/src", User: "app", Network: "none", Hosts: []string{"x:1.2.3.4"}, Hostname: "h",
		ShmSize: 7, Ulimits: []op.Ulimit{{Name: "core", Soft: 1, Hard: -1}}, Insecure: true,
	}
	o.Extra.Proxy = []string{"A=2"}
	j := runJob(w, o, nil, "")
	mounts := &mountSet{mounts: []sandbox.Mount{{Type: "tmpfs", Target: "/t"}}, env: []string{"SECRET=3"}}
	spec, err := w.commands.spec(t.Context(), j.Step, o, mounts)
	must(t, err)
	if !slices.Equal(spec.Env, []string{"A=1", "A=2", "SECRET=3"}) || !slices.Equal(o.Env, []string{"A=1"}) {
		t.Errorf("environment %q", spec.Env)
	}
	if !slices.Equal(spec.Args, o.Args) || spec.Dir != "/src" || !spec.MakeDir || spec.User != "app" || spec.Network != "none" || spec.Hostname != "h" ||
		!slices.Equal(spec.Hosts, o.Hosts) || spec.ShmSize != 7 || !spec.Insecure || len(spec.Mounts) != 1 {
		t.Errorf("got %+v", spec)
	}
	if len(spec.Ulimits) != 1 || spec.Ulimits[0] != (sandbox.Ulimit{Name: "core", Soft: 1, Hard: -1}) {
		t.Errorf("ulimits %+v", spec.Ulimits)
	}
	again, err := w.commands.spec(t.Context(), j.Step, o, mounts)
	if err != nil || again.MountPoints != spec.MountPoints || spec.MountPoints == "" {
		t.Errorf("mount points in %q and %q, %v", spec.MountPoints, again.MountPoints, err)
	}
}

// TestFailed checks the error of a step that fails, and of one that ends with the build.
func TestFailed(t *testing.T) {
	t.Parallel()
	w := newWorker(t, Options{})
	failed := errors.New("failed")
	if got := w.display.failed(t.Context(), nil, failed); got != failed {
		t.Errorf("got %v", got)
	}
	ended := errors.New("the build ended")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ended)
	if got := w.display.failed(ctx, nil, failed); got != ended {
		t.Errorf("after the end of the build: %v", got)
	}
}

// TestSelections checks that files are searched once, and that a change of the context
// between two searches is an error.
func TestSelections(t *testing.T) {
	t.Parallel()
	s := &selections{}
	r := newContext(t, map[string]string{"a": "one"})
	first, err := s.files(t.Context(), r, selection("/a"))
	must(t, err)
	if again, err := s.files(t.Context(), r, selection("/a")); err != nil || again != first {
		t.Errorf("searched again: %v", err)
	}
	s.release(r, selection("/a"), first) // too small to be dropped
	s.release(r, selection("/a"), nil)
	if again, err := s.files(t.Context(), r, selection("/a")); err != nil || again != first {
		t.Errorf("dropped: %v", err)
	}
	s.selected.Forget(selectionKey{r, selection("/a")})
	must(t, os.WriteFile(filepath.Join(r.dir.Path(), "a"), []byte("other"), 0o644))
	if _, err := s.files(t.Context(), r, selection("/a")); err == nil || err.Error() != "the files to copy changed during the build" {
		t.Errorf("a changed file: %v", err)
	}
	if _, err := s.files(t.Context(), r, "nonsense"); err == nil {
		t.Error("a malformed selection has files")
	}
}

// TestObserve checks the digests of selections.
func TestObserve(t *testing.T) {
	t.Parallel()
	w := newWorker(t, Options{})
	r := newContext(t, map[string]string{"a": "one", "b": "one", "c": "two"})
	digest := func(sel string) string {
		d, err := w.Observe(t.Context(), r, sel)
		must(t, err)
		return d
	}
	if digest("") != "" {
		t.Error("the whole context has a digest")
	}
	a := digest(selection("/a"))
	if a == "" || a != digest(selection("/a")) || a == digest(selection("/c")) {
		t.Errorf("digest %q", a)
	}
	if _, err := w.Observe(t.Context(), r, selection("/gone")); err == nil {
		t.Error("a missing file has a digest")
	}
	image := layer.Descriptor{Digest: layer.FromBytes([]byte("x")), DiffID: layer.FromBytes([]byte("y"))}
	lazy := &Result{stack: w.layers.Image([]layer.Descriptor{image}, "example/image", nil)}
	if d, err := w.Observe(t.Context(), lazy, selection("/a")); err != nil || d != "" {
		t.Errorf("a layer that was not fetched: %q, %v", d, err)
	}
}

// TestRecords checks under which keys a result is stored and which records are usable.
func TestRecords(t *testing.T) {
	t.Parallel()
	scratch := op.NewStep(op.Scratch{})
	step := op.NewStep(op.Workdir{Path: "/w"}, solve.Input{Step: scratch})
	w := newWorker(t, Options{Steps: map[*solve.Step]Step{step: {Name: "WORKDIR /w"}}})
	key := func(s string) solve.Key { return solve.Key(strings.Repeat(s, 64)) }
	job := solve.Job[*Result]{
		Step: step, Recipe: key("a"), Content: key("b"), In: []*Result{{stack: w.layers.Empty()}}, Parts: []string{"p"}, Unlock: func() {},
	}
	if _, _, ok := w.Load(t.Context(), step, job.Content); ok {
		t.Error("a result before the step was run")
	}
	r, err := w.Run(t.Context(), job)
	must(t, err)
	must(t, w.layers.Wait())
	b, err := r.Stack().Top().Blob(t.Context())
	must(t, err)
	for _, k := range []solve.Key{job.Recipe, job.Content} {
		rec, err := w.Cache.Get(string(k))
		must(t, err)
		if rec.Key != string(job.Content) || rec.Name != "WORKDIR /w" || rec.Op != step.Op || !slices.Equal(rec.Parts, job.Parts) || len(rec.Layers) != 1 || rec.Layers[0].Digest != b.Digest {
			t.Errorf("%s: %+v", k, rec)
		}
		got, content, ok := w.Load(t.Context(), step, k)
		if !ok || content != job.Content || got.Stack().Top() == nil {
			t.Errorf("%s: content %s, %v", k, content, ok)
		}
	}
	w.Alias(t.Context(), step, key("c"), job.Content, r)
	if _, content, ok := w.Load(t.Context(), step, key("c")); !ok || content != job.Content {
		t.Errorf("another recipe: content %s, %v", content, ok)
	}
	w.Alias(t.Context(), step, key("d"), key("e"), r) // the content is not stored
	if _, ok := w.records.find(key("d")); ok {
		t.Error("a missing result was stored")
	}
	known, ok := w.Known(t.Context(), step, job.Content)
	if !ok || !slices.Equal(known.Keys, []string{string(job.Content)}) || known.Record.Layers[0].Digest != b.Digest {
		t.Errorf("known: %+v, %v", known, ok)
	}
	if body, err := known.Source.Open(); err != nil {
		t.Error(err)
	} else if content, err := io.ReadAll(body); err != nil || layer.FromBytes(content) != b.Digest || body.Close() != nil {
		t.Errorf("known: %v", err)
	}
	gone := layer.Descriptor{Digest: layer.FromBytes([]byte("gone")), DiffID: layer.FromBytes([]byte("x"))}
	for name, rec := range map[string]cache.Record{
		"a missing layer":        {Layers: []layer.Descriptor{gone}},
		"no layer":               {},
		"two layers":             {Layers: []layer.Descriptor{b, b}},
		"a stack of one input":   {Over: string(job.Content)},
		"layers without a stack": {Layers: []layer.Descriptor{b, b, b}},
	} {
		if _, ok := w.records.restore(step, &rec, nil); ok {
			t.Errorf("%s: usable", name)
		}
	}
	if _, ok := w.Known(t.Context(), step, key("f")); ok {
		t.Error("an unknown key has a result")
	}
}

func TestIsRoot(t *testing.T) {
	t.Parallel()
	scratch := op.NewStep(op.Scratch{})
	for _, c := range []struct {
		step *solve.Step
		want bool
	}{
		{scratch, true},
		{op.NewStep(op.Image{}), true},
		{op.NewStep(op.Context{}), true},
		{op.NewStep(op.HTTP{}), true}, // it has no input
		{op.NewStep(op.Workdir{}, solve.Input{Step: scratch}), false},
	} {
		if got := IsRoot(c.step); got != c.want {
			t.Errorf("%s: %v", c.step.Op, got)
		}
	}
}

// TestLock checks that a step is locked until it is released.
func TestLock(t *testing.T) {
	t.Parallel()
	w := newWorker(t, Options{})
	step := op.NewStep(op.Scratch{})
	unlock, err := w.Lock(t.Context(), step, "key")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Lock(ctx, step, "key"); !errors.Is(err, context.Canceled) {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
	again, err := w.Lock(t.Context(), step, "key")
	must(t, err)
	again()
}

// TestTimeoutError checks that limits are printed as durations.
func TestTimeoutError(t *testing.T) {
	t.Parallel()
	for limit, want := range map[time.Duration]string{time.Second: "1s", 1500 * time.Millisecond: "1.5s", 2 * time.Hour: "2h0m0s"} {
		err := &TimeoutError{[]string{"sleep", "9"}, limit}
		if got := err.Error(); got != `process "sleep 9" was killed: it took longer than `+want+" (--step-timeout)" {
			t.Error(got)
		}
	}
}
