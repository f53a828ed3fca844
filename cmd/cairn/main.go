// Command cairn builds container images from Dockerfiles, without a daemon, and
// pushes, pulls, lists and runs them.
//
// Package command implements the commands. This package starts the program, watches for
// signals and sets the exit status: 0 for success, 1 if the command failed, 2 for
// an invalid command line, 128 + n after signal n. The status of cairn run is that
// of the command it runs, and those of cairn executor and cairn warmer are kaniko's.
//
// The scripts in testdata/script are the specification of the command line.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/cairn-build/cairn/builder/progress/termtext"
	runner "github.com/cairn-build/cairn/builder/run"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/terminal"
	"github.com/cairn-build/cairn/cmd/cairn/command"
	_ "github.com/cairn-build/cairn/cmd/cairn/hugeheap" // before packages that are initialized after it fill the heap
)

func main() {
	runner.Init()
	sandbox.Hook()
	terminal.Hook()
	paceMemory()
	log.SetOutput(io.Discard) // net/http logs unexpected behaviour of servers
	os.Exit(run(command.Arguments(os.Args)))
}

// run runs cairn with the arguments and returns the exit status.
func run(args []string) int {
	p := &command.Program{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Interruptible: interruptible}
	path, err := p.Execute(args)
	var status *command.StatusError
	var signal *command.SignalError
	var usage *command.UsageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return status.Code
	case errors.As(err, &signal):
		fmt.Fprintf(p.Stderr, "error: %v\n", signal)
		return signal.Status()
	case !p.Started(), errors.As(err, &usage):
		fmt.Fprintf(p.Stderr, "error: %s\n", termtext.Safe(source.Redact(command.Line(err))))
		switch {
		case path == "cairn help":
			fmt.Fprintln(p.Stderr, "run cairn help for the list")
		case !errors.As(err, new(*command.ReplacedError)):
			fmt.Fprintf(p.Stderr, "see: %s --help\n", path)
		}
		return command.UsageStatus(path)
	}
	command.Report(p.Stderr, err)
	return command.ExitFailed
}
