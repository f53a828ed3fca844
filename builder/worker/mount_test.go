package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer/store"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newWorker returns a worker on an empty store, whose files belong to one id.
func newWorker(t *testing.T, o Options) *Worker {
	t.Helper()
	s, err := store.Open(t.TempDir())
	must(t, err)
	o.Store, o.Cache, o.Isolation, o.Now = s, cache.New(s), sandbox.Isolation{SingleID: true}, time.Unix(100, 0)
	w := New(t.Context(), o)
	t.Cleanup(func() {
		if err := w.Wait(); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return w
}

// newContext returns the result of a build context with some files. A name that ends in a
// slash is a directory.
func newContext(t *testing.T, files map[string]string) *Result {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		at := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(at), 0o755))
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(at, 0o755))
			continue
		}
		must(t, os.WriteFile(at, []byte(text), 0o644))
	}
	dir, err := source.OpenDir(root, nil, nil)
	must(t, err)
	t.Cleanup(func() { dir.Close() })
	return &Result{dir: dir}
}

// selection returns the encoded selection of a path.
func selection(path string) string {
	return op.Selection{Paths: []op.SelPath{{Path: path}}}.Encode()
}

// runJob returns the job of a RUN on scratch with an input.
func runJob(w *Worker, o op.Run, in *Result, sel string) solve.Job[*Result] {
	scratch := op.NewStep(op.Scratch{})
	step := op.NewStep(o, solve.Input{Step: scratch}, solve.Input{Step: op.NewStep(op.Context{}), Sel: sel})
	return solve.Job[*Result]{Step: step, In: []*Result{{stack: w.layers.Empty()}, in}, Unlock: func() {}}
}

// shown formats mounts. Paths of the host are left out.
func shown(list []sandbox.Mount) string {
	var b strings.Builder
	for _, m := range list {
		fmt.Fprintf(&b, "%s %s", m.Type, m.Target)
		if m.Subpath != "" {
			fmt.Fprintf(&b, " sub=%s", m.Subpath)
		}
		if m.Size != 0 {
			fmt.Fprintf(&b, " size=%d", m.Size)
		}
		if m.Type == "file" {
			fmt.Fprintf(&b, " %q %d:%d %o", m.Data, m.UID, m.GID, m.Mode)
		}
		for _, part := range []struct {
			name string
			is   bool
		}{{"source", m.Source != ""}, {"upper", m.Upper != ""}, {"work", m.Work != ""}, {"ro", m.ReadOnly}} {
			if part.is {
				b.WriteString(" " + part.name)
			}
		}
		if len(m.Lowers) > 0 {
			fmt.Fprintf(&b, " lowers=%d", len(m.Lowers))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// mountTest is a RUN with mounts, whose input has the file /dir/a.
type mountTest struct {
	op   op.Run
	sel  string // the path that is selected in the input
	want string // the mounts, or the error
	more string // variables and missing flags
}

// withMounts returns a RUN with mounts.
func withMounts(mounts ...op.Mount) op.Run { return op.Run{Mounts: mounts} }

// checkMounts checks how mounts are passed to the sandbox.
func checkMounts(t *testing.T, secrets *secret.Set, tests map[string]mountTest) {
	t.Helper()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t, Options{Credentials: map[string]Credentials{"": {Secrets: secrets}}})
			in := newContext(t, map[string]string{"dir/a": "text"})
			m, err := w.commands.mounts(t.Context(), runJob(w, test.op, in, selection(test.sel)), test.op)
			got, more := "", ""
			if err != nil {
				got = err.Error()
			} else {
				defer m.close()
				got, more = shown(m.mounts), strings.Join(append(slices.Clone(m.env), m.missing...), "|")
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if more != test.more {
				t.Errorf("variables and missing flags %q, want %q", more, test.more)
			}
		})
	}
}

