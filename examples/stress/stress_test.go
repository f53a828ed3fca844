// Package stress_test does to builds what machines and people do to them: it kills
// them, fills, cuts off and breaks their disk, damages what they have stored, and runs many
// at once. Whatever happened, the next build has the right digest, and cairn check
// finds nothing wrong.
//
// What happens when is drawn from -seed. go test does a few of each kind; make
// stress does many.
package stress_test

import (
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
)

var (
	seed    = flag.Uint64("seed", 1, "what is drawn by lot")
	from    = flag.Int("from", 0, "begin with this moment or point: with -seed, to do one again")
	kills   = flag.Int("kills", 8, "moments at which builds are killed")
	fulls   = flag.Int("fulls", 4, "points at which a disk gets full")
	cuts    = flag.Int("cuts", 3, "points at which the power is cut")
	crowds  = flag.Int("crowds", 1, "rounds of 8 builds at once")
	damages = flag.Int("damages", 8, "rounds of damage done to a store")

	unreadables = flag.Int("unreadables", 3, "disks that can't be read in part")
)

// lot draws for one moment of a test: the same for the same seed.
func lot(t *testing.T, moment int) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, t.Name(), " ", moment)
	return rand.New(rand.NewPCG(*seed, h.Sum64()))
}

const insideVar = "CAIRN_STRESS_INSIDE"

// TestMain gives root's tests a mount namespace of their own: whatever ends them, no
// mount is left.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 || os.Getenv(insideVar) != "" {
		os.Exit(m.Run())
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), insideVar+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	signal.Ignore(syscall.SIGINT, syscall.SIGQUIT) // they are the child's to heed
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "no mount namespace:", err)
		os.Exit(m.Run())
	}
	if code := c.ProcessState.ExitCode(); code >= 0 {
		os.Exit(code)
	}
	os.Exit(1)
}
