package snapshot

import (
	"fmt"
	"os"
	"testing"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
)

// BenchmarkPlainTree runs three commands that each write a file, in plain trees of an
// image with 6,000 files: in the first build on an image, and in later ones.
func BenchmarkPlainTree(b *testing.B) {
	r := newBlobs()
	var files []tarball.Change
	for d := range 200 {
		name := fmt.Sprintf("dir%03d", d)
		files = append(files, dir(name))
		for f := range 30 {
			files = append(files, file(fmt.Sprintf("%s/file%02d", name, f), fmt.Sprintf("%4000d", f)))
		}
	}
	layers := []layer.Descriptor{r.pack(b, files...)}
	build := func(s *store.Store) {
		m := New(b.Context(), Options{Store: s, Registry: r, Isolation: sandbox.Isolation{Mode: sandbox.Chroot, SingleID: os.Getuid() != 0}})
		stack := m.Image(layers, "example/image", nil)
		for range 3 {
			root, err := stack.NewRoot(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(root.plain.tree.Dir+"/new", []byte("new"), 0o644); err != nil {
				b.Fatal(err)
			}
			changes, err := root.Changes(b.Context(), sandbox.Result{}, nil)
			if err != nil {
				b.Fatal(err)
			}
			stack = stack.Add(NewLayer{Changes: changes, Root: root})
		}
		if err := m.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	s := openStore(b)
	build(s) // unpacks the image
	b.Run("first", func(b *testing.B) {
		m := New(b.Context(), Options{Store: s, Registry: r, Isolation: sandbox.Isolation{Mode: sandbox.Chroot, SingleID: os.Getuid() != 0}})
		keys, err := m.Image(layers, "example/image", nil).keptKeys(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			b.StopTimer()
			for _, key := range keys {
				if t, ok := s.Take(key); ok {
					t.Close()
				}
			}
			b.StartTimer()
			build(s)
		}
	})
	b.Run("later", func(b *testing.B) {
		for b.Loop() {
			build(s)
		}
	})
}
