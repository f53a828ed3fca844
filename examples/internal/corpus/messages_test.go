package corpus_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// otherMessages has the cases with a message of another kind, and the reason.
var otherMessages = map[string]string{
	"from-missing-image":      "the registry client has its own text",
	"copy-parents-root":       "BuildKit finds it when the step runs",
	"copy-parents-pivot-only": "BuildKit finds it when the step runs",
	"mount-tmpfs-source":      "BuildKit finds it when the step runs",
}

// TestCheckMessages checks that errors in the JSON of --call=check have the texts of
// BuildKit, which editors show: those that BuildKit fails with in the cases.
func TestCheckMessages(t *testing.T) {
	needSandbox(t)
	l := newLab(t)
	for _, path := range casePaths(t) {
		c := readCase(t, path)
		_, want, failed := strings.Cut(c.section("want"), fails+": error: failed to solve: ")
		if !failed || otherMessages[c.name] != "" || slices.ContainsFunc(c.flags, isCall) || c.context == "-" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, hide := l.open(t, c)
			args := []string{"--root", filepath.Join(l.dir, "store"), "build", "--registry-mirror", l.registry, "--call=check,format=json"}
			cmd := exec.Command(l.cairn, append(append(args, c.flags...), c.context)...)
			cmd.Dir, cmd.Env = filepath.Join(dir, "ctx"), c.environment()
			out, err := cmd.Output()
			if len(out) == 0 {
				t.Log("no answer: ", err)
				return
			}
			var got struct{ BuildError struct{ Message string } }
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatal(err)
			}
			if text := hide.Replace(got.BuildError.Message); text != "" && text != strings.TrimSuffix(want, "\n") {
				t.Errorf("message %q, want %q", text, want)
			}
		})
	}
}
