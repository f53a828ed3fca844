package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

func open(t testing.TB, root string) *Store {
	t.Helper()
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantMissing(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: error %v, want fs.ErrNotExist", what, err)
	}
}

// left lists the contents of the directories that are empty while the store is not
// in use.
func left(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	for _, dir := range []string{tmpDir, trashDir} {
		names, err := readNames(filepath.Join(root, dir))
		check(t, err)
		for _, name := range names {
			all = append(all, dir+"/"+name)
		}
	}
	trees, _ := filepath.Glob(filepath.Join(root, treesDir, "*", "*"))
	for _, tree := range trees {
		if filepath.Base(tree) != keysDir && keyless(tree) {
			all = append(all, tree)
		}
	}
	return all
}

func testImage(t testing.TB, contents ...string) (layer.Image, [][]byte) {
	t.Helper()
	var layers []layer.Descriptor
	var bodies [][]byte
	var diffIDs []layer.Digest
	for _, c := range contents {
		b := layer.Descriptor{MediaType: layer.MediaTypeTar, Digest: layer.FromBytes([]byte(c)), Size: int64(len(c)), DiffID: layer.FromBytes([]byte(c))}
		layers, bodies, diffIDs = append(layers, b), append(bodies, []byte(c)), append(diffIDs, b.DiffID)
	}
	config, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": "amd64",
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	check(t, err)
	img, err := layer.NewImage(config, layers, nil, false)
	check(t, err)
	return img, bodies
}

func TestBlobs(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	content := bytes.Repeat([]byte("cairn"), 1000)
	d := layer.FromBytes(content)

	if _, ok := s.TouchBlob(d); ok {
		t.Error("a blob is there before it was written")
	}
	_, err := s.OpenBlob(d)
	wantMissing(t, "OpenBlob", err)
	_, err = s.ReadBytes(d, 1<<20)
	wantMissing(t, "ReadBytes", err)

	w, err := s.NewBlob()
	check(t, err)
	_, err = w.Write(content)
	check(t, err)
	check(t, w.Commit(d))
	check(t, w.Close())
	if _, err := w.Write(content); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Write after Commit: %v", err)
	}
	if n, ok := s.TouchBlob(d); !ok || n != int64(len(content)) {
		t.Errorf("BlobSize = %d, %v", n, ok)
	}
	f, err := s.OpenBlob(d)
	check(t, err)
	defer f.Close()
	if got, _ := io.ReadAll(f); !bytes.Equal(got, content) {
		t.Error("OpenBlob reads something else")
	}
	if _, err := s.ReadBytes(d, 10); err == nil || !strings.Contains(err.Error(), "more than 10 bytes") {
		t.Errorf("ReadBytes over the limit: %v", err)
	}
}

func TestBlobWithoutCommitLeavesNothing(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root)
	w, err := s.NewBlob()
	check(t, err)
	fmt.Fprint(w, "half")
	check(t, w.Close())
	check(t, w.Close())
	if names, _ := readNames(s.lease.dir.Name()); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
	if names, _ := readNames(s.path(blobsDir)); len(names) > 0 {
		t.Errorf("stored: %v", names)
	}
}

func TestPutBlob(t *testing.T) {
	t.Parallel()
	content := "some bytes"
	d := layer.FromBytes([]byte(content))
	for _, tt := range []struct {
		name   string
		digest layer.Digest
		size   int64
		read   string
		want   string
	}{
		{"good", d, 10, content, ""},
		{"short", d, 11, content, "ended after 10 of 11 bytes"},
		{"long", d, 9, content, "longer than its 9 bytes"},
		{"other bytes", d, 10, "same bytes", "have the digest"},
		{"malformed digest", "sha256:../../../../etc/passwd", 10, content, "want 64 hex digits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			err := s.PutBlob(tt.digest, tt.size, strings.NewReader(tt.read))
			if tt.want == "" {
				check(t, err)
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			if names, _ := readNames(s.path(blobsDir)); len(names) > 0 {
				t.Errorf("stored: %v", names)
			}
		})
	}
}

