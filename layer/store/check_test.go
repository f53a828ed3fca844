package store

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

// wrong lists what a check finds, each by the first two words of its name.
func wrong(t *testing.T, s *Store, o CheckOptions) []string {
	t.Helper()
	r, err := s.Check(context.Background(), o)
	check(t, err)
	var all []string
	for _, d := range r.Wrong {
		if d.Dropped != o.Repair {
			t.Errorf("%s: dropped is %v", d.What, d.Dropped)
		}
		all = append(all, strings.Join(strings.Fields(d.What)[:2], " "))
	}
	return all
}

func TestCheckFindsAndDrops(t *testing.T) {
	f := fill(t)
	s := open(t, f.root)
	if got := wrong(t, s, CheckOptions{}); got != nil {
		t.Fatalf("in a new store: %q", got)
	}
	body := f.tagged.Layers[0].Digest
	damage := func(path, text string) { check(t, os.WriteFile(path, []byte(text), 0o600)) }
	damage(s.blobPath(body), "other")
	damage(s.path(recordsDir, keyName("pinned")), "torn")
	damage(s.path(recordsDir, "stranger"), "")
	damage(s.path(indexesDir, f.alone.Layers[0].DiffID.Hex()), "torn")
	check(t, os.Remove(s.blobPath(f.pinned.ConfigDigest)))
	check(t, os.Symlink("../nowhere", s.keyPath("dangling")))

	r, err := s.Check(context.Background(), CheckOptions{})
	check(t, err)
	i := slices.IndexFunc(r.Wrong, func(d Damage) bool { return d.What == "blob "+string(body) })
	if i < 0 || !slices.Equal(r.Wrong[i].Images, []string{"t"}) {
		t.Errorf("the image's layer is not named as its own: %+v", r.Wrong)
	}
	want := []string{"blob " + string(body), "index of", "pin p", "record " + keyName("pinned"), "record stranger", "tree " + keyName("dangling")}
	slices.Sort(want)
	for _, repair := range []bool{false, true} {
		got := wrong(t, s, CheckOptions{Repair: repair})
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("found %q, not %q", got, want)
		}
	}
	if got := wrong(t, s, CheckOptions{}); got != nil {
		t.Errorf("after the repair: %q", got)
	}
	if _, ok := s.BlobSize(body); ok {
		t.Error("the damaged blob is still there")
	}
}

func TestCheckEnds(t *testing.T) {
	f := fill(t)
	s := open(t, f.root)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Check(ctx, CheckOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled check gives %v", err)
	}
}

func TestOpenVerified(t *testing.T) {
	s := open(t, t.TempDir())
	text := strings.Repeat("0123456789", 100_000)
	d, err := s.PutBytes([]byte(text))
	check(t, err)
	uses := map[string]func(io.ReadSeeker) (string, error){
		"in one go": func(r io.ReadSeeker) (string, error) {
			b, err := io.ReadAll(r)
			return string(b), err
		},
		"by WriteTo": func(r io.ReadSeeker) (string, error) {
			var b strings.Builder
			_, err := io.Copy(&b, r)
			return b.String(), err
		},
		"from the middle": func(r io.ReadSeeker) (string, error) {
			if _, err := r.Seek(int64(len(text)/2), io.SeekStart); err != nil {
				return "", err
			}
			b, err := io.ReadAll(r)
			return text[:len(text)/2] + string(b), err
		},
	}
	for name, use := range uses {
		r, err := s.OpenVerified(d)
		check(t, err)
		if got, err := use(r); err != nil || got != text {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		check(t, r.Close())
	}
	for name, use := range uses {
		s.whole.Clear()
		check(t, os.WriteFile(s.blobPath(d), []byte(text[:len(text)-1]+"x"), 0o600))
		r, err := s.OpenVerified(d)
		check(t, err)
		var damaged *DamagedError
		if got, err := use(r); !errors.As(err, &damaged) || damaged.Digest != d || len(got) >= len(text) {
			t.Errorf("%s: a damaged blob gives %d bytes and %v", name, len(got), err)
		}
		check(t, r.Close())
		if _, ok := s.BlobSize(d); ok {
			t.Errorf("%s: the damaged blob is still there", name)
		}
	}
}