// TestMounts checks how the mounts of a RUN are passed to the sandbox.
func TestMounts(t *testing.T) {
	t.Parallel()
	cache := func(mounts ...op.Mount) op.Run {
		o := op.Run{Mounts: mounts}
		for i := range mounts {
			mounts[i].Type = "cache"
			o.Extra.Caches = append(o.Extra.Caches, op.CacheUse{Mount: i, ID: "id", Sharing: "shared"})
		}
		return o
	}
	checkMounts(t, nil, map[string]mountTest{
		"none":  {},
		"tmpfs": {op: withMounts(op.Mount{Type: "tmpfs", Target: "/tmp", Size: 4096}), want: "tmpfs /tmp size=4096\n"},
		"the order stays": {
			op:   withMounts(op.Mount{Type: "tmpfs", Target: "/b"}, op.Mount{Type: "tmpfs", Target: "/a", ReadOnly: true}, op.Mount{Type: "tmpfs", Target: "/b/c"}),
			want: "tmpfs /b\ntmpfs /a ro\ntmpfs /b/c\n",
		},
		"an unknown type":       {op: withMounts(op.Mount{Type: "nfs", Target: "/x"}), want: `mount of type "nfs" is not known`},
		"a cache":               {op: cache(op.Mount{Target: "/c", Source: "/"}), want: "bind /c source\n"},
		"a cache with a source": {op: cache(op.Mount{Target: "/c", Source: "/sub", ReadOnly: true}), want: "bind /c sub=/sub source ro\n"},
		"a cache from an input": {op: cache(op.Mount{Target: "/c", Source: "/dir", Input: 1}), sel: "/dir", want: "bind /c source\n"},
		"a cache from no input": {op: cache(op.Mount{Target: "/c", Source: "/gone", Input: 1}), sel: "/gone", want: `"/gone": not found in the build context`},
		"a directory":           {op: withMounts(op.Mount{Type: "bind", Target: "/d", Input: 1, Source: "/dir", ReadOnly: true}), sel: "/dir", want: "bind /d source ro\n"},
		"a writable directory":  {op: withMounts(op.Mount{Type: "bind", Target: "/d", Input: 1, Source: "/dir"}), sel: "/dir", want: "overlay /d upper work lowers=1\n"},
		"a file":                {op: withMounts(op.Mount{Type: "bind", Target: "/d", Input: 1, Source: "/dir/a", ReadOnly: true}), sel: "/dir/a", want: "bind /d sub=/file source ro\n"},
		"a writable file":       {op: withMounts(op.Mount{Type: "bind", Target: "/d", Input: 1, Source: "/dir/a"}), sel: "/dir/a", want: "overlay /d sub=/file upper work lowers=1\n"},
		"a missing file":        {op: withMounts(op.Mount{Type: "bind", Target: "/d", Input: 1, Source: "/dir/b"}), sel: "/dir/b", want: `"/dir/b": not found in the build context`},
		"an empty stage":        {op: withMounts(op.Mount{Type: "bind", Target: "/s", Source: "/"}), want: "overlay /s sub=/ upper work\n"},
		"an empty stage, ro":    {op: withMounts(op.Mount{Type: "bind", Target: "/s", Source: "/x", ReadOnly: true}), want: "overlay /s sub=/x upper work ro\n"},
		"scripts come last":     {op: op.Run{Mounts: []op.Mount{{Type: "tmpfs", Target: "/dev"}}, Files: []op.RunFile{{Name: "f", Data: "x"}}}, want: "tmpfs /dev\nbind /dev/pipes source ro\n"},
	})
}

