package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestReport(t *testing.T) {
	l := &lab{modes: modes()[:4], memory: 22 << 20, missing: []string{"chroot: no such mode"}}
	r := result{workload{"fork", "forks", "true", 5, 1}, map[string][]sample{
		native:       {{time.Second, 2 * time.Second}},
		"namespaces": {{9 * time.Second, 8 * time.Second}, {3 * time.Second, 5 * time.Second}, {time.Second, time.Second}},
	}, map[string]error{"rootless": errors.New("rootless: exit status 1")}}
	timed := func(name string, steps int, wall map[string]time.Duration) result {
		r := result{workload{name, "steps", "true", 0, steps}, map[string][]sample{}, map[string]error{}}
		for mode, d := range wall {
			r.samples[mode] = []sample{{d, d}}
		}
		return r
	}
	got := l.report([]result{
		r,
		timed(startWorkload, 1, map[string]time.Duration{native: time.Second}),
		timed(threeWorkload, 3, map[string]time.Duration{native: 1, "gvisor": 2500 * time.Millisecond}),
		timed(elevenWorkload, 11, map[string]time.Duration{native: 1, "gvisor": 2900 * time.Millisecond}),
	}, 3)
	for _, want := range []string{
		"| fork: forks | 2.00 | 5.00 (2.5) | fails | fails | 5 |\n",
		"| fork: forks | 1.00 | 3.00 (3.0) | fails | fails | 5 |\n",
		"| namespaces | userns |\n",
		"\nfork fails in mode rootless: exit status 1\n",
		"| three RUNs | gvisor | 1.50 s | 0.6 s |\n",
		"| a RUN after the first | gvisor | 50 ms | 60 ms |\n",
		"gvisor | 22 MiB | 64 MiB |\n",
		"\nNot measured: chroot: no such mode\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
}

func TestReadAddress(t *testing.T) {
	if a, err := readAddress(strings.NewReader("WARN: x\nserving d on http://127.0.0.1:123\n")); err != nil || a != "127.0.0.1:123" {
		t.Errorf("%q, %v", a, err)
	}
	if _, err := readAddress(strings.NewReader("error: in use\n")); err == nil {
		t.Error("no error without an address")
	}
}
