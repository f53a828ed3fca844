package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/layer"
)

// testIndex returns an index of two images, whose layers it stores.
func testIndex(t *testing.T, s *Store) layer.Index {
	t.Helper()
	var images []layer.Image
	for _, content := range []string{"one", "two"} {
		img, bodies := testImage(t, content)
		_, err := s.PutBytes(bodies[0])
		check(t, err)
		images = append(images, img)
	}
	set, err := layer.NewIndex(images, nil, false)
	check(t, err)
	return set
}

// Tagging an index keeps all contents of each image.
func TestTagIndex(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root)
	set := testIndex(t, s)
	check(t, s.TagIndex("several", set))
	check(t, s.Close())

	s = open(t, root)
	_, err := s.Prune(PruneOptions{All: true})
	check(t, err)
	got, err := s.Tagged("several")
	check(t, err)
	if diff := cmp.Diff(&set, got.Index); diff != "" {
		t.Error(diff)
	}
	if got.Digest() != set.Digest || got.Image.Digest != set.Default().Digest {
		t.Errorf("it is %s with the main image %s", got.Digest(), got.Image.Digest)
	}
	all, err := s.Images()
	check(t, err)
	if len(all) != 1 || all[0].Digest() != set.Digest {
		t.Errorf("the list is %v", all)
	}
	for _, img := range set.Images {
		if _, ok := s.TouchBlob(img.Layers[0].Digest); !ok {
			t.Errorf("a layer of %s is gone", img.Digest)
		}
	}
	check(t, s.Untag("several"))
	check(t, s.Close())
	age(t, root, time.Hour) // the next lease may begin at the same tick of the clock

	s = open(t, root)
	defer s.Close()
	_, err = s.Prune(PruneOptions{All: true})
	check(t, err)
	for _, img := range set.Images {
		if _, ok := s.TouchBlob(img.Layers[0].Digest); ok {
			t.Errorf("a layer of %s is still there", img.Digest)
		}
	}
}
