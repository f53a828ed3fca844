package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdEach builds from each file of a folder, with the arguments that the file of
// the same name and .args has. What it says goes to standard output under the
// file's name, with the status if that is not the usual one.
func cmdEach(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "each DIR [ARG...]")
	files, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	for _, f := range files {
		if filepath.Ext(f.Name()) == ".args" {
			continue
		}
		run := append([]string{"build", "--progress=quiet", "-f", filepath.Join(args[0], f.Name())}, args[1:]...)
		if more, err := os.ReadFile(ts.MkAbs(filepath.Join(args[0], f.Name()+".args"))); err == nil {
			run = append(run, strings.Fields(os.Expand(string(more), ts.Getenv))...)
		}
		fmt.Fprintf(ts.Stdout(), "== %s\n%s", f.Name(), saidBy(ts, append(run, "."), exitFailed))
	}
}

// cmdLines runs cairn with the arguments of each line of a file.
func cmdLines(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "lines FILE")
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		fmt.Fprintf(ts.Stdout(), "$ cairn %s%s", line, saidBy(ts, strings.Fields(line), exitUsage))
	}
}

// saidBy is what cairn wrote on both outputs.
func saidBy(ts *testscript.TestScript, args []string, usual int) string {
	path, err := exec.LookPath("cairn")
	ts.Check(err)
	var out bytes.Buffer
	c := exec.Command(path, args...)
	c.Dir, c.Env = ts.MkAbs("."), environment(ts)
	c.Stdout, c.Stderr = &out, &out
	status, err := exitCode(c.Run())
	ts.Check(err)
	text := strings.NewReplacer(ts.Getenv("WORK"), "$WORK", ts.Getenv("REGISTRY"), "$REGISTRY", ts.Getenv("HUB"), "$HUB").Replace(out.String())
	if status != usual {
		text += fmt.Sprintf("(status %d)\n", status)
	}
	return text
}
