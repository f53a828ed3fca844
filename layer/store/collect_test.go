package store

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
)

// blobs makes blobs of 100 kB, each last used an hour before the previous one.
func blobs(t *testing.T, root string, n int) (all []layer.Digest) {
	t.Helper()
	s := open(t, root)
	defer s.Close()
	for i := range n {
		d, err := s.PutBytes([]byte(strings.Repeat(string(rune('a'+i)), 100_000)))
		check(t, err)
		all = append(all, d)
		when := time.Now().Add(-time.Duration(n-i) * time.Hour)
		check(t, os.Chtimes(s.blobPath(d), when, when))
	}
	return all
}

func kept(t *testing.T, root string, all []layer.Digest) (have string) {
	t.Helper()
	s := open(t, root)
	defer s.Close()
	for i, d := range all {
		if _, ok := s.StatBlob(d); ok {
			have += string(rune('a' + i))
		}
	}
	return have
}

func TestPruneKeepsSoMuch(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		o    PruneOptions
		want string
	}{
		{"room enough", PruneOptions{Keep: 10_000_000}, "abcde"},
		{"the oldest go", PruneOptions{Keep: 250_000}, "de"},
		{"but only those that are old", PruneOptions{Keep: 250_000, Before: time.Now().Add(-4*time.Hour - time.Minute)}, "bcde"},
		{"nothing fits", PruneOptions{Keep: 1}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			all := blobs(t, root, 5)
			s := open(t, root)
			_, err := s.Prune(tt.o)
			check(t, err)
			check(t, s.Close())
			if got := kept(t, root, all); got != tt.want {
				t.Errorf("kept %q, want %q", got, tt.want)
			}
		})
	}
}

// Cache mounts count, and are removed if they are the least recently used.
func TestPruneKeepsCacheFolders(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		keep int64
		want string
	}{{1_000_000, "xy"}, {450_000, "y"}, {100_000, ""}} {
		root := t.TempDir()
		all := blobs(t, root, 2) // last used one and two hours ago
		s := open(t, root)
		for i, key := range []string{"x", "y"} {
			c, err := s.CacheMount(t.Context(), key, Shared, emptyFolder, nil)
			check(t, err)
			check(t, os.WriteFile(c.Data+"/f", make([]byte, 200_000), 0o600))
			when := time.Now().Add(-3 * time.Hour)
			if i == 1 {
				when = time.Now().Add(-30 * time.Minute)
			}
			check(t, os.Chtimes(filepath.Dir(c.Data), when, when))
			c.Close()
		}
		_, err := s.Prune(PruneOptions{})
		check(t, err)
		r, err := s.Prune(PruneOptions{Keep: tt.keep})
		check(t, err)
		check(t, s.Close())
		have := ""
		check(t, s.eachCache(func(dir string) error {
			for _, key := range []string{"x", "y"} {
				if filepath.Base(filepath.Dir(dir)) == keyName(key) {
					have += key
				}
			}
			return nil
		}))
		if have = sortedText(have); have != tt.want || r.Caches != 2-len(tt.want) {
			t.Errorf("keeping %d: folders %q, want %q; %d are said to be removed", tt.keep, have, tt.want, r.Caches)
		}
		if got := kept(t, root, all); tt.keep == 450_000 && got != "ab" {
			t.Errorf("keeping %d: blobs %q, want all", tt.keep, got)
		}
	}
}

func sortedText(s string) string {
	b := []byte(s)
	slices.Sort(b)
	return string(b)
}

// Entries that images need do not count, and stay.
func TestPruneKeepsImages(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	all := blobs(t, root, 3)
	s := open(t, root)
	made, bodies := testImage(t, "an image")
	_, err := s.PutBytes(bodies[0])
	check(t, err)
	check(t, s.Tag("t", made))
	check(t, s.Close())
	s = open(t, root)
	_, err = s.Prune(PruneOptions{Keep: 350_000})
	check(t, err)
	check(t, s.Close())
	if got := kept(t, root, all); got != "abc" {
		t.Errorf("kept %q, want abc", got)
	}
	s = open(t, root)
	_, err = s.Prune(PruneOptions{Keep: 1})
	check(t, err)
	check(t, s.Close())
	if got := kept(t, root, append(all, made.Layers[0].Digest)); got != "d" {
		t.Errorf("kept %q, want the image's layer, d", got)
	}
}

// Entries in use by a running process stay, whatever the size.
func TestPruneKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	all := blobs(t, root, 3)
	s, other := open(t, root), open(t, root)
	defer other.Close()
	if _, ok := other.TouchBlob(all[0]); !ok {
		t.Fatal("the blob is not there")
	}
	_, err := s.Prune(PruneOptions{Keep: 1})
	check(t, err)
	check(t, s.Close())
	if got := kept(t, root, all); got != "a" {
		t.Errorf("kept %q, want a", got)
	}
}

func TestCollectLooksOnceADay(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	all := blobs(t, root, 3)
	s := open(t, root)
	for _, tt := range []struct {
		at   time.Time
		want string
	}{
		{time.Now().Add(time.Hour), "abc"}, // the store is new
		{time.Now().Add(25 * time.Hour), "c"},
		{time.Now().Add(26 * time.Hour), "c"},
	} {
		_, err := s.Collect(150_000, tt.at)
		check(t, err)
		if got := kept(t, root, all); got != tt.want {
			t.Errorf("at %s kept %q, want %q", tt.at, got, tt.want)
		}
	}
	check(t, s.Close())
}

func TestRecordsAreListed(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	defer s.Close()
	check(t, s.PutRecord("a", []byte("one")))
	check(t, s.PutRecord("b", []byte("two")))
	all, err := s.Records()
	check(t, err)
	if len(all) != 2 || time.Since(all[0].Used) > time.Hour || len(all[0].Bytes)+len(all[1].Bytes) != 6 {
		t.Errorf("records %v, want those of a and b", all)
	}
}
