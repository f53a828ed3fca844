package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/store"
)

func TestMain(m *testing.M) {
	sandbox.Hook()
	os.Exit(m.Run())
}

// exporter records the calls of a worker.
type exporter struct {
	mu    sync.Mutex
	added []*snapshot.Layer
	runs  int
}

func (e *exporter) Add(_ *solve.Step, l *snapshot.Layer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.added = append(e.added, l)
}

func (e *exporter) Follow(_ *solve.Step, _ *snapshot.Layer, blob io.ReadCloser) { blob.Close() }

func (e *exporter) BeforeRun() { e.runs++ }

// solveOnce solves a step with a new worker on a store, and returns the paths and files
// of the result.
func solveOnce(t *testing.T, s *store.Store, root *solve.Step, o Options) string {
	t.Helper()
	o.Store, o.Cache, o.Now = s, cache.New(s), time.Unix(100, 0)
	o.Isolation = sandbox.Isolation{SingleID: true}
	w := New(t.Context(), o)
	r, err := solve.New(t.Context(), w).Solve(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Wait(); err != nil {
		t.Fatal(err)
	}
	v, err := r.Stack().FullView(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	_ = v.Walk(".", func(n listing.Node) error {
		fmt.Fprintf(&out, "%s", n.Path)
		if n.Type == listing.TypeFile {
			f, err := r.Stack().Open(n)
			if err != nil {
				t.Error(err)
				return err
			}
			defer f.Close()
			text, _ := io.ReadAll(f)
			fmt.Fprintf(&out, "=%s", text)
		}
		out.WriteString(" ")
		return nil
	})
	return strings.TrimSpace(out.String())
}

// TestSteps carries out steps that need no sandbox, and checks which of them run again.
func TestSteps(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	folder := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a", "one")
	scratch := op.NewStep(op.Scratch{})
	files := op.NewStep(op.Context{})
	sources := []op.CopySource{{Input: 1, Path: "/a"}}
	sel := op.Selection{Paths: []op.SelPath{{Path: "/a"}}}.Encode()
	build := op.NewStep(op.Copy{Sources: sources, Dest: "/b"}, solve.Input{Step: scratch}, solve.Input{Step: files, Sel: sel})
	workdir := op.NewStep(op.Workdir{Path: "/w"}, solve.Input{Step: scratch})
	from := op.Selection{Paths: []op.SelPath{{Path: "/b"}}}.Encode()
	image := op.NewStep(op.Copy{Sources: []op.CopySource{{Input: 1, Path: "/b"}}, Dest: "/c"}, solve.Input{Step: workdir}, solve.Input{Step: build, Sel: from})
	stacked := op.NewStep(op.Stack{}, solve.Input{Step: image}, solve.Input{Step: build})

	for i, want := range []string{
		"COPY a, COPY b, WORKDIR", // nothing is cached
		"",                        // everything is cached
		"COPY a, COPY b",          // a changed
		"",                        // only its time changed
	} {
		switch i {
		case 2:
			write("a", "two")
		case 3:
			at := time.Now().Add(time.Hour)
			if err := os.Chtimes(filepath.Join(folder, "a"), at, at); err != nil {
				t.Fatal(err)
			}
		}
		dir, err := source.OpenDir(folder, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		p := progress.New(progress.RawJSON, &out)
		e := &exporter{}
		got := solveOnce(t, s, stacked, Options{
			Progress: p, Exporter: e, Contexts: map[string]*source.Dir{"": dir},
			Steps: map[*solve.Step]Step{build: {Name: "COPY a"}, workdir: {Name: "WORKDIR", Exported: true}, image: {Name: "COPY b", Exported: true}},
		})
		dir.Close()
		p.Close()
		text := "one"
		if i >= 2 {
			text = "two"
		}
		if wanted := ". b=" + text + " c=" + text + " w"; got != wanted {
			t.Errorf("%d: %q, want %q", i, got, wanted)
		}
		ran := ranSteps(t, out.Bytes())
		if ran != want {
			t.Errorf("%d: ran %q, want %q", i, ran, want)
		}
		if exported := strings.Count(want, "COPY b") + strings.Count(want, "WORKDIR"); len(e.added) != exported || e.runs != 0 {
			t.Errorf("%d: %d layers exported, want %d", i, len(e.added), exported)
		}
	}
}

// ranSteps returns the names of the steps that were shown and not cached.
func ranSteps(t *testing.T, events []byte) string {
	t.Helper()
	var names []string
	dec := json.NewDecoder(bytes.NewReader(events))
	for {
		var e struct {
			Vertexes []struct {
				Name      string
				Cached    bool
				Completed *time.Time
			}
		}
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, v := range e.Vertexes {
			if v.Completed != nil && !v.Cached {
				names = append(names, v.Name)
			}
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// halting is a debugger that takes RUNs that failed.
type halting func(*Halt) (again bool)

func (halting) MayStart(context.Context) error                   { return nil }
func (halting) HaltsBefore(*solve.Step) bool                     { return false }
func (halting) Before(context.Context, *Halt) error              { return nil }
func (f halting) Failed(_ context.Context, h *Halt) (again bool) { return f(h) }

// TestHalt checks that the root and the mounts of a command that failed exist while the
// build halts.
func TestHalt(t *testing.T) {
	mode := sandbox.Isolation{Mode: sandbox.Namespaces}
	if kind, err := mode.ProbeSnapshot(t.TempDir()); os.Getuid() != 0 || kind != sandbox.Overlay {
		t.Skipf("needs root with namespaces and overlay; this is uid %d, snapshots %q: %v", os.Getuid(), kind, err)
	}
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var failed Halt
	e := &exporter{}
	w := New(t.Context(), Options{Store: s, Cache: cache.New(s), Isolation: mode, Exporter: e, Debugger: halting(func(f *Halt) bool {
		failed = *f
		for _, dir := range []string{f.Spec.Upper, f.Spec.Mounts[0].Source} {
			if _, err := os.Stat(dir); err != nil {
				t.Error(err)
			}
		}
		return false
	})})
	run := op.NewStep(op.Run{
		Args: []string{"/nothing"}, Env: []string{"PATH=/"}, Dir: "/", Platform: "linux/amd64", Files: []op.RunFile{{Name: "x", Data: "text"}},
	}, solve.Input{Step: op.NewStep(op.Scratch{})})
	if _, err = solve.New(t.Context(), w).Solve(run); err == nil || failed.Step != run || !errors.Is(err, failed.Err) || e.runs != 1 {
		t.Errorf("error %v, failed %+v", err, failed)
	}
	for _, dir := range []string{failed.Spec.Upper, failed.Spec.Mounts[0].Source} {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s still exists", dir)
		}
	}
	if err := w.Wait(); err != nil {
		t.Error(err)
	}
}

func TestCacheMountKey(t *testing.T) {
	owner := &op.Owner{UID: 5, GID: 6, Mode: 0o700}
	seen := map[string]string{}
	for name, key := range map[string]string{
		"plain":             cacheMountKey("id", op.Mount{}, ""),
		"other id":          cacheMountKey("id2", op.Mount{}, ""),
		"owner":             cacheMountKey("id", op.Mount{Owner: owner}, ""),
		"from":              cacheMountKey("id", op.Mount{Input: 1, Source: "/a"}, "digest"),
		"from other source": cacheMountKey("id", op.Mount{Input: 1, Source: "/b"}, "digest"),
		"from other files":  cacheMountKey("id", op.Mount{Input: 1, Source: "/a"}, "digest2"),
		"from with owner":   cacheMountKey("id", op.Mount{Input: 1, Source: "/a", Owner: owner}, "digest"),
	} {
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s have one key, %q", name, other, key)
		}
		seen[key] = name
	}
	// Stores keep directories under these keys.
	if got := cacheMountKey("id", op.Mount{Owner: owner, Source: "/ignored"}, ""); got != "cache id\x005:6 700" {
		t.Errorf("%q", got)
	}
	if got := cacheMountKey("id", op.Mount{Input: 2, Source: "/a"}, "digest"); got != "cache id\x00digest/a" {
		t.Errorf("%q", got)
	}
}

func TestSharingFor(t *testing.T) {
	for _, c := range []struct {
		mode    sandbox.Mode
		sharing string
		want    store.Sharing
	}{
		{sandbox.Namespaces, "shared", store.Shared},
		{sandbox.Namespaces, "private", store.Private},
		{sandbox.Chroot, "shared", store.Locked},
		{sandbox.Gvisor, "shared", store.Locked},
		{sandbox.Gvisor, "private", store.Private},
		{sandbox.Chroot, "private", store.Private},
		{sandbox.Chroot, "locked", store.Locked},
	} {
		if got := sharingFor(c.mode, c.sharing); got != c.want {
			t.Errorf("%s in %s: %s, want %s", c.sharing, c.mode, got, c.want)
		}
	}
}

func TestJoinCacheMounts(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	opens := 0
	open := func() (*store.CacheMount, error) {
		opens++
		return s.CacheMount(t.Context(), "k", store.Locked, func(dir string) error { return os.Mkdir(dir, 0o700) }, func() {})
	}
	var c cacheMounts
	failed := func() (*store.CacheMount, error) { return nil, io.EOF }
	if _, _, err := c.join(t.Context(), "k", failed); err != io.EOF {
		t.Fatal(err)
	}
	first, leaveFirst, err := c.join(t.Context(), "k", open)
	if err != nil {
		t.Fatal(err)
	}
	second, leaveSecond, err := c.join(t.Context(), "k", open)
	if err != nil || second != first || opens != 1 {
		t.Fatalf("%v, opened %d times", err, opens)
	}
	leaveFirst()
	waits := make(chan struct{})
	got := make(chan error)
	go func() {
		m, err := s.CacheMount(t.Context(), "k", store.Locked, nil, func() { close(waits) })
		if err == nil {
			m.Close()
		}
		got <- err
	}()
	<-waits // the second has it
	leaveSecond()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	_, leave, err := c.join(t.Context(), "k", open)
	if err != nil || opens != 2 {
		t.Fatalf("%v, opened %d times", err, opens)
	}
	leave()
	stopped, stop := context.WithCancelCause(t.Context())
	stop(io.ErrUnexpectedEOF)
	c.joined["k"].busy <- struct{}{}
	if _, _, err := c.join(stopped, "k", open); err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
}

func TestMountSet(t *testing.T) {
	var m mountSet
	var order []int
	for i := range 3 {
		m.onClose(func() { order = append(order, i) })
	}
	exit := &ExitError{Args: []string{"make"}, Code: 2}
	if got := m.explain(exit); got != error(exit) {
		t.Errorf("nothing is missing: %v", got)
	}
	for _, flag := range []string{"--ssh default", "--secret id=x,src=FILE", "--ssh default"} {
		m.miss(flag)
	}
	if got := m.explain(exit).Error(); got != `process "make" did not complete successfully: exit code: 2 (it was run without --ssh default, --secret id=x,src=FILE)` {
		t.Error(got)
	}
	if got := m.explain(io.EOF); got != io.EOF {
		t.Errorf("not an exit: %v", got)
	}
	m.close()
	if !slices.Equal(order, []int{2, 1, 0}) {
		t.Errorf("closed in order %v", order)
	}
}

func TestRunErrors(t *testing.T) {
	args := []string{"/bin/sh", "-c", "x"}
	for want, err := range map[string]error{
		`process "/bin/sh -c x" did not complete successfully: exit code: 3`:                &ExitError{Args: args, Code: 3},
		`process "/bin/sh -c x" was ended by SIGKILL (exit code: 137): it is out of memory`: &ExitError{args, 137, "SIGKILL", "it is out of memory"},
		`process "/bin/sh -c x" was killed: it took longer than 1m30s (--step-timeout)`:     &TimeoutError{args, 90 * time.Second},
		"exec format error: it is for linux/s390x, and this machine is ":                    ExplainPlatform(unix.ENOEXEC, layer.Platform{OS: "linux", Architecture: "s390x"}),
		"exec format error": ExplainPlatform(unix.ENOEXEC, layer.HostPlatform()),
		"permission denied": ExplainPlatform(unix.EACCES, layer.Platform{OS: "linux", Architecture: "s390x"}),
	} {
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestTimeline checks the spans of a step that waits for its inputs.
func TestTimeline(t *testing.T) {
	p := progress.New(progress.None, io.Discard)
	defer p.Close()
	p.Record()
	in, hidden := &solve.Step{}, &solve.Step{}
	step := &solve.Step{In: []solve.Input{{Step: in}, {Step: hidden}}}
	d := newDisplay(p, nil, map[*solve.Step]Step{in: {Name: "RUN make"}, step: {Name: "COPY out"}})
	d.hasInputs(step) // it was never missed: it has not waited
	d.missed(step)
	d.missed(step)
	time.Sleep(5 * time.Millisecond)
	d.hasInputs(step)
	d.span(hidden, "packs")()
	var out strings.Builder
	if err := p.WriteTrace(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"waits for RUN make"`, `"COPY out"`, `"other steps"`, `"packs"`} {
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("%s is not once in %s", want, out.String())
		}
	}
	if v := d.vertex(step); v == nil || v != d.vertex(step) || d.vertex(hidden) != nil {
		t.Error("the displays of steps are wrong")
	}
}
