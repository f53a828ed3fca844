package diff

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/tree"
)

// restored checks that Restore makes the tree of w that of its first layer again, and
// leaves a record of it, or that it fails if a step has changed files with several links.
func (w *twins) restored(t *testing.T, earlier *Record, fails bool) {
	t.Helper()
	lowers := w.plain.trees[:1]
	err := Restore(t.Context(), w.tree, earlier, w.record, lowers)
	if fails {
		if !errors.Is(err, ErrInexact) {
			t.Errorf("a file with several links was changed: %v", err)
		}
		return
	}
	check(t, err)
	fresh := w.plain.mkdir("fresh")
	check(t, tree.Lay(fresh, lowers[0]))
	if d := cmp.Diff(snapshot(t, fresh), snapshot(t, w.tree)); d != "" {
		t.Errorf("the tree is not as it was (-was +is):\n%s", d)
	}
	now, err := Look(t.Context(), w.tree)
	check(t, err)
	if !maps.Equal(earlier.stamps, now.stamps) || earlier.Digest() != now.Digest() {
		t.Error("the record is not that of the tree")
	}
	check(t, os.RemoveAll(fresh))
}

// changesLinks has the steps that change or remove one of several links.
var changesLinks = map[string]bool{"capability": true, "linked again": true, "one of two links changed": true, "replaced directory, nested": true}

func TestRestore(t *testing.T) {
	t.Parallel()
	for _, tt := range overlayCases() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, tool := range []string{"setcap", "setfattr"} {
				if _, err := exec.LookPath(tool); err != nil && strings.Contains(tt.script, tool) {
					t.Skip("needs ", tool)
				}
			}
			w := newTwins(t, sh(t, baseScript))
			earlier := w.record
			sh(t, tt.script)(w.tree)
			var err error
			w.record, err = Look(t.Context(), w.tree)
			check(t, err)
			w.restored(t, earlier, changesLinks[tt.name])
		})
	}
}

func TestRestoreRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			act := func(salt uint64, n int) func(string) {
				return func(root string) {
					m := &monkey{t: t, r: rand.New(rand.NewPCG(seed, salt)), unlinked: true}
					m.act(root, n)
				}
			}
			w := newTwins(t, act(7, 60))
			earlier := w.record
			for i := range uint64(4) {
				w.step(t, act(100+i, 25))
			}
			w.restored(t, earlier, false)
			w.plain.trees = w.plain.trees[:1]
		})
	}
}

// TestRestoreMountPoints checks paths of the tree that no layer has.
func TestRestoreMountPoints(t *testing.T) {
	t.Parallel()
	w := newTwins(t, sh(t, "mkdir etc; echo 1 >etc/f"))
	sh(t, "mkdir dev; chmod 751 dev; : >etc/hosts; touch -d 2001-01-01 dev etc/hosts; touch -d 2002-02-02 etc")(w.tree)
	was := snapshot(t, w.tree)
	earlier, err := Look(t.Context(), w.tree)
	check(t, err)
	sh(t, "rm etc/hosts etc/f; echo evil >etc/hosts; chmod 700 dev; chown 5:6 dev; echo x >dev/null; mkdir etc/d")(w.tree)
	now, err := Look(t.Context(), w.tree)
	check(t, err)
	lower := w.plain.trees[0]
	check(t, exec.Command("touch", "-d", "2002-02-02", lower+"/etc").Run())
	check(t, Restore(t.Context(), w.tree, earlier, now, []string{lower}))
	if d := cmp.Diff(was, snapshot(t, w.tree)); d != "" {
		t.Errorf("the tree is not as it was (-was +is):\n%s", d)
	}
}

// TestRestoreRefuses checks that a tree is not called restored where a path cannot be.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	w := newTwins(t, sh(t, "echo 1 >a; ln a b; mkdir d; echo 2 >d/f"))
	earlier := w.record
	sh(t, "rm a; echo 3 >d/f")(w.tree)
	now, err := Look(t.Context(), w.tree)
	check(t, err)
	if err := Restore(t.Context(), w.tree, earlier, now, w.plain.trees[:1]); !errors.Is(err, ErrInexact) {
		t.Errorf("one of two links was removed: %v", err)
	}
	w = newTwins(t, sh(t, "echo 1 >a"))
	earlier = w.record
	sh(t, "echo 2 >a")(w.tree)
	if now, err = Look(t.Context(), w.tree); err != nil {
		t.Fatal(err)
	}
	check(t, os.WriteFile(w.plain.trees[0]+"/a", []byte("longer"), 0o644)) // the lower tree is damaged
	if err := Restore(t.Context(), w.tree, earlier, now, w.plain.trees[:1]); !errors.Is(err, ErrInexact) {
		t.Errorf("the lower file is another one: %v", err)
	}
}

// TestDigest checks that each change of a tree changes the digest of its record.
func TestDigest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check(t, os.WriteFile(dir+"/f", []byte("1"), 0o644))
	record := func() string {
		r, err := Look(t.Context(), dir)
		check(t, err)
		return r.Digest()
	}
	seen := map[string]string{record(): "nothing"}
	var st unix.Stat_t
	check(t, unix.Stat(dir+"/f", &st))
	for _, tt := range []struct {
		name string
		do   func() error
	}{
		{"contents, with the old times", func() error {
			err := os.WriteFile(dir+"/f", []byte("2"), 0o644)
			return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/f", []unix.Timespec{st.Atim, st.Mtim}, 0))
		}},
		{"mode", func() error { return os.Chmod(dir+"/f", 0o600) }},
		{"a name", func() error { return os.Rename(dir+"/f", dir+"/g") }},
		{"an empty directory", func() error { return os.Mkdir(dir+"/d", 0o755) }},
	} {
		check(t, tt.do())
		if d := record(); seen[d] != "" {
			t.Errorf("%s: the digest is that after %s", tt.name, seen[d])
		} else {
			seen[d] = tt.name
		}
	}
}
