package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestBuilds(t *testing.T) {
	s := open(t, t.TempDir())
	began := time.UnixMilli(1_800_000_000_000)
	for i, id := range []string{"aaaaaaaa", "bbbbbbbb", "cccccccc"} {
		if err := s.PutBuild(id, began.Add(time.Duration(i)*time.Second), []byte(strings.Repeat(id, 1000))); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"", "../../x", "AAAAAAAA", "aaaaaaa"} {
		if err := s.PutBuild(bad, began, nil); err == nil {
			t.Errorf("the ID %q is accepted", bad)
		}
	}
	all := builds(t, s)
	if len(all) != 3 || all[0].ID != "cccccccc" || !all[2].Time.Equal(began) {
		t.Fatalf("got %v", all)
	}
	if b, err := s.Build(all[1]); err != nil || string(b) != strings.Repeat("bbbbbbbb", 1000) {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
	if err := s.TrimBuilds(10, 17000); err != nil { // two of 8 kB
		t.Fatal(err)
	}
	if all := builds(t, s); len(all) != 2 || all[1].ID != "bbbbbbbb" {
		t.Errorf("trimmed to %v", all)
	}
	if err := s.TrimBuilds(1, 1<<20); err != nil {
		t.Fatal(err)
	}
	all = builds(t, s)
	if len(all) != 1 {
		t.Fatalf("trimmed to %v", all)
	}
	if err := os.Truncate(s.path(buildsDir, all[0].name), 100); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Build(all[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a torn record: %v", err)
	}
	if err := os.Chtimes(s.path(buildsDir, all[0].name), began, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, s.root)
	report, err := s.Prune(PruneOptions{All: true})
	if err != nil || report.Builds != 1 || len(builds(t, s)) != 0 {
		t.Errorf("pruned %+v, %v", report, err)
	}
}

// Builds that end at the same time do not disturb each other.
func TestBuildsAtOnce(t *testing.T) {
	s := open(t, t.TempDir())
	var g sync.WaitGroup
	for i := range 20 {
		g.Go(func() {
			if err := s.PutBuild(fmt.Sprintf("aaaaaaa%c", 'a'+i), time.UnixMilli(int64(i)), make([]byte, 100)); err != nil {
				t.Error(err)
			}
			if err := s.TrimBuilds(5, 1<<20); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if all := builds(t, s); len(all) == 0 || len(all) > 5 {
		t.Errorf("%d builds are left, want at most 5", len(all))
	}
}

func builds(t *testing.T, s *Store) []StoredBuild {
	t.Helper()
	all, err := s.Builds()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestCheckBuilds(t *testing.T) {
	s := open(t, t.TempDir())
	for i, id := range []string{"aaaaaaaa", "bbbbbbbb"} {
		if err := s.PutBuild(id, time.UnixMilli(int64(i)), []byte("a build")); err != nil {
			t.Fatal(err)
		}
	}
	all := builds(t, s)
	if got := wrong(t, s, CheckOptions{}); len(got) > 0 {
		t.Errorf("wrong: %q", got)
	}
	if err := os.Truncate(s.path(buildsDir, all[0].name), 12); err != nil {
		t.Fatal(err)
	}
	if got := wrong(t, s, CheckOptions{Repair: true}); len(got) != 1 {
		t.Errorf("wrong: %q, want one build", got)
	}
	if all := builds(t, s); len(all) != 1 {
		t.Errorf("after the repair: %v", all)
	}
}
