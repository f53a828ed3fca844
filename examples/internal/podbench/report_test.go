package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestReport(t *testing.T) {
	l := &lab{modes: modes()[:3], missing: []string{"gvisor: no such mode"}}
	r := result{workload{"fork", "forks", "true", 5}, map[string][]sample{
		native:       {{time.Second, 2 * time.Second}},
		"namespaces": {{9 * time.Second, 8 * time.Second}, {3 * time.Second, 5 * time.Second}, {time.Second, time.Second}},
	}, map[string]error{"rootless": errors.New("rootless: exit status 1")}}
	got := l.report([]result{r}, 3)
	for _, want := range []string{
		"| fork: forks | 2.00 | 5.00 (2.5) | fails | 5 |\n",
		"| fork: forks | 1.00 | 3.00 (3.0) | fails | 5 |\n",
		"| namespaces | userns |\n",
		"\nfork fails in mode rootless: exit status 1\n",
		"\nNot measured: gvisor: no such mode\n",
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
