package podtest

import (
	"bytes"
	"strings"
	"testing"
)

// look prints the rights of the container in one line.
const look = `busybox printf '%s ' $(busybox id -u) $(busybox grep -h ^NoNewPrivs: /proc/self/status | busybox tr -dc 01) ` +
	`filter=$(busybox grep -h ^Seccomp: /proc/self/status | busybox tr -dc 012); ` +
	`busybox mount -t tmpfs tmpfs /tmp 2>/dev/null && busybox printf 'mount '; busybox unshare -U true 2>/dev/null && busybox printf 'userns '; ` +
	`busybox touch /tmp/f 2>/dev/null && busybox printf 'writes '; ` +
	`busybox cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null || true`

func TestRun(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		pod  Pod
		want string
	}{
		{"userns", Pod{Profile: Userns}, "0 0 filter=0 mount userns writes "},
		{"unconfined", Pod{Profile: Unconfined}, "0 0 filter=0 userns writes "},
		{"baseline", Pod{Profile: Baseline}, "0 0 filter=2 writes "},
		{"restricted", Pod{Profile: Restricted}, "1000 1 filter=2 writes "},
		{"random uid", Pod{Profile: Restricted, UID: 1_000_660_000}, "1000660000 1 filter=2 writes "},
		{"read-only", Pod{Profile: Baseline, ReadOnly: true}, "0 0 filter=2 "},
		{"processes", Pod{Profile: Baseline, PIDs: 200}, "0 0 filter=2 writes 200"},
		{"crun", Pod{Profile: Restricted, Runtime: "crun"}, "1000 1 filter=2 writes "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			runtime := tt.pod.Runtime
			if runtime == "" {
				runtime = "runc"
			}
			if reason := Missing(runtime); reason != "" {
				t.Skip(reason)
			}
			var out, log bytes.Buffer
			status, err := tt.pod.Run(t.Context(), &out, &log, "sh", "-c", look)
			got := strings.TrimSpace(strings.TrimSuffix(out.String(), "max\n"))
			if err != nil || status != 0 || got != strings.TrimSpace(tt.want) {
				t.Errorf("%q, status %d, %v\n%s\nwant %q", got, status, err, &log, tt.want)
			}
		})
	}
}

func TestSpec(t *testing.T) {
	t.Parallel()
	for _, p := range Profiles() {
		s, err := Pod{Profile: p}.Spec([]string{"x"})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := s.Linux.Seccomp != nil && s.Linux.Seccomp.DefaultAction == "SCMP_ACT_ERRNO", p == Baseline || p == Restricted; got != want {
			t.Errorf("%s: a filter: %v, want %v", p, got, want)
		}
	}
	if _, err := (Pod{Profile: "other"}).Spec(nil); err == nil {
		t.Error("an unknown profile is accepted")
	}
}
