package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
)

// later opens a context as if some time had passed since its files changed.
func later(t testing.TB, root, ignore string, h Hints, age time.Duration) *Dir {
	t.Helper()
	d := open(t, root, ignore, h)
	d.hints.opened = d.hints.opened.Add(age)
	return d
}

// known returns the files whose digests a walk has without reading them.
func known(t testing.TB, d *Dir) map[string]layer.Digest {
	t.Helper()
	out := map[string]layer.Digest{}
	must(t, d.Walk(context.Background(), ".", WalkOptions{}, func(f File) error {
		if f.Digest != "" {
			out[f.Path] = f.Digest
		}
		return nil
	}))
	return out
}

func TestHints(t *testing.T) {
	m := &memory{}
	root := tree{"a": text("1"), "d/b": text("2"), "d/c": text("3"), "e/f/g": text("4"), "empty": text("")}.make(t)
	must(t, unix.Setxattr(filepath.Join(root, "a"), "user.x", []byte("y"), 0))
	first := later(t, root, "", m, time.Minute)
	files := scan(t, first)
	want := map[string]layer.Digest{}
	for p, f := range files {
		if f.Digest != "" {
			want[p] = f.Digest
		}
	}
	if len(want) != 5 {
		t.Fatalf("digests: %v", want)
	}
	if diff := cmp.Diff(want, known(t, first)); diff != "" {
		t.Errorf("in the same build: %s", diff)
	}
	must(t, first.SaveHints())

	second := later(t, root, "", m, 2*time.Minute)
	if diff := cmp.Diff(want, known(t, second)); diff != "" {
		t.Errorf("in the next build: %s", diff)
	}
	if f := scan(t, second)["a"]; f.XAttrs["user.x"] != "y" {
		t.Errorf("xattrs of a known file: %v", f.XAttrs)
	}
	must(t, second.SaveHints())
	if m.puts != 1 {
		t.Errorf("hints were written %d times, want once", m.puts)
	}

	must(t, os.WriteFile(filepath.Join(root, "d/b"), []byte("5"), 0o644))
	must(t, os.Remove(filepath.Join(root, "d/c")))
	delete(want, "d/b")
	delete(want, "d/c")
	third := later(t, root, "e", m, 3*time.Minute)
	delete(want, "e/f/g")
	if diff := cmp.Diff(want, known(t, third)); diff != "" {
		t.Errorf("after changes: %s", diff)
	}
	if got := scan(t, third)["d/b"].Digest; got != layer.FromBytes([]byte("5")) {
		t.Errorf("changed file: %s", got)
	}
	must(t, third.SaveHints())

	fourth := later(t, root, "", m, 4*time.Minute)
	want["d/b"], want["e/f/g"] = layer.FromBytes([]byte("5")), layer.FromBytes([]byte("4"))
	if diff := cmp.Diff(want, known(t, fourth)); diff != "" {
		t.Errorf("directories that were not walked: %s", diff)
	}
	if _, ok := fourth.hints.find("d", "c"); ok {
		t.Error("a removed file is still known")
	}
}

// TestRacy checks that the next build reads a file again that is rewritten just after it
// was read, with the same size and times.
func TestRacy(t *testing.T) {
	for _, c := range []struct {
		age  time.Duration // of the file when the build starts
		keep bool
	}{
		{-time.Minute, false},
		{0, false},
		{racyWindow - 100*time.Millisecond, false},
		{racyWindow + time.Minute, true},
	} {
		m := &memory{}
		root := tree{"f": text("1")}.make(t)
		d := later(t, root, "", m, c.age)
		scan(t, d)
		must(t, d.SaveHints())
		if got := len(known(t, open(t, root, "", m))) == 1; got != c.keep {
			t.Errorf("file of age %v: known %v", c.age, got)
		}
	}
	m := &memory{}
	root := tree{"f": text("1")}.make(t)
	future := time.Now().Add(time.Hour)
	must(t, os.Chtimes(filepath.Join(root, "f"), future, future))
	d := later(t, root, "", m, time.Minute)
	scan(t, d)
	if len(known(t, d)) != 0 {
		t.Error("a file from the future is trusted")
	}
}

func TestHintsExpire(t *testing.T) {
	m := &memory{}
	root := tree{"old/f": text("1"), "new/g": text("2")}.make(t)
	d := later(t, root, "", m, time.Minute)
	scan(t, d)
	must(t, d.SaveHints())
	must(t, os.RemoveAll(filepath.Join(root, "old")))
	day := 24 * time.Hour
	for _, age := range []time.Duration{day, 2 * day, hintDays * day, (hintDays + 2) * day} {
		d := later(t, root, "", m, age)
		scan(t, d)
		must(t, d.SaveHints())
		_, there := decodeHints(m.m["context "+root])["old"]
		if want := age <= hintDays*day; there != want {
			t.Errorf("after %v: kept %v, want %v", age, there, want)
		}
		if _, there := decodeHints(m.m["context "+root])["new"]; !there {
			t.Errorf("after %v: a directory in use was dropped", age)
		}
	}
}

// broken is a store of hints that fails.
type broken struct{}

func (broken) Hint(string) ([]byte, error)  { return nil, unix.EIO }
func (broken) PutHint(string, []byte) error { return unix.ENOSPC }

func TestHintsKeeperFails(t *testing.T) {
	d := later(t, tree{"f": text("1")}.make(t), "", broken{}, time.Minute)
	if len(scan(t, d)) != 2 {
		t.Error("scan needs hints")
	}
	if err := d.SaveHints(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("save: %v", err)
	}
	if err := open(t, t.TempDir(), "", nil).SaveHints(); err != nil {
		t.Errorf("without a store: %v", err)
	}
}

func TestHintsDamaged(t *testing.T) {
	m := &memory{}
	root := tree{"d/f": text("1"), "g": text("2")}.make(t)
	d := later(t, root, "", m, time.Minute)
	scan(t, d)
	must(t, d.SaveHints())
	good := m.m["context "+root]
	if len(decodeHints(good)) != 2 {
		t.Fatal("the undamaged value is not read")
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if got := decodeHints(bad); len(got) != 0 {
			t.Errorf("byte %d flipped: %d directories", i, len(got))
		}
		if got := decodeHints(good[:i]); len(got) != 0 {
			t.Errorf("cut at %d: %d directories", i, len(got))
		}
	}
}

// FuzzHints decodes arbitrary bytes with a valid checksum.
func FuzzHints(f *testing.F) {
	x := hint{name: "x", stamp: stamp{1, 2, 3, 4, 5}, sum: sha256.Sum256(nil)}
	h := hints{dirs: map[string]*hintDir{"a": {added: x.appendTo(nil), dirty: true}}}
	f.Add(h.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, dir := range decodeHints(b) {
			dir.decode()
		}
		d := hintDir{known: b, added: x.appendTo(nil), dirty: true}
		all := d.decode()
		block := d.encode(1)
		again := hintDir{known: block[4:]}
		if got := again.decode(); fmt.Sprint(got) != fmt.Sprint(all) {
			t.Errorf("%v became %v", all, got)
		}
	})
}

// TestHintLearntTwice checks that the last digest is used.
func TestHintLearntTwice(t *testing.T) {
	one, two, three := hint{name: "b", sum: [32]byte{1}}, hint{name: "b", sum: [32]byte{2}}, hint{name: "a", sum: [32]byte{3}}
	d := hintDir{known: one.appendTo(nil), added: three.appendTo(two.appendTo(nil))}
	if got, want := d.decode(), (hintList{three, two}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}
