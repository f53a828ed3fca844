package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/layer"
)

// A name of several platforms keeps all that each image consists of.
func TestTagSet(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	var images []layer.Image
	for _, content := range []string{"one", "two"} {
		img, bodies := testImage(t, content)
		_, err := s.PutBytes(bodies[0])
		check(t, err)
		images = append(images, img)
	}
	set, err := layer.NewSet(images, nil, false)
	check(t, err)
	check(t, s.TagSet("several", set))
	check(t, s.Close())

	s = open(t, root)
	_, err = s.Prune(PruneOptions{All: true})
	check(t, err)
	got, err := s.Tagged("several")
	check(t, err)
	if diff := cmp.Diff(&set, got.Set); diff != "" {
		t.Error(diff)
	}
	if got.Digest() != set.Digest || got.Image.Digest != set.Main().Digest {
		t.Errorf("it is %s with the main image %s", got.Digest(), got.Image.Digest)
	}
	all, err := s.Images()
	check(t, err)
	if len(all) != 1 || all[0].Digest() != set.Digest {
		t.Errorf("the list is %v", all)
	}
	for _, img := range images {
		if _, ok := s.BlobSize(img.Layers[0].Digest); !ok {
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
	for _, img := range images {
		if _, ok := s.BlobSize(img.Layers[0].Digest); ok {
			t.Errorf("a layer of %s is still there", img.Digest)
		}
	}
}
