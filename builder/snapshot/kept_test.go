package snapshot

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
)

// plainBuild is a build whose steps work in plain trees.
type plainBuild struct {
	t     *testing.T
	m     *Manager
	image *Stack
}

func newPlainBuild(t *testing.T, r *blobs, s *store.Store, layers []layer.Descriptor) *plainBuild {
	t.Helper()
	m := New(t.Context(), Options{Store: s, Registry: r, Isolation: sandbox.Isolation{Mode: sandbox.Chroot, SingleID: os.Getuid() != 0}})
	return &plainBuild{t, m, m.Image(layers, "example/image", nil)}
}

// root makes a root of the stack, and returns it with the inode number of its file a.
func (b *plainBuild) root(s *Stack) (r *Root, ino uint64) {
	b.t.Helper()
	r, err := s.NewRoot(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(r.plain.tree.Dir+"/a", &st); err != nil {
		b.t.Fatal(err)
	}
	return r, st.Ino
}

// step runs a command that writes a file, and returns the stack with its layer.
func (b *plainBuild) step(s *Stack, r *Root, name string) *Stack {
	b.t.Helper()
	b.write(r.plain.tree.Dir+"/"+name, "new")
	changes, err := r.Changes(b.t.Context(), sandbox.Result{}, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.Add(NewLayer{Changes: changes, Root: r})
}

func (b *plainBuild) write(path, text string) {
	b.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *plainBuild) wait() {
	b.t.Helper()
	if err := b.m.Wait(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *plainBuild) wantMissing(r *Root, name string) {
	b.t.Helper()
	if _, err := os.Lstat(r.plain.tree.Dir + "/" + name); !os.IsNotExist(err) {
		b.t.Errorf("a kept tree has the file %s of an earlier command: %v", name, err)
	}
}

// TestKeptTree checks that a build works in the plain tree of an earlier one, without
// the changes that were made in it.
func TestKeptTree(t *testing.T) {
	r, s := newBlobs(), openStore(t)
	layers := []layer.Descriptor{r.pack(t, file("a", "text")), r.pack(t, file("b", "more"))}
	first := newPlainBuild(t, r, s, layers)
	root, ino := first.root(first.image)
	stack := first.step(first.image, root, "new")
	root, again := first.root(stack)
	if again != ino {
		t.Error("the second step of a stage has another tree than the first")
	}
	first.step(stack, root, "newer")
	first.wait()

	second := newPlainBuild(t, r, s, layers)
	root, again = second.root(second.image)
	if again != ino {
		t.Error("the tree was copied again")
	}
	second.wantMissing(root, "new")
	second.wantMissing(root, "newer")
	second.write(root.plain.tree.Dir+"/failed", "x") // by a command that fails
	root.Close()
	second.wait()

	third := newPlainBuild(t, r, s, layers)
	root, again = third.root(third.image)
	if again != ino {
		t.Error("the tree was copied again after a command had failed")
	}
	third.wantMissing(root, "failed")
	other, otherIno := third.root(third.image)
	if otherIno == ino {
		t.Error("two stages have the same tree")
	}
	third.step(third.image, root, "x")
	third.step(third.image, other, "y")
	third.wait()
	if n := keptNow(t, third, s); n != 2 {
		t.Errorf("%d trees are kept, want both", n)
	}
}

// TestKeptTreeChanged checks that a kept tree is not used after it was changed.
func TestKeptTreeChanged(t *testing.T) {
	r, s := newBlobs(), openStore(t)
	layers := []layer.Descriptor{r.pack(t, file("a", "text"))}
	first := newPlainBuild(t, r, s, layers)
	root, ino := first.root(first.image)
	dir := root.plain.tree.Dir
	first.step(first.image, root, "new")
	first.wait()
	var st unix.Stat_t
	if err := unix.Lstat(dir+"/a", &st); err != nil {
		t.Fatal(err)
	}
	first.write(dir+"/a", "evil") // of the same size and time
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/a", []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
		t.Fatal(err)
	}
	second := newPlainBuild(t, r, s, layers)
	root, again := second.root(second.image)
	defer root.Close()
	text, err := os.ReadFile(root.plain.tree.Dir + "/a")
	if err != nil || string(text) != "text" || again == ino {
		t.Errorf("the step sees %q, %v", text, err)
	}
}

// keptNow returns the number of trees that the store has for the image.
func keptNow(t *testing.T, b *plainBuild, s *store.Store) (n int) {
	t.Helper()
	keys, err := b.image.keptKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if _, ok := s.Tree(key); ok {
			n++
		}
	}
	return n
}
