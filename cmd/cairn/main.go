// Command cairn builds container images from Dockerfiles, without a daemon, and
// pushes, pulls, lists and runs them.
//
// Each command is a file: flags become the options of package builder, and what
// comes back becomes text and an exit status. The status is 0 when all went
// well, 1 when a build or another command failed, 2 for a command line that is
// wrong, 128 + n after signal n, and for run that of the command.
//
// The scripts in testdata/script are the specification of the command line.
package main

import (
	"io"
	"log"
	"os"

	"github.com/cairn-build/cairn/builder/sandbox"
	_ "github.com/cairn-build/cairn/cmd/cairn/hugeheap" // before packages that are initialized after it fill the heap
)

func main() {
	sandbox.Hook()
	paceMemory()
	log.SetOutput(io.Discard) // net/http prints there what servers do that it did not expect
	os.Exit(run(os.Args[1:]))
}

// run is the program but for the way it starts and ends.
func run(args []string) int {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	root := a.command()
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	return a.finish(cmd, err)
}
