package diff

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// chain makes n lower trees: a base with some system folders, and layers that
// each add a file there, topmost first.
func chain(b *testing.B, n int) []string {
	b.Helper()
	var all []string
	root := b.TempDir()
	for i := range n {
		tree := filepath.Join(root, fmt.Sprint(i), "tree")
		for _, dir := range []string{"etc", "usr/bin", "usr/lib", "var/lib"} {
			if i == 0 || dir == "etc" {
				check(b, os.MkdirAll(tree+"/"+dir, 0o755))
			}
		}
		for _, name := range []string{fmt.Sprint("f", i), fmt.Sprint("etc/f", i)} {
			check(b, os.WriteFile(tree+"/"+name, []byte(name), 0o644))
		}
		all = append(all, tree)
	}
	slices.Reverse(all)
	return all
}

func BenchmarkOneFile(b *testing.B) {
	for _, n := range []int{1, 50, 400} {
		for _, path := range []string{"new", "etc/new"} {
			b.Run(fmt.Sprintf("lowers=%d/%s", n, filepath.Dir(path)), func(b *testing.B) {
				lowers, upper := chain(b, n), b.TempDir()
				check(b, os.MkdirAll(upper+"/etc", 0o755))
				check(b, os.WriteFile(upper+"/"+path, []byte("x"), 0o644))
				now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Sec: 1e9, Nsec: 1}}
				for b.Loop() {
					check(b, unix.UtimesNanoAt(unix.AT_FDCWD, upper+"/"+path, now, 0))
					found, err := Overlay(b.Context(), upper, lowers, Options{})
					check(b, err)
					if len(found.Changes) == 0 {
						b.Fatal("no change was found")
					}
				}
			})
		}
	}
}

// BenchmarkManyFiles has 20,000 changed files in 200 directories: new ones, or
// ones that a lower tree has too.
func BenchmarkManyFiles(b *testing.B) {
	const dirs, files = 200, 100
	fill := func(root, content string) {
		for d := range dirs {
			dir := fmt.Sprintf("%s/usr/lib/pkg%d", root, d)
			check(b, os.MkdirAll(dir, 0o755))
			for f := range files {
				check(b, os.WriteFile(fmt.Sprintf("%s/file%d.go", dir, f), []byte(content), 0o644))
			}
		}
	}
	for _, tt := range []struct {
		name   string
		lowers int
		below  string
	}{{"new/lowers=1", 1, ""}, {"new/lowers=50", 50, ""}, {"modified/lowers=50", 50, "old"}, {"equal but time/lowers=50", 50, "new"}} {
		b.Run(tt.name, func(b *testing.B) {
			lowers := chain(b, tt.lowers)
			if tt.below != "" {
				fill(lowers[len(lowers)-1], tt.below)
			}
			upper := b.TempDir()
			fill(upper, "new")
			for b.Loop() {
				b.StopTimer()
				touch(b, upper)
				b.StartTimer()
				found, err := Overlay(b.Context(), upper, lowers, Options{})
				check(b, err)
				if len(found.Changes) < dirs*files {
					b.Fatalf("%d changes", len(found.Changes))
				}
			}
		})
	}
}

// touch sets times that Overlay has to correct.
func touch(b *testing.B, root string) {
	b.Helper()
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: 1e9, Nsec: 1}}
	check(b, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, times, 0)
	}))
}