func TestDamagedBlobIsDropped(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	d, err := s.PutBytes([]byte("whole"))
	check(t, err)
	check(t, os.WriteFile(s.blobPath(d), []byte("whol"), 0o600))
	_, err = s.ReadBytes(d, 100)
	wantMissing(t, "ReadBytes", err)
	if !strings.Contains(err.Error(), "damaged") {
		t.Errorf("error does not say why: %v", err)
	}
	_, err = s.PutBytes([]byte("whole"))
	check(t, err)
	if b, err := s.ReadBytes(d, 100); err != nil || string(b) != "whole" {
		t.Errorf("ReadBytes = %q, %v", b, err)
	}
}

func TestShorterBlobIsReplaced(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	d, err := s.PutBytes([]byte("whole"))
	check(t, err)
	check(t, os.Truncate(s.blobPath(d), 0))
	check(t, s.PutBlob(d, 5, strings.NewReader("whole")))
	if n, _ := s.TouchBlob(d); n != 5 {
		t.Errorf("size %d, want 5", n)
	}
}

func TestSmallFiles(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	id := layer.FromBytes([]byte("a layer"))
	x := &listing.Listing{Entries: []listing.Entry{{Path: "etc", Type: listing.TypeDir, Mode: 0o755}}}
	b := layer.Descriptor{MediaType: layer.MediaTypeGzip, Digest: layer.FromBytes([]byte("x")), Size: 1, DiffID: id}
	img, _ := testImage(t, "one")

	for _, kind := range []struct {
		name string
		put  func() error
		get  func() (any, error)
		want any
	}{
		{"record", func() error { return s.PutRecord("../k", []byte("v")) }, func() (any, error) { b, err := s.Record("../k"); return string(b), err }, "v"},
		{"hint", func() error { return s.PutHint("k", nil) }, func() (any, error) { b, err := s.Hint("k"); return string(b), err }, ""},
		{"index", func() error { return s.PutListing(id, x) }, func() (any, error) {
			x, err := s.Listing(id)
			if err != nil {
				return nil, err
			}
			return x.Entries[0].Path, nil
		}, "etc"},
		{"layer", func() error { return s.AddLayer(b) }, func() (any, error) {
			if all := s.Layers(id); len(all) == 1 {
				return all[0].Digest, nil
			}
			return nil, fs.ErrNotExist
		}, b.Digest},
		{"tag", func() error { return s.Tag("x:1", img) }, func() (any, error) { img, err := s.Image("x:1"); return img.Digest, err }, img.Digest},
		{"pin", func() error { return s.SetPin("x:1", "linux/amd64", img) }, func() (any, error) { img, err := s.Pin("x:1", "linux/amd64"); return img.Digest, err }, img.Digest},
	} {
		t.Run(kind.name, func(t *testing.T) {
			_, err := kind.get()
			wantMissing(t, "before", err)
			before := files(t, s)
			check(t, kind.put())
			got, err := kind.get()
			check(t, err)
			if got != kind.want {
				t.Errorf("got %v, want %v", got, kind.want)
			}
			check(t, kind.put())
			torn(t, s, before, kind.get)
		})
	}
}

func files(t *testing.T, s *Store) []string {
	t.Helper()
	var all []string
	for _, dir := range []string{recordsDir, hintsDir, indexesDir, layersDir, tagsDir, pinsDir} {
		names, err := readNames(s.path(dir))
		check(t, err)
		for _, name := range names {
			all = append(all, s.path(dir, name))
		}
	}
	return all
}

// torn truncates the one new file to every length, as a power failure may: it must
// read as missing.
func torn(t *testing.T, s *Store, before []string, get func() (any, error)) {
	t.Helper()
	added := slices.DeleteFunc(files(t, s), func(f string) bool { return slices.Contains(before, f) })
	if len(added) != 1 {
		t.Fatalf("new files: %v, want one", added)
	}
	whole, err := os.ReadFile(added[0])
	check(t, err)
	for n := range len(whole) {
		check(t, os.WriteFile(added[0], whole[:n], 0o600))
		_, err := get()
		wantMissing(t, fmt.Sprintf("cut at %d", n), err)
		check(t, os.WriteFile(added[0], append(whole[:n:n], make([]byte, len(whole)-n)...), 0o600))
		if _, err := get(); err == nil && whole[n] != 0 {
			t.Errorf("zeros from %d on: no error", n)
		}
	}
}