// TestSecretMounts checks how secrets and agents are passed to the sandbox.
func TestSecretMounts(t *testing.T) {
	t.Parallel()
	env := map[string]string{"TOKEN": "abc", "BINARY": "a\x00b", "EMPTY": ""}
	secrets, err := secret.NewSet([]secret.Source{{ID: "token", Env: "TOKEN"}, {ID: "binary", Env: "BINARY"}, {ID: "empty", Env: "EMPTY"}}, func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	})
	must(t, err)
	owner := &op.Owner{UID: 5, GID: 6, Mode: 0o400}
	checkMounts(t, secrets, map[string]mountTest{
		"a secret":        {op: withMounts(op.Mount{Type: "secret", ID: "token", Target: "/run/t", Owner: owner}), want: "file /run/t \"abc\" 5:6 400 ro\n"},
		"an empty secret": {op: withMounts(op.Mount{Type: "secret", ID: "empty", Target: "/run/t", Owner: owner}), want: "file /run/t \"\" 5:6 400 ro\n"},
		"a secret as a variable": {
			op: withMounts(op.Mount{Type: "secret", ID: "token", Env: "T", Owner: owner}), more: "T=abc",
		},
		"a secret as both": {
			op: withMounts(op.Mount{Type: "secret", ID: "token", Env: "T", Target: "/t", Owner: owner}), want: "file /t \"abc\" 5:6 400 ro\n", more: "T=abc",
		},
		"an optional secret":   {op: withMounts(op.Mount{Type: "secret", ID: "none", Target: "/t", Owner: owner}), more: "--secret id=none,src=FILE"},
		"an optional variable": {op: withMounts(op.Mount{Type: "secret", ID: "none", Env: "T", Owner: owner}), more: "T=|--secret id=none,src=FILE"},
		"a required secret": {
			op:   withMounts(op.Mount{Type: "secret", ID: "none", Target: "/t", Required: true, Owner: owner}),
			want: "secret none is required and not given: pass --secret id=none,src=FILE",
		},
		"a secret with a zero byte": {
			op:   withMounts(op.Mount{Type: "secret", ID: "binary", Env: "B", Owner: owner}),
			want: "secret binary holds a zero byte: it can't be the value of B",
		},
		"a file with a zero byte": {op: withMounts(op.Mount{Type: "secret", ID: "binary", Target: "/b", Owner: owner}), want: "file /b \"a\\x00b\" 5:6 400 ro\n"},
		"an optional agent":       {op: withMounts(op.Mount{Type: "ssh", ID: "default", Target: "/s", Owner: owner}), more: "--ssh default"},
		"a required agent": {
			op:   withMounts(op.Mount{Type: "ssh", ID: "x", Target: "/s", Required: true, Owner: owner}),
			want: "ssh agent x is required and not given: pass --ssh x",
		},
		"an error after a secret": {op: withMounts(op.Mount{Type: "secret", ID: "token", Env: "T"}, op.Mount{Type: "x"}), want: `mount of type "x" is not known`},
	})
}

