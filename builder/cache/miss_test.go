package cache

import (
	"slices"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

func TestCompare(t *testing.T) {
	run := `{"op":"run","args":["make"],"env":["A=1","B=2"]}`
	past := Past{Name: "[build 2/4] RUN make", Op: run, Parts: []string{"below", "files"}}
	files := &Miss{Cause: CauseFiles, Brief: "f changed"}
	for _, test := range []struct {
		op    string
		parts []string
		below *Miss
		base  string
		want  Miss
	}{
		{run, past.Parts, nil, "", Miss{Cause: CauseRemoved, Brief: "no longer in the cache"}},
		{run, past.Parts, &Miss{Cause: CauseNoCache, Brief: "--no-cache"}, "", Miss{Cause: CauseNoCache, Brief: "--no-cache", Below: true}},
		{`{"op":"run","args":["make"],"env":["A=secret","B=2"]}`, past.Parts, nil, "", Miss{Cause: CauseVariables, Brief: "$A changed"}},
		{`{"op":"run","args":["make"],"env":["C=1"]}`, past.Parts, nil, "", Miss{Cause: CauseVariables, Brief: "$C and 2 more changed"}},
		{strings.TrimSuffix(past.Op, "}") + `,"epoch":0}`, past.Parts, nil, "", Miss{Cause: CauseVariables, Brief: "SOURCE_DATE_EPOCH changed"}},
		{`{"op":"run","args":["make","all"],"env":["A=2","B=2"]}`, past.Parts, nil, "", Miss{Cause: CauseCommand, Brief: "the instruction changed"}},
		{run, []string{"other", "files"}, files, "", Miss{Cause: CauseFiles, Brief: "f changed", Below: true}},
		{run, []string{"other", "files"}, nil, "debian:12", Miss{Cause: CauseBase, Brief: "debian:12 changed"}},
		{run, []string{"other", "files"}, nil, "", Miss{Cause: CauseBelow, Brief: "the layer below changed", Below: true}},
		{run, []string{"below", "others"}, nil, "", Miss{Cause: CauseFiles, Brief: "files changed"}},
		{run, []string{"below"}, nil, "", Miss{Cause: CauseCommand, Brief: "the instruction changed"}},
	} {
		got := past.Compare(test.op, test.parts, test.below, test.base)
		if got.Cause != test.want.Cause || got.Brief != test.want.Brief || got.Below != test.want.Below {
			t.Errorf("%s %v: got %+v, want %+v", test.op, test.parts, got, test.want)
		}
	}
}

// A step is compared with the one of the same instruction, even if its number has changed.
func TestSimilar(t *testing.T) {
	past := []Past{
		{Name: "[build 2/4] COPY a /", Op: `{"op":"copy"}`, Key: "a"},
		{Name: "[build 3/4] COPY b /", Op: `{"op":"copy"}`, Key: "b"},
		{Name: "[build 4/4] RUN make", Op: `{"op":"run"}`, Key: "run"},
	}
	for _, test := range []struct{ name, op, want string }{
		{"[build 2/4] COPY a /", `{"op":"copy"}`, "a"},
		{"[build 4/5] COPY b /", `{"op":"copy"}`, "b"},
		{"[build 3/4] COPY c /", `{"op":"copy"}`, "b"},
		{"[build 3/4] RUN ls", `{"op":"run"}`, ""},
		{"[other 2/2] RUN make", `{"op":"run"}`, "run"},
	} {
		got := ""
		if p := Similar(past, test.name, test.op); p != nil {
			got = p.Key
		}
		if got != test.want {
			t.Errorf("%s: compared with %q, want %q", test.name, got, test.want)
		}
	}
}

func TestAddFiles(t *testing.T) {
	file := func(path string, size int64, digest string) listing.Entry {
		return listing.Entry{Path: path, Type: listing.TypeFile, Size: size, Digest: layer.Digest("sha256:" + digest)}
	}
	old := &listing.Listing{Entries: []listing.Entry{{Path: "app", Type: listing.TypeDir}, file("app/a", 1, "a"), file("app/b", 1, "b"), file("etc/c", 1, "c")}}
	for _, test := range []struct {
		now  []listing.Entry
		want string
		more int
	}{
		{[]listing.Entry{file("app/a", 1, "x"), file("app/b", 1, "b"), file("etc/c", 1, "c")}, "a changed", 0},
		{[]listing.Entry{file("app/a", 1, "a"), file("app/b", 1, "b"), file("app/n", 1, "n"), file("etc/c", 1, "c")}, "n is new", 0},
		{[]listing.Entry{file("app/a", 1, "a"), file("app/b", 1, "b")}, "/etc/c is gone", 0},
		{[]listing.Entry{file("app/a", 2, "x"), file("app/n", 2, "x")}, "a and 3 more changed", 0},
		{[]listing.Entry{file("1", 1, "1"), file("2", 1, "1"), file("3", 1, "1"), file("4", 1, "1")}, "/1 and 6 more changed", 2},
		{[]listing.Entry{file("app/a", 1, "a"), file("app/b", 1, "b"), file("etc/c", 1, "c")}, "files changed", 0},
	} {
		m := Miss{Cause: CauseFiles, Brief: "files changed"}
		m.AddFiles(old, slices.Values(test.now), "/app/", "")
		if m.Brief != test.want || m.More != test.more {
			t.Errorf("got %q and %d more, want %q and %d", m.Brief, m.More, test.want, test.more)
		}
	}
}

// A file that is copied under another name is named by its source.
func TestAddFilesSource(t *testing.T) {
	old := &listing.Listing{Entries: []listing.Entry{{Path: "bin/main", Type: listing.TypeFile, Size: 1}}}
	now := slices.Values([]listing.Entry{{Path: "bin/main", Type: listing.TypeFile, Size: 2}})
	for source, want := range map[string]string{"src/main.sh": "src/main.sh changed", "": "main changed"} {
		m := Miss{Cause: CauseFiles}
		if m.AddFiles(old, now, "/bin/main", source); m.Brief != want {
			t.Errorf("source %q: %q, want %q", source, m.Brief, want)
		}
	}
}
