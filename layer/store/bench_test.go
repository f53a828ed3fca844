package store

import (
	"fmt"
	"testing"

	"github.com/cairn-build/cairn/layer"
)

func BenchmarkOpen(b *testing.B) {
	root := b.TempDir()
	check(b, open(b, root).Close())
	for b.Loop() {
		s, err := Open(root)
		check(b, err)
		check(b, s.Close())
	}
}

func BenchmarkRecord(b *testing.B) {
	s := open(b, b.TempDir())
	check(b, s.PutRecord("k", make([]byte, 300)))
	for b.Loop() {
		_, err := s.Record("k")
		check(b, err)
	}
}

func BenchmarkPutRecord(b *testing.B) {
	s := open(b, b.TempDir())
	i := 0
	for b.Loop() {
		i++
		check(b, s.PutRecord(fmt.Sprint(i), make([]byte, 300)))
	}
}

// BenchmarkStep does the work of the store for one RUN: a lock, a tree, a small
// blob, a layer and a record, with the final sync.
func BenchmarkStep(b *testing.B) {
	s := open(b, b.TempDir())
	i := 0
	for b.Loop() {
		i++
		key := fmt.Sprint(i)
		unlock, err := s.Lock(b.Context(), key, nil)
		check(b, err)
		tree, err := s.NewTree()
		check(b, err)
		w, err := s.NewBlob()
		check(b, err)
		fmt.Fprint(w, key)
		d := layer.FromBytes([]byte(key))
		check(b, w.Commit(d))
		check(b, s.AddLayer(layer.Descriptor{MediaType: layer.MediaTypeGzip, Digest: d, Size: 5, DiffID: d}))
		check(b, tree.Commit(key))
		check(b, s.PutRecord(key, make([]byte, 300)))
		unlock()
	}
	check(b, s.Close())
}

func BenchmarkBlob(b *testing.B) {
	s := open(b, b.TempDir())
	i := 0
	for b.Loop() {
		i++
		w, err := s.NewBlob()
		check(b, err)
		fmt.Fprint(w, i)
		check(b, w.Commit(layer.FromBytes([]byte(fmt.Sprint(i)))))
	}
}

func BenchmarkTree(b *testing.B) {
	s := open(b, b.TempDir())
	tree, err := s.NewTree()
	check(b, err)
	check(b, tree.Commit("k"))
	for b.Loop() {
		if _, ok := s.Tree("k"); !ok {
			b.Fatal("missing")
		}
	}
}

func BenchmarkLock(b *testing.B) {
	s := open(b, b.TempDir())
	for b.Loop() {
		unlock, err := s.Lock(b.Context(), "k", nil)
		check(b, err)
		unlock()
	}
}
