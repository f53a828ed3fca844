package listing

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/layer"
)

// many lists a layer with files in directories, some of which are hidden.
func many(n int) *Listing {
	x := &Listing{Entries: []Entry{{Path: ".", Type: TypeDir, Mode: 0o755, MTime: 9}}}
	for i := range n {
		dir := fmt.Sprintf("d%04d", i)
		x.Entries = append(x.Entries,
			Entry{Path: dir, Type: TypeWhiteout},
			Entry{Path: dir, Type: TypeDir, Mode: 0o755, UID: i, GID: -i, MTime: int64(i * i)},
			Entry{Path: dir, Type: TypeOpaque},
			Entry{Path: dir + "/f", Type: TypeFile, Mode: 0o644, Size: int64(i), Digest: layer.FromBytes([]byte(dir)), XAttrs: map[string]string{"user.n": dir}},
			Entry{Path: dir + "/l", Type: TypeSymlink, Mode: 0o777, Link: "f"},
		)
	}
	return x
}

func TestPacked(t *testing.T) {
	t.Parallel()
	// Find decodes a chunk up to the entry, so of the longest list only some entries
	// are searched for: 11 is coprime with the number of entries in a directory.
	for n, step := range map[int]int{0: 1, 1: 1, 300: 1, 1000: 1, 5000: 11} {
		x := many(n)
		var l Packed
		for i := range x.Entries {
			l.Add(&x.Entries[i])
		}
		if l.Len() != len(x.Entries) || l.Last().Path != x.Entries[len(x.Entries)-1].Path {
			t.Errorf("%d entries, the last %s; want %d", l.Len(), l.Last().Path, len(x.Entries))
		}
		if got := l.Unpack(); !reflect.DeepEqual(x, got) {
			t.Errorf("%d: %.2000s", n, cmp.Diff(x, got))
		}
		if !bytes.Equal(l.Encode(), x.Encode()) {
			t.Errorf("%d: the encoding differs from that of a Listing", n)
		}
		any := func(*Entry) bool { return true }
		for i := 0; i < len(x.Entries); i += step {
			e := &x.Entries[i]
			if got := l.Find(e.Path, func(f *Entry) bool { return f.Type == e.Type }); got == nil || Compare(*got, *e) != 0 {
				t.Fatalf("%s: found %+v", e.Path, got)
			}
		}
		for _, path := range []string{"", "+", "d", "d0000/a", "d0000/f/g", "d9999x", "z"} {
			if got := l.Find(path, any); got != nil {
				t.Errorf("%s: found %+v", path, got)
			}
		}
	}
	if (&Packed{}).Last() != nil {
		t.Error("an empty list has a last entry")
	}
}

func BenchmarkPacked(b *testing.B) {
	x := many(20_000)
	b.ReportAllocs()
	for b.Loop() {
		var l Packed
		for i := range x.Entries {
			l.Add(&x.Entries[i])
		}
		n := 0
		for range l.All() {
			n++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(x.Entries)), "ns/entry")
}
