package stress_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

const together = 8

// TestCrowd runs 8 builds at once on one store, some of the same stages, while prune runs
// in a loop. None may fail, and each image must equal that of a single build.
func TestCrowd(t *testing.T) {
	l := newLab(t)
	used := map[string]bool{}
	for _, r := range modes(t) {
		if r.uid != os.Getuid() || used[r.name] {
			continue
		}
		used[r.name] = true
		s := l.site(t, r)
		done(t, s.build("-t", "alone"))
		want := s.digest(t)
		for i := *from; i < *from+*crowds; i++ {
			t.Run(fmt.Sprint(i, " ", r.name), func(t *testing.T) { s.crowd(t, i, want) })
		}
	}
}

func (s *site) crowd(t *testing.T, i int, want string) {
	draw := lot(t, i)
	stop := make(chan struct{})
	var builds, broom sync.WaitGroup
	broom.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				t.Logf("pruned %d times", n)
				return
			default:
			}
			args := [][]string{{"prune", "--force"}, {"prune", "--force", "--all"}, {"prune", "--force", "--keep-storage", "1B"}}[n%3]
			if out, err := s.command(args...).CombinedOutput(); err != nil {
				t.Errorf("cairn %s: %v\n%s", strings.Join(args, " "), err, out)
				return
			}
		}
	})
	for n := range together {
		round := fmt.Sprint("ROUND=", *seed, ".", i, ".", draw.IntN(3)) // some builds are the same
		iid := fmt.Sprintf("%s/metadata-%d.json", s.out, n)
		args := []string{"-t", fmt.Sprintf("%s/app:crowd%d", s.registry, n), "--push", "--build-arg", round, "--metadata-file", iid}
		if draw.IntN(3) == 0 {
			args = append(args, "--no-cache")
		}
		c := s.build(args...)
		builds.Go(func() { s.member(t, c, iid, want) })
	}
	builds.Wait()
	close(stop)
	broom.Wait()
	for n := range together {
		s.pushed(t, fmt.Sprint("crowd", n), want)
	}
	s.sound(t)
}

// member runs one of the builds.
func (s *site) member(t *testing.T, c *exec.Cmd, metadata, want string) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		t.Errorf("%s: %v\n%s", c, err, &out)
		return
	}
	if text, err := os.ReadFile(metadata); err != nil || !bytes.Contains(text, []byte(want)) {
		t.Errorf("a build among others made %s (%v), not %s", text, err, want)
	}
}
