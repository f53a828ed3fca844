package store

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
)

// wrong returns the first two words of each damage that a check finds.
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
	t.Parallel()
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
	want := []string{"blob " + string(body), "listing of", "pin p", "record " + keyName("pinned"), "record stranger", "tree " + keyName("dangling")}
	slices.Sort(want)
	for _, repair := range []bool{false, true} {
		got := wrong(t, s, CheckOptions{Repair: repair})
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("found %q, not %q", got, want)
		}
	}
	for _, repair := range []bool{false, true, false} {
		r, err := s.Check(context.Background(), CheckOptions{Repair: repair})
		check(t, err)
		want := []Damage{{What: "image t", Why: "its layer " + string(body) + " is missing: build or pull the image again", Lost: true}}
		if !reflect.DeepEqual(r.Wrong, want) {
			t.Errorf("after the repair: %+v, want %+v", r.Wrong, want)
		}
	}
	check(t, s.SetOrigin(body, "registry.example/t"))
	if got := wrong(t, s, CheckOptions{}); got != nil {
		t.Errorf("with a registry that has the layer: %q", got)
	}
	if _, ok := s.TouchBlob(body); ok {
		t.Error("the damaged blob is still there")
	}
}

// All images of an index are verified, and named as those that need a blob.
func TestCheckIndex(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"index", "manifest", "config", "layer"} {
		s := open(t, t.TempDir())
		index := testIndex(t, s)
		check(t, s.TagIndex("both", index))
		if got := wrong(t, s, CheckOptions{}); got != nil {
			t.Fatalf("%s: in a new store: %q", kind, got)
		}
		last := index.Images[1]
		bad := map[string]layer.Digest{"index": index.Digest, "manifest": last.Digest, "config": last.ConfigDigest, "layer": last.Layers[0].Digest}[kind]
		check(t, os.WriteFile(s.blobPath(bad), []byte("other"), 0o600))
		r, err := s.Check(context.Background(), CheckOptions{})
		check(t, err)
		named := slices.ContainsFunc(r.Wrong, func(d Damage) bool {
			return d.What == "blob "+string(bad) && slices.Equal(d.Images, []string{"both"})
		})
		if !named {
			t.Errorf("%s: the damaged blob is not named with its image: %+v", kind, r.Wrong)
		}
		check(t, os.Remove(s.blobPath(bad)))
		if got := wrong(t, s, CheckOptions{}); !slices.Equal(got, []string{"image both"}) {
			t.Errorf("%s missing: found %q", kind, got)
		}
	}
}

func TestAllImagesNamesDamaged(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	index := testIndex(t, s)
	check(t, s.TagIndex("both", index))
	check(t, s.Tag("one", index.Images[0]))
	check(t, s.Tag("torn", index.Images[0]))
	check(t, os.WriteFile(s.path(tagsDir, keyName("torn")), []byte("{}"), 0o600))
	check(t, os.Remove(s.blobPath(index.Images[1].ConfigDigest)))
	all, damaged, err := s.AllImages()
	check(t, err)
	if len(all) != 1 || all[0].Ref != "one" || len(damaged) != 2 {
		t.Fatalf("%+v, %v", all, damaged)
	}
	for i, want := range []string{keyName("torn"), "image both: "} {
		if !strings.Contains(damaged[i].Error(), want) {
			t.Errorf("%v, want %q", damaged[i], want)
		}
	}
}

// A copy of a store may lack its empty directories.
func TestOpenMakesFolders(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	check(t, open(t, root).Close())
	for _, dir := range []string{blobsDir, filepath.Dir(blobsDir), layersDir, indexesDir, recordsDir, hintsDir, tagsDir, pinsDir, treesDir, tmpDir, trashDir} {
		check(t, os.RemoveAll(filepath.Join(root, dir)))
	}
	s := open(t, root)
	if got := wrong(t, s, CheckOptions{}); got != nil {
		t.Errorf("found %q", got)
	}
}

func TestCheckEnds(t *testing.T) {
	t.Parallel()
	f := fill(t)
	s := open(t, f.root)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Check(ctx, CheckOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled check gives %v", err)
	}
}

func TestOpenVerified(t *testing.T) {
	t.Parallel()
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
		"through a connection, as the body of a request": func(r io.ReadSeeker) (string, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			check(t, err)
			defer l.Close()
			received := make(chan string, 1)
			go func() {
				c, err := l.Accept()
				check(t, err)
				b, err := io.ReadAll(c)
				check(t, err)
				received <- string(b)
			}()
			c, err := net.Dial("tcp", l.Addr().String())
			check(t, err)
			_, err = io.Copy(c, io.LimitReader(r, int64(len(text))))
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			check(t, c.Close())
			return <-received, err
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
		if _, ok := s.TouchBlob(d); ok {
			t.Errorf("%s: the damaged blob is still there", name)
		}
	}
}
