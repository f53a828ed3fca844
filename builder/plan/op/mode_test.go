package op

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestMode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		spec string
		mode uint32
		dir  bool
		want uint32
	}{
		{"755", 0o600, false, 0o755},
		{"0", 0o777, true, 0},
		{"07777", 0, false, 0o7777},
		{"u=rwX,go=rX", 0o600, false, 0o644},
		{"u=rwX,go=rX", 0o700, false, 0o755},
		{"u=rwX,go=rX", 0o600, true, 0o755},
		{"a+x", 0o644, false, 0o755},
		{"+x", 0o644, false, 0o755},
		{"=r", 0o4755, false, 0o444},
		{"u+s,g+s,+t", 0o755, false, 0o7755},
		{"u-s", 0o4755, false, 0o755},
		{"g=u", 0o741, false, 0o771},
		{"o=g-w", 0o770, false, 0o775},
		{"u+r+w-x", 0o100, false, 0o600},
		{"go=", 0o777, false, 0o700},
		{"g=x", 0o2770, true, 0o710},
		{"=", 0o1777, true, 0o1000},
		{"o+t", 0o755, true, 0o755},
		{"u-x,+X", 0o700, false, 0o711}, // X depends on the mode before
		{"+", 0o644, false, 0o644},
	} {
		m, err := ParseMode(c.spec)
		if err != nil {
			t.Errorf("%s: %v", c.spec, err)
			continue
		}
		if got := m.Apply(c.mode, c.dir); got != c.want {
			t.Errorf("%s of %o (directory %v): got %o, want %o", c.spec, c.mode, c.dir, got, c.want)
		}
	}
	for _, bad := range []string{"", "8", "10000", "999999999999", "u", "u+q", "x", "u+r,", ",", "u+rw g", "ug", "-1"} {
		if m, err := ParseMode(bad); err == nil {
			t.Errorf("%q was taken: %+v", bad, m)
		}
	}
}

// chmod(1) agrees on files, where it is there.
func TestModeAgreesWithChmod(t *testing.T) {
	t.Parallel()
	chmod, err := exec.LookPath("chmod")
	if err != nil {
		t.Skip("no chmod on this machine")
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []string{"u=rwX,go=rX", "a+x", "g=u", "o=g-w", "u+r+w-x", "go=", "u+s,g-x", "ug=rw,o=", "a=X", "a-r+w", "a=t"} {
		for _, mode := range []uint32{0o600, 0o644, 0o755, 0o4711, 0o640, 0o007} {
			m, err := ParseMode(spec)
			if err != nil {
				t.Fatal(err)
			}
			script := fmt.Sprintf("umask 0; chmod %o %s && %s %s %s && stat -c %%a %s", mode, file, chmod, spec, file, file)
			out, err := exec.Command("sh", "-c", script).Output()
			if err != nil {
				t.Fatal(err)
			}
			want, err := strconv.ParseUint(strings.TrimSpace(string(out)), 8, 32)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Apply(mode, false); got != uint32(want) {
				t.Errorf("%s of %o: got %o, chmod makes %o", spec, mode, got, want)
			}
		}
	}
}