func TestDropRecord(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	check(t, s.PutRecord("k", []byte("v")))
	check(t, s.DropRecord("k"))
	check(t, s.DropRecord("k"))
	_, err := s.Record("k")
	wantMissing(t, "Record", err)
}

func TestAddLayerKeepsOthers(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	a, b := open(t, root), open(t, root)
	id := layer.FromBytes([]byte("layer"))
	var wg sync.WaitGroup
	for i := range 40 {
		s := []*Store{a, b}[i%2]
		wg.Go(func() {
			d := layer.FromBytes([]byte{byte(i)})
			if err := s.AddLayer(layer.Descriptor{MediaType: layer.MediaTypeGzip, Digest: d, Size: 1, DiffID: id}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(a.Layers(id)); n != 40 {
		t.Errorf("%d blobs are known, want 40", n)
	}
	if err := a.AddLayer(layer.Descriptor{Digest: "sha256:x", DiffID: id}); err == nil {
		t.Error("a malformed digest was taken")
	}
}

func TestTags(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	one, _ := testImage(t, "one")
	two, _ := testImage(t, "one", "two")
	check(t, s.Tag("b:1", one))
	check(t, s.Tag("a:1", one))
	check(t, s.Tag("a:1", two))
	all, err := s.Images()
	check(t, err)
	if len(all) != 2 || all[0].Ref != "a:1" || all[0].Image.Digest != two.Digest || all[1].Image.Digest != one.Digest {
		t.Errorf("Images = %+v", all)
	}
	if time.Since(all[0].Created) > time.Hour {
		t.Errorf("Created = %v", all[0].Created)
	}
	if len(all[0].Image.Layers) != 2 || all[0].Image.Layers[1].DiffID != two.Layers[1].DiffID {
		t.Errorf("Layers = %+v", all[0].Image.Layers)
	}
	check(t, s.Untag("a:1"))
	_, err = s.Image("a:1")
	wantMissing(t, "Image", err)
	wantMissing(t, "Untag", s.Untag("a:1"))
	_, err = s.Pin("b:1", "linux/arm64")
	wantMissing(t, "Pin", err)
}

func TestUsage(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	img, bodies := testImage(t, strings.Repeat("x", 10000))
	_, err := s.PutBytes(bodies[0])
	check(t, err)
	check(t, s.Tag("x", img))
	check(t, s.PutRecord("r", nil))
	tree, err := s.NewTree()
	check(t, err)
	check(t, os.WriteFile(tree.Dir+"/a", make([]byte, 8192), 0o644))
	check(t, os.Link(tree.Dir+"/a", tree.Dir+"/b"))
	check(t, tree.Commit("k"))
	u, err := s.Usage()
	check(t, err)
	if u.Images != 1 || u.Blobs.Count != 3 || u.Records.Count != 1 || u.Trees.Count != 1 || u.Blobs.Bytes < 10000 {
		t.Errorf("Usage = %+v", u)
	}
	if u.Trees.Bytes < 8192 || u.Trees.Bytes > 5*4096+8192 {
		t.Errorf("trees take %d bytes: hard links are counted once", u.Trees.Bytes)
	}
}

func FuzzUnseal(f *testing.F) {
	f.Add(seal("name", []byte("x")))
	f.Add([]byte(sealMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if body, ok := unseal("name", b); ok && !bytes.Equal(seal("name", body), b) {
			t.Errorf("%q unseals to %q, which seals to something else", b, body)
		}
		if body, ok := unseal("name", seal("name", b)); !ok || !bytes.Equal(body, b) {
			t.Errorf("%q does not survive", b)
		}
		if _, ok := unseal("other", seal("name", b)); ok {
			t.Errorf("%q can be given another name", b)
		}
	})
}
