package stress_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// victim is a site whose builds are killed.
type victim struct {
	*site
	want  string        // expected digest
	cold  time.Duration // duration of a build with an empty store
	token []byte        // content that the first build wrote to the cache mount
}

// deaths counts the ways in which builds ended.
type deaths struct{ killed, failed, late int }

// TestKill kills builds at random moments: only the command, its process group, all its
// descendants, or one of them.
func TestKill(t *testing.T) {
	l := newLab(t)
	var all deaths
	victims := map[string]*victim{}
	list := modes(t)
	for i := *from; i < *from+*kills; i++ {
		r := list[i%len(list)]
		v := victims[r.name]
		if v == nil {
			v = l.victim(t, r)
			victims[r.name] = v
		}
		t.Run(fmt.Sprint(i, " ", r.name), func(t *testing.T) { v.moment(t, i, &all) })
	}
	t.Logf("%d builds were killed, %d failed with one of their processes, %d had ended", all.killed, all.failed, all.late)
}

// victim prepares a site with one undisturbed build.
func (l *lab) victim(t *testing.T, r mode) *victim {
	t.Helper()
	v := &victim{site: l.site(t, r)}
	start := time.Now()
	done(t, v.build("-t", l.registry+"/app:"+r.name, "--push", "-o", "type=oci,dest=out.tar"))
	v.cold = time.Since(start)
	v.want, v.token = v.digest(t), v.kept(t)
	v.sound(t)
	return v
}

// kept returns the content of the cache mount.
func (s *site) kept(t *testing.T) []byte {
	t.Helper()
	list, err := filepath.Glob(s.store + "/caches/*/*/data/token")
	check(t, err)
	if len(list) != 1 {
		t.Fatalf("the cache folders have %d tokens: %q", len(list), list)
	}
	b, err := os.ReadFile(list[0])
	check(t, err)
	return b
}

func (v *victim) moment(t *testing.T, i int, all *deaths) {
	draw := lot(t, i)
	tag := v.registry + "/app:" + v.name
	args := []string{"-t", tag, "--push", "--build-arg", "ROUND=" + fmt.Sprint(*seed, ".", i)}
	fresh := draw.IntN(4) == 0
	switch {
	case fresh:
		done(t, v.command("rm", tag))
		done(t, v.command("prune", "--force", "--filter", "until=1ms"))
	case draw.IntN(2) == 0:
		args = append(args, "--no-cache")
	}
	if draw.IntN(2) == 0 {
		args = append(args, "-o", "type=oci,dest=out.tar")
	}
	how := draw.IntN(4)
	after := time.Duration(draw.Int64N(int64(v.cold)))
	said, ended := v.kill(t, v.build(args...), after, how, draw, all)
	for ; ended && !t.Failed(); after /= 2 { // the build had less to do than the first
		said, ended = v.kill(t, v.build(args...), after/2, how, draw, all)
	}
	if t.Failed() {
		return
	}
	what := fmt.Sprintf("-seed %d -from %d: killed (way %d) after %v of about %v, fresh %v; it had said:\n%s", *seed, i, how, after, v.cold, fresh, said)
	defer func() {
		if t.Failed() {
			t.Log(what)
		}
	}()
	done(t, v.build("-t", tag, "--push"))
	if got := v.digest(t); got != v.want {
		t.Errorf("the next build made %s, not %s", got, v.want)
	}
	v.pushed(t, v.name, v.want)
	v.sound(t)
	if got := v.kept(t); !bytes.Equal(got, v.token) {
		t.Errorf("the cache folder was lost")
		v.token = got
	}
}

// kill starts a build and kills it after a while. It returns the build's output and
// whether the build had ended before.
func (v *victim) kill(t *testing.T, c *exec.Cmd, after time.Duration, how int, draw *rand.Rand, all *deaths) (said string, late bool) {
	t.Helper()
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	c.WaitDelay = 10 * time.Second // an orphan of a step may hold the pipe
	check(t, c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-time.After(after):
		for _, pid := range targets(c.Process.Pid, how, draw) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended already
		}
		err = <-ended
	}
	status := c.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled():
		all.killed++
	case err == nil:
		all.late++
		if got := v.digest(t); got != v.want {
			t.Errorf("a build that was only nearly killed made %s, not %s\n%s", got, v.want, &out)
		}
	default:
		all.failed++
		if how != 3 || !strings.Contains(out.String(), "error: ") {
			t.Errorf("the build failed: %v\n%s", err, &out)
		}
	}
	return out.String(), err == nil
}

// targets returns the process IDs to kill, in order.
func targets(pid, how int, draw *rand.Rand) []int {
	switch how {
	case 0:
		return []int{pid}
	case 1:
		return []int{-pid}
	}
	list := append(descendants(pid), pid)
	if how == 3 {
		return list[draw.IntN(len(list)):][:1]
	}
	draw.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// descendants returns all descendants of a process.
func descendants(pid int) (list []int) {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		// The name in parentheses is followed by the state and the parent's ID.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], child)
	}
	for next := []int{pid}; len(next) > 0; next = next[1:] {
		list = append(list, children[next[0]]...)
		next = append(next, children[next[0]]...)
	}
	return list
}
