package store

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
)

// storedImage adds an image with its layer to a store.
func storedImage(t *testing.T, s *Store, content string) layer.Image {
	t.Helper()
	img, bodies := testImage(t, content)
	for _, b := range bodies {
		_, err := s.PutBytes(b)
		check(t, err)
	}
	check(t, s.AddLayer(img.Layers[0]))
	return img
}

func wantHistory(t *testing.T, s *Store, ref string, want ...layer.Digest) {
	t.Helper()
	all, err := s.History(ref)
	check(t, err)
	var got []layer.Digest
	for _, f := range all {
		if got = append(got, f.Digest); f.Gone {
			got = append(got, "gone")
		}
		if f.Set.IsZero() || f.Until.IsZero() {
			t.Errorf("%+v", f)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("history %s, want %s", got, want)
	}
}

func TestTagHistory(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root)
	s.Command = "cairn build"
	a, b, index := storedImage(t, s, "a"), storedImage(t, s, "b"), testIndex(t, s)
	check(t, s.Tag("t", a))
	check(t, s.Tag("t", a))
	wantHistory(t, s, "t")
	if by := s.SetBy("t"); by != "cairn build" {
		t.Errorf("set by %q", by)
	}
	check(t, s.Tag("t", b))
	check(t, s.TagIndex("t", index))
	wantHistory(t, s, "t", b.Digest, a.Digest)

	s.Command = "cairn rollback"
	check(t, s.Restore("t", a.Digest))
	wantHistory(t, s, "t", index.Digest, b.Digest, a.Digest)
	if img, err := s.Image("t"); err != nil || img.Digest != a.Digest {
		t.Errorf("restored %s, %v", img.Digest, err)
	}
	check(t, s.Restore("t", index.Digest))
	if tagged, err := s.Tagged("t"); err != nil || tagged.Digest() != index.Digest {
		t.Errorf("restored %s, %v", tagged.Digest(), err)
	}
	check(t, s.Untag("t"))
	wantHistory(t, s, "t", index.Digest, a.Digest, index.Digest, b.Digest, a.Digest)
	wantMissing(t, "an image that the tag never had", s.Restore("t", layer.FromBytes(nil)))
	check(t, os.Remove(s.blobPath(a.Digest)))
	wantMissing(t, "an image that is gone", s.Restore("t", a.Digest))
	wantHistory(t, s, "t", index.Digest, a.Digest, "gone", index.Digest, b.Digest, a.Digest, "gone")
	check(t, s.Restore("t", index.Digest))

	// A name with a digest has no history.
	check(t, s.Tag("<none>@"+string(b.Digest), b))
	check(t, s.Untag("<none>@"+string(b.Digest)))
	wantHistory(t, s, "<none>@"+string(b.Digest))

	for range maxFormer {
		check(t, s.Tag("t", b))
		check(t, s.TagIndex("t", index))
	}
	if all, err := s.History("t"); err != nil || len(all) != maxFormer {
		t.Errorf("%d entries, %v", len(all), err)
	}
	if got := wrong(t, s, CheckOptions{}); got != nil {
		t.Errorf("found %q", got)
	}
	check(t, os.WriteFile(s.logPath("t"), []byte("torn"), 0o600))
	if got := wrong(t, s, CheckOptions{Repair: true}); !slices.Equal(got, []string{"history of"}) {
		t.Errorf("found %q", got)
	}
	wantHistory(t, s, "t")
}

// Two processes that set one tag lose no image.
func TestTagHistoryOfTwo(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	stores := []*Store{open(t, root), open(t, root)}
	a, b := storedImage(t, stores[0], "a"), storedImage(t, stores[0], "b")
	done := make(chan error)
	for i, s := range stores {
		go func() {
			for n := range 20 {
				img := a
				if n%2 == i {
					img = b
				}
				if err := s.Tag("t", img); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range stores {
		check(t, <-done)
	}
	now, err := stores[0].Image("t")
	check(t, err)
	all, err := stores[0].History("t")
	check(t, err)
	last := now.Digest
	for _, f := range all { // each image replaced another one
		if f.Digest == last {
			t.Fatalf("%s replaced itself", last)
		}
		last = f.Digest
	}
}

func TestPruneHistory(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		since time.Duration // 0: not kept
		want  []layer.Digest
	}{{0, []layer.Digest{"gone"}}, {time.Hour, nil}} {
		root := t.TempDir()
		s := open(t, root)
		a, b := storedImage(t, s, "a"), storedImage(t, s, "b")
		check(t, s.Tag("t", a))
		check(t, s.Tag("t", b))
		check(t, s.Close())
		age(t, root, time.Hour)
		s = open(t, root)
		o := PruneOptions{All: true}
		if test.since > 0 {
			o.History = time.Now().Add(-test.since)
		}
		_, err := s.Prune(o)
		check(t, err)
		wantHistory(t, s, "t", append([]layer.Digest{a.Digest}, test.want...)...)

		// The history of a removed tag stays for a month.
		check(t, s.Untag("t"))
		_, err = s.Prune(PruneOptions{})
		check(t, err)
		if all, err := s.History("t"); err != nil || len(all) != 2 {
			t.Errorf("%d entries, %v", len(all), err)
		}
		var log tagLog
		if !s.readJSON(s.logPath("t"), &log) {
			t.Fatal("no history")
		}
		log.Former[1].Until = time.Now().Add(-keepRemoved - time.Hour)
		check(t, s.writeJSON(s.logPath("t"), log, before))
		_, err = s.Prune(PruneOptions{})
		check(t, err)
		wantHistory(t, s, "t")
	}
}
