package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cairn-build/cairn/cmd/cairn/command"
	"github.com/rogpeppe/go-internal/testscript"
)

// cmdEach builds from each file of a directory, with the arguments in the file with the
// suffix .args. It prints the output of cairn after the name of the file, and the status
// if it is unusual.
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
		fmt.Fprintf(ts.Stdout(), "== %s\n%s", f.Name(), saidBy(ts, append(run, "."), command.ExitFailed))
	}
}

// cmdLines runs cairn with the arguments of each line of a file.
func cmdLines(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "lines FILE")
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		fmt.Fprintf(ts.Stdout(), "$ cairn %s%s", line, saidBy(ts, strings.Fields(line), command.ExitUsage))
	}
}

// saidBy returns the output of cairn on both streams.
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
