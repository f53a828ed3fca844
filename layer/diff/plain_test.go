package diff

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/layer/tree"
)

// twins runs each step in an overlay and in a plain tree. The layers must be equal
// byte for byte.
type twins struct {
	overlay, plain *lab
	tree           string
	record         *Record
}

func newTwins(t *testing.T, base func(root string)) *twins {
	w := &twins{overlay: newLab(t), plain: newLab(t)}
	epoch := int64(1_700_000_000)
	for _, l := range []*lab{w.overlay, w.plain} {
		l.o.Epoch = &epoch
		l.base(base)
	}
	w.tree = w.plain.mkdir("tree")
	check(t, tree.Lay(w.tree, w.plain.trees[0]))
	var err error
	w.record, err = Look(t.Context(), w.tree)
	check(t, err)
	return w
}

func (w *twins) step(t *testing.T, change func(root string)) {
	t.Helper()
	o := w.overlay
	under, work := o.upper()
	unmount := o.mount(o.lowers(), under, work)
	change(o.merged)
	unmount()
	o.finish(under)
	l := w.plain
	upper, _ := l.upper()
	change(w.tree)
	l.o.Time = l.timeBelow
	found, record, err := Plain(t.Context(), w.tree, w.record, upper, l.lowers(), l.o)
	check(t, err)
	w.record = record
	l.add(found, upper)
	n := len(l.tars) - 1
	if !bytes.Equal(l.tars[n], w.overlay.tars[n]) {
		t.Errorf("another layer than that of the overlay (-overlay +plain):\n%s", cmp.Diff(paths(w.overlay.last), paths(found.Changes)))
	}
	if d := cmp.Diff(limited(snapshot(t, w.overlay.trees[n]), l.o.Epoch), limited(snapshot(t, upper), l.o.Epoch)); d != "" {
		t.Errorf("another tree than that of the overlay (-overlay +plain):\n%s", d)
	}
	// A new tree made of the layers is equal to this one, and so is its record.
	again := l.mkdir(fmt.Sprint("again", n))
	for _, lower := range l.trees {
		check(t, tree.Lay(again, lower))
	}
	if d := cmp.Diff(snapshot(t, again), snapshot(t, w.tree)); d != "" {
		t.Errorf("the tree is not that of its layers (-layers +tree):\n%s", d)
	}
	now, err := Look(t.Context(), w.tree)
	check(t, err)
	for path, st := range now.stamps {
		if record.stamps[path] != st {
			t.Errorf("%s is recorded as %v, and is %v", path, record.stamps[path], st)
		}
	}
	if len(now.stamps) != len(record.stamps) {
		t.Errorf("%d paths are recorded, %d are there", len(record.stamps), len(now.stamps))
	}
}

// breaksLinks has the steps after which an overlay has broken hard links of lower
// files, which a plain tree keeps.
var breaksLinks = map[string]bool{"one of two links changed": true, "capability": true}

func TestPlain(t *testing.T) {
	t.Parallel()
	for _, tt := range overlayCases() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, tool := range []string{"setcap", "setfattr"} {
				if _, err := exec.LookPath(tool); err != nil && strings.Contains(tt.script, tool) {
					t.Skip("needs ", tool)
				}
			}
			if breaksLinks[tt.name] {
				t.Skip("an overlay breaks links of lower files")
			}
			w := newTwins(t, sh(t, baseScript))
			w.step(t, sh(t, tt.script))
		})
	}
}

func TestPlainRandom(t *testing.T) {
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
			for i := range uint64(4) {
				w.step(t, act(100+i, 25))
			}
		})
	}
}
