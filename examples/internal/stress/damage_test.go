package stress_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDamage damages files of a store, a few at a time: blobs, indexes, records, hints,
// layer notes, image names. A build or a push afterwards must not ship wrong content.
// Every other round damages files of unpacked trees; steps read those unverified, so
// these rounds start with "cairn check". After a repair the store is intact.
func TestDamage(t *testing.T) {
	l := newLab(t)
	s := l.site(t, modes(t)[0])
	tag := s.registry + "/app:damage"
	done(t, s.build("-t", tag, "--push"))
	want := s.digest(t)
	kinds := map[string]int{}
	for i := *from; i < *from+*damages; i++ {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			draw := lot(t, i)
			folders := []string{"blobs", "indexes", "layers", "records", "tags", "pins", "hints"}
			if i%2 == 1 {
				folders = []string{"trees"} // only trees: their indexes must be intact to verify them
			}
			for range 1 + draw.IntN(3) {
				s.damage(t, draw, folders[draw.IntN(len(folders))], kinds)
			}
			if i%2 == 0 {
				s.shipsNothingWrong(t, i, tag, want)
			}
			_, _ = s.command("check", "--repair", "--quiet").CombinedOutput() // the status reports whether everything was repaired
			done(t, s.build("-t", tag, "--push"))
			if got := s.digest(t); got != want {
				t.Errorf("-seed %d -from %d: repaired, the build made %s, not %s", *seed, i, got, want)
			}
			s.pushed(t, "damage", want)
			s.sound(t)
		})
	}
	t.Logf("damaged: %v", kinds)
}

// damage changes one file of a directory of the store.
func (s *site) damage(t *testing.T, draw *rand.Rand, folder string, kinds map[string]int) {
	t.Helper()
	var files []string
	check(t, filepath.WalkDir(filepath.Join(s.store, folder), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !strings.Contains(path, "/keys/") {
			files = append(files, path)
		}
		return err
	}))
	if len(files) == 0 {
		return
	}
	slices.Sort(files)
	path := files[draw.IntN(len(files))]
	before, err := os.ReadFile(path)
	check(t, err)
	way := draw.IntN(4)
	switch {
	case way == 0:
		check(t, os.Remove(path))
	case way == 1 && len(before) > 0:
		check(t, os.Truncate(path, draw.Int64N(int64(len(before)))))
	case way == 2 && len(files) > 1: // content of another file
		other, err := os.ReadFile(files[draw.IntN(len(files))])
		check(t, err)
		if bytes.Equal(other, before) {
			return
		}
		check(t, rewrite(path, other))
	case len(before) > 0:
		before[draw.IntN(len(before))] ^= 1 << draw.IntN(8)
		check(t, rewrite(path, before))
	default:
		return
	}
	kinds[fmt.Sprint(folder, " ", []string{"removed", "cut", "swapped", "flipped"}[way])]++
}

// rewrite overwrites a file in place and keeps its mode.
func rewrite(path string, content []byte) error {
	mode := fs.FileMode(0o600)
	if fi, err := os.Stat(path); err == nil {
		mode = fi.Mode()
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(path, content, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// shipsNothingWrong saves and builds with the damaged store. Both may fail with an
// error, but their output must be right.
func (s *site) shipsNothingWrong(t *testing.T, i int, tag, want string) {
	t.Helper()
	archive := s.out + "/saved.tar"
	out, err := s.command("save", "--format", "oci", "-o", archive, tag).CombinedOutput()
	if err == nil {
		done(t, s.command("--root", s.temp+"/other", "load", "-i", archive)) // load verifies the archive
		check(t, os.RemoveAll(s.temp+"/other"))
		check(t, os.Remove(archive))
	} else if !bytes.Contains(out, []byte("error: ")) {
		t.Errorf("-seed %d -from %d: cairn save: %v\n%s", *seed, i, err, out)
	}
	out, err = s.build("-t", tag, "--push").CombinedOutput()
	if err != nil && !bytes.Contains(out, []byte("error: ")) {
		t.Errorf("-seed %d -from %d: cairn build: %v\n%s", *seed, i, err, out)
	}
	if err == nil {
		if got := s.digest(t); got != want {
			t.Errorf("-seed %d -from %d: damaged, the build made %s, not %s", *seed, i, got, want)
		}
	}
	s.pushed(t, "damage", want)
}