// TestMountsClose checks that the files of a RUN are removed after it, and that the copy of
// a context stays.
func TestMountsClose(t *testing.T) {
	t.Parallel()
	w := newWorker(t, Options{})
	in := newContext(t, map[string]string{"dir/a": "text"})
	o := op.Run{
		Mounts: []op.Mount{
			{Type: "bind", Target: "/rw", Input: 1, Source: "/dir"},
			{Type: "bind", Target: "/ro", Input: 1, Source: "/dir", ReadOnly: true},
			{Type: "cache", Target: "/c", Source: "/"},
		},
		Files: []op.RunFile{{Name: "script", Data: "echo"}},
	}
	o.Extra.Caches = []op.CacheUse{{Mount: 2, ID: "id", Sharing: "locked"}}
	j := runJob(w, o, in, selection("/dir"))
	m, err := w.commands.mounts(t.Context(), j, o)
	must(t, err)
	rw, ro, cached, scripts := m.mounts[0], m.mounts[1], m.mounts[2], m.mounts[3]
	if rw.Lowers[0] != ro.Source {
		t.Errorf("two copies of one selection: %s and %s", rw.Lowers[0], ro.Source)
	}
	if text, err := os.ReadFile(ro.Source + "/a"); err != nil || string(text) != "text" {
		t.Errorf("a: %q, %v", text, err)
	}
	if text, err := os.ReadFile(scripts.Source + "/script"); err != nil || string(text) != "echo" {
		t.Errorf("script: %q, %v", text, err)
	}
	m.close()
	for name, want := range map[string]bool{rw.Upper: false, scripts.Source: false, ro.Source: true, cached.Source: true} {
		if _, err := os.Stat(name); (err == nil) != want {
			t.Errorf("%s exists: %v", name, !want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	again, err := w.commands.mounts(ctx, j, o) // the locked cache is free again
	must(t, err)
	defer again.close()
	if again.mounts[2].Source != cached.Source || again.mounts[1].Source != ro.Source || again.mounts[0].Upper == rw.Upper {
		t.Errorf("the second time: %s", shown(again.mounts))
	}
}

// TestCacheMounts checks which cache mounts of a RUN have one directory.
func TestCacheMounts(t *testing.T) {
	t.Parallel()
	w := newWorker(t, Options{})
	o := op.Run{Mounts: []op.Mount{
		{Type: "cache", Target: "/a", Source: "/"},
		{Type: "cache", Target: "/b", Source: "/"},
		{Type: "cache", Target: "/c", Source: "/", Owner: &op.Owner{Mode: 0o700}},
		{Type: "cache", Target: "/d", Source: "/"},
		{Type: "cache", Target: "/e", Source: "/dir", Input: 1},
	}}
	for i, id := range []string{"x", "x", "x", "y", "x"} {
		o.Extra.Caches = append(o.Extra.Caches, op.CacheUse{Mount: i, ID: id, Sharing: "locked"})
	}
	in := newContext(t, map[string]string{"dir/file": "text"})
	m, err := w.commands.mounts(t.Context(), runJob(w, o, in, selection("/dir")), o)
	must(t, err)
	defer m.close()
	at := func(i int) string { return m.mounts[i].Source }
	if at(0) != at(1) || at(0) == at(2) || at(0) == at(3) || at(0) == at(4) || at(2) == at(4) {
		t.Errorf("directories %s, %s, %s, %s, %s", at(0), at(1), at(2), at(3), at(4))
	}
	for i, mode := range map[int]os.FileMode{0: 0o755, 2: 0o700, 3: 0o755} {
		if info, err := os.Stat(at(i)); err != nil || info.Mode() != os.ModeDir|mode {
			t.Errorf("%d: %v, %v, want mode %v", i, info, err, mode)
		}
	}
	if text, err := os.ReadFile(at(4) + "/file"); err != nil || string(text) != "text" {
		t.Errorf("the initial content is %q, %v", text, err)
	}
	if len(w.commands.caches.used) != 4 {
		t.Errorf("used %q", w.commands.caches.used)
	}
}

// TestPackCacheMounts checks that the directories of a build are packed, in a fixed order,
// and files are not.
func TestPackCacheMounts(t *testing.T) {
	t.Parallel()
	w := newWorker(t, Options{})
	for _, key := range []string{"b", "a", "file"} {
		c, err := w.Store.CacheMount(t.Context(), key, store.Locked, func(dir string) error {
			if key == "file" {
				return os.WriteFile(dir, nil, 0o644)
			}
			return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(dir+"/"+key, []byte(key), 0o644))
		}, func() {})
		must(t, err)
		c.Close()
		w.commands.caches.use(key, "id of "+key)
	}
	packed, err := w.PackCacheMounts(t.Context())
	must(t, err)
	if len(packed) != 2 || packed[0].Key != "a" || packed[0].ID != "id of a" || packed[1].Key != "b" || packed[0].Blob.Digest == packed[1].Blob.Digest {
		t.Fatalf("packed %+v", packed)
	}
	r, err := packed[0].Source.Open()
	must(t, err)
	defer r.Close()
	dir := t.TempDir() + "/new"
	must(t, w.commands.caches.unpack(r, packed[0].Blob, dir))
	if text, err := os.ReadFile(dir + "/a"); err != nil || string(text) != "a" {
		t.Errorf("unpacked %q, %v", text, err)
	}
	w.commands.caches.use("gone", "id of gone")
	if _, err := w.PackCacheMounts(t.Context()); err == nil || !strings.Contains(err.Error(), "cache mount id of gone: ") || !strings.Contains(err.Error(), "it was removed meanwhile") {
		t.Errorf("a removed cache mount: %v", err)
	}
	if w.commands.caches.restore(t.Context(), "a", "id", dir) {
		t.Error("restored without a remote cache")
	}
}

// TestScripts checks the files of heredocs.
func TestScripts(t *testing.T) {
	t.Parallel()
	w := newWorker(t, Options{})
	dir, err := w.commands.scripts([]op.RunFile{{Name: "EOF", Data: "#!/bin/sh\necho\n"}, {Name: "../../outside", Data: "x"}, {Name: "empty"}})
	must(t, err)
	list, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range list {
		info, err := e.Info()
		must(t, err)
		if info.Mode() != 0o755 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{"EOF", "empty", "outside"}) {
		t.Errorf("files %q", names)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode() != os.ModeDir|0o755 {
		t.Errorf("the directory: %v, %v", info, err)
	}
	if text, err := os.ReadFile(dir + "/EOF"); err != nil || string(text) != "#!/bin/sh\necho\n" {
		t.Errorf("%q, %v", text, err)
	}
}
