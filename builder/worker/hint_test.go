package worker

import (
	"strings"
	"testing"
)

func TestExecuted(t *testing.T) {
	for text, want := range map[string]string{
		"/x.sh a b":          "/x.sh",
		"sh -e x.sh a":       "x.sh",
		"exec /bin/bash ./x": "./x",
		"source ./env.sh":    "./env.sh",
		"cp x.sh y":          "cp",
		"sh":                 "",
		"":                   "",
	} {
		if got := executed(strings.Fields(text)); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestLacksProc(t *testing.T) {
	for line, want := range map[string]bool{
		"cat: /dev/fd/63: No such file or directory":                                                                       true,
		"error: failed to read /proc/self/exe: No such file or directory":                                                  true,
		"start-stop-daemon: /proc/123/exe: No such file":                                                                   true,
		"cat: /proc/meminfo: Permission denied":                                                                            false,
		"go: cannot find GOROOT directory: /usr/local/go":                                                                  true,
		"java: error while loading shared libraries: libjli.so: cannot open shared object file: No such file or directory": true,
		"/srv/proc/selfish: not found":                                                                                     false,
	} {
		if got := lacksProc(&ExitError{Code: 1}, []string{"", line}); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

func TestRefusesOwner(t *testing.T) {
	for line, want := range map[string]bool{
		"chown: changing ownership of '/x': Invalid argument":                            true,
		"chown: /x: Operation not permitted":                                             true,
		"E: setgroups 65534 failed - setgroups (1: Operation not permitted)":             true,
		"E: seteuid 42 failed - seteuid (22: Invalid argument)":                          true,
		"tar: x: Cannot change ownership to uid 1000, gid 1000: Operation not permitted": true,
		"mount: /x: Operation not permitted":                                             false,
		"chown: /x: No such file or directory":                                           false,
	} {
		if got := refusesOwner([]string{"", line}); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}
