package examples_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemo runs "make demo" and checks that it leaves nothing behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	cairn := filepath.Join(t.TempDir(), "cairn")
	must(t, command("go", "build", "-o", cairn, "../cmd/cairn"))
	temp := t.TempDir()
	cmd := command("hello/demo", cairn)
	cmd.Env = append(cmd.Env, "TMPDIR="+temp)
	out := must(t, cmd)
	for _, want := range []string{"$ cairn build", "Hello from an image made of one file", "pulled back and run."} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo does not print %q:\n%s", want, out)
		}
	}
	left, err := os.ReadDir(temp)
	if err != nil || len(left) > 0 {
		t.Errorf("the demo leaves %v, %v", left, err)
	}
}
