package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// settled returns a chain of n layers whose blobs are known, and a tree with one file for
// each.
func settled(t *testing.T, m *Manager, n int) (chain []*Stack, pieces []piece) {
	t.Helper()
	stack, folder := m.Empty(), t.TempDir()
	for i := range n {
		id := layer.FromBytes([]byte(fmt.Sprint(i)))
		stack = stack.With(m.Stored(layer.Descriptor{Digest: id, DiffID: id}, time.Time{}))
		dir := filepath.Join(folder, fmt.Sprint(i))
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.WriteFile(fmt.Sprintf("%s/f%03d", dir, i), nil, 0o644))
		pieces = append(pieces, piece{dir, i + 1})
	}
	return stack.chain(), pieces
}

// TestMergeOldest checks how many trees of a very tall stack are merged.
func TestMergeOldest(t *testing.T) {
	t.Parallel()
	m := newManager(t, newBlobs(), openStore(t))
	chain, pieces := settled(t, m, mergeAbove+mergeStep+1)
	for n, merged := range map[int]int{1: 0, mergeAbove: 0, mergeAbove + 1: mergeStep, mergeAbove + mergeStep: mergeStep, mergeAbove + mergeStep + 1: 2 * mergeStep} {
		got, err := m.mergeOldest(t.Context(), chain[:n], pieces[:n])
		must(t, err)
		if merged == 0 {
			if !slices.Equal(got, pieces[:n]) {
				t.Errorf("%d trees became %d", n, len(got))
			}
			continue
		}
		if len(got) != n-merged+1 || got[0].end != merged || !slices.Equal(got[1:], pieces[merged:n]) {
			t.Errorf("%d trees became %d, the first ends at %d", n, len(got), got[0].end)
		}
		names, err := os.ReadDir(got[0].dir)
		if err != nil || len(names) != merged || names[merged-1].Name() != fmt.Sprintf("f%03d", merged-1) {
			t.Errorf("%d trees: the merged one has %d files, %v", n, len(names), err)
		}
		again, err := m.mergeOldest(t.Context(), chain[:n], pieces[:n])
		if err != nil || again[0] != got[0] {
			t.Errorf("%d trees: merged again to %v, %v", n, again[0], err)
		}
	}
}

// TestMergeRuns checks which runs of layers are merged: small ones whose layers are
// written, with enough layers above them.
func TestMergeRuns(t *testing.T) {
	t.Parallel()
	m := newManager(t, newBlobs(), openStore(t))
	chain, pieces := settled(t, m, 3*runLength)
	small := &listing.Listing{Entries: []listing.Entry{{Path: "f", Type: listing.TypeFile}}}
	large := &listing.Listing{}
	for i := range runEntries {
		large.Entries = append(large.Entries, listing.Entry{Path: fmt.Sprintf("g%04d", i), Type: listing.TypeFile})
	}
	for i, s := range chain {
		x := small
		if i == runLength+5 {
			x = large // the second run has too many files
		}
		must(t, m.Store.PutListing(s.layer.blob.DiffID, x))
	}
	for n, want := range map[int]int{
		2*runLength - 1: 2*runLength - 1, // too few above the first run
		2 * runLength:   runLength + 1,
		3 * runLength:   2*runLength + 1,
	} {
		got, err := m.mergeRuns(t.Context(), chain[:n], pieces[:n])
		if err != nil || len(got) != want {
			t.Errorf("%d trees became %d, want %d: %v", n, len(got), want, err)
		}
	}
	unsettled := m.Empty().With(&Layer{m: m, settled: make(chan struct{})})
	if _, err := isSmall(t.Context(), []*Stack{unsettled}); !errors.Is(err, errUnsettled) {
		t.Errorf("a layer that is being written: %v", err)
	}
}

// TestShortenFew checks that the trees of a stack of usual height stay.
func TestShortenFew(t *testing.T) {
	t.Parallel()
	m := newManager(t, newBlobs(), nil) // without a store nothing can be merged
	dirs := make([]string, 2*runLength)
	for i := range dirs {
		dirs[i] = fmt.Sprint(i)
	}
	got, err := m.shorten(t.Context(), nil, dirs)
	if err != nil || !slices.Equal(got, dirs) {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestDeepView checks the view of a stack of many layers that change the same paths.
func TestDeepView(t *testing.T) {
	t.Parallel()
	m := newManager(t, newBlobs(), openStore(t))
	stack := m.Empty()
	const n = 100
	for i := range n {
		changes := DiffChanges{file("last", fmt.Sprint(i))}
		if i > 0 {
			changes = append(DiffChanges{{Entry: listing.Entry{Path: fmt.Sprintf("f%03d", i-1), Type: listing.TypeWhiteout}}, file(fmt.Sprintf("f%03d", i), "x")}, changes...)
		} else {
			changes = append(DiffChanges{file("f000", "x")}, changes...)
		}
		stack = stack.Add(NewLayer{Changes: changes})
	}
	must(t, m.Wait())
	v, err := stack.FullView(t.Context())
	must(t, err)
	if got := paths(t, v); got != ". f099 last" {
		t.Errorf("got %s", got)
	}
	last, _ := v.Lookup("last")
	if last.Digest != layer.FromBytes([]byte(fmt.Sprint(n-1))) || last.Layer != n-1 {
		t.Errorf("last is %+v", last)
	}
	if layers := stack.Layers(); len(layers) != n || layers[n-1] != stack.Top() || stack.depth != n {
		t.Errorf("%d layers, depth %d", len(layers), stack.depth)
	}
}

func TestUnique(t *testing.T) {
	t.Parallel()
	dirs := []string{"a", "b", "a", "c", "b"}
	if got := unique(dirs); !slices.Equal(got, []string{"a", "b", "c"}) || dirs[2] != "a" {
		t.Errorf("got %q of %q", got, dirs)
	}
	if got := unique(nil); len(got) != 0 {
		t.Errorf("got %q of none", got)
	}
}

// TestWithStack checks that stacks do not change when layers are added.
func TestWithStack(t *testing.T) {
	t.Parallel()
	m := newManager(t, newBlobs(), nil)
	a, b, c := &Layer{}, &Layer{}, &Layer{}
	one := m.Empty().With(a)
	two := m.Empty().With(b).With(c)
	both := one.WithStack(two)
	if !slices.Equal(both.Layers(), []*Layer{a, b, c}) || both.depth != 3 || !slices.Equal(one.Layers(), []*Layer{a}) || one.WithStack(m.Empty()) != one {
		t.Errorf("got %v", both.Layers())
	}
	if m.Empty().Top() != nil || len(m.Empty().Layers()) != 0 {
		t.Error("the empty stack has a layer")
	}
}

// TestCompression checks which blobs of images are compressed again.
func TestCompression(t *testing.T) {
	t.Parallel()
	zstd := Compression{Options: compress.Options{Format: compress.Zstd, Level: 3}}
	for _, c := range []struct {
		how   Compression
		media string
	}{{zstd, layer.MediaTypeZstd}, {Compression{}, layer.MediaTypeGzip}, {Compression{Options: compress.Options{Format: compress.Uncompressed}}, layer.MediaTypeTar}} {
		if got := c.how.mediaType(); got != c.media {
			t.Errorf("%+v: %s", c.how, got)
		}
		b := layer.Descriptor{MediaType: c.media, Level: c.how.Level}
		if !c.how.matches(b) {
			t.Errorf("%+v does not match %+v", c.how, b)
		}
		if b.Level++; c.how.matches(b) {
			t.Errorf("%+v matches level %d", c.how, b.Level)
		}
	}
	r, s := newBlobs(), openStore(t)
	b := r.pack(t, file("a", "text"))
	foreign := b
	foreign.URLs = []string{"https://example.com/layer"}
	forced := zstd
	forced.Force = true
	for name, test := range map[string]struct {
		b    layer.Descriptor
		how  Compression
		same bool
	}{
		"as it is":            {b, zstd, true},
		"forced":              {b, forced, false},
		"forced, same format": {b, Compression{Options: compress.Options{Format: compress.Gzip, Level: 9}, Force: true}, true},
		"forced, foreign":     {foreign, forced, true},
	} {
		got, err := newManager(t, r, s).Image([]layer.Descriptor{test.b}, "example/"+name, nil).Top().Variant(t.Context(), test.how)
		if err != nil || (got.Digest == b.Digest) != test.same || got.DiffID != b.DiffID {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestCopyMount checks that overlay mounts become copies, and others stay.
func TestCopyMount(t *testing.T) {
	t.Parallel()
	m := newManager(t, newBlobs(), openStore(t))
	lowers := []string{t.TempDir(), t.TempDir()}
	for i, dir := range lowers {
		must(t, os.WriteFile(dir+"/both", []byte(fmt.Sprint(i)), 0o644))
		must(t, os.WriteFile(fmt.Sprintf("%s/own%d", dir, i), nil, 0o644))
	}
	mount := sandbox.Mount{Type: "overlay", Target: "/x", Subpath: "sub", ReadOnly: true, Lowers: lowers, Upper: "/upper", Work: "/work"}
	must(t, m.copyMount(&mount))
	if text, err := os.ReadFile(mount.Source + "/both"); err != nil || string(text) != "0" {
		t.Errorf("the topmost file has %q, %v", text, err)
	}
	if list, err := os.ReadDir(mount.Source); err != nil || len(list) != 3 {
		t.Errorf("the copy has %v, %v", list, err)
	}
	if mount.Type != "bind" || mount.Target != "/x" || mount.Subpath != "sub" || !mount.ReadOnly || mount.Lowers != nil || mount.Upper != "" || mount.Work != "" {
		t.Errorf("got %+v", mount)
	}
	bind := sandbox.Mount{Type: "bind", Source: "/source", Target: "/y"}
	if must(t, m.copyMount(&bind)); bind.Source != "/source" {
		t.Errorf("a bind became %+v", bind)
	}
}

// TestOwners checks the owners of files where trees do not have them.
func TestOwners(t *testing.T) {
	t.Parallel()
	m := newManager(t, newBlobs(), openStore(t))
	a, d := file("a", "text"), dir("d")
	a.UID, a.GID, d.UID, d.GID = 5, 6, 7, 8
	link := tarball.Change{Entry: listing.Entry{Path: "b", Type: listing.TypeHardlink, Link: "a"}}
	stack := m.Empty().Add(NewLayer{Changes: DiffChanges{a, link, d}})
	owner, err := stack.owners(t.Context())
	must(t, err)
	for _, c := range []struct {
		path string
		kind listing.Type
		want string
	}{
		{"a", listing.TypeFile, "5:6 true"},
		{"b", listing.TypeFile, "5:6 true"},
		{"d", listing.TypeDir, "7:8 true"},
		{"a", listing.TypeDir, "5:6 false"}, // replaced by another type
		{"gone", listing.TypeFile, "0:0 false"},
	} {
		uid, gid, ok := owner(c.path, c.kind)
		if got := fmt.Sprintf("%d:%d %v", uid, gid, ok); got != c.want {
			t.Errorf("%s: %s, want %s", c.path, got, c.want)
		}
	}
	must(t, m.Wait())
}

// TestCacheTransfer checks that the layers of one cache are displayed together.
func TestCacheTransfer(t *testing.T) {
	t.Parallel()
	m := newManager(t, newBlobs(), openStore(t))
	one, other := newBlobs(), newBlobs()
	if a := m.cacheTransfer(one); a != m.cacheTransfer(one) || a == m.cacheTransfer(other) || len(m.transfers) != 2 {
		t.Errorf("%d transfers", len(m.transfers))
	}
	tr := m.transfers[0]
	tr.done = false
	endFirst, endSecond := tr.begin(), tr.begin()
	if endFirst(); tr.done {
		t.Error("the display ended before the second fetch")
	}
	if endSecond(); !tr.done {
		t.Error("the display did not end")
	}
}
