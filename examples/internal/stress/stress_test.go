// Package stress_test disturbs builds: it kills them, fills, cuts off and breaks their
// disks, damages their stores, and runs many at once. The next build must produce the
// right digest, and "cairn check" must find no errors.
//
// The flag -seed determines the random moments. "go test" runs a few of each kind, "make
// stress" many.
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
	seed    = flag.Uint64("seed", 1, "determines the random moments")
	from    = flag.Int("from", 0, "begin with this moment or point: with -seed, to do one again")
	kills   = flag.Int("kills", 8, "moments at which builds are killed")
	fulls   = flag.Int("fulls", 6, "points at which a disk gets full")
	cuts    = flag.Int("cuts", 3, "points at which the power is cut")
	crowds  = flag.Int("crowds", 1, "rounds of 8 builds at once")
	damages = flag.Int("damages", 8, "rounds of damage done to a store")

	isolation = flag.String("isolation", "", "the only isolation mode of builds that are killed, together, or whose disk gets full or loses its power")

	unreadables = flag.Int("unreadables", 3, "disks that can't be read in part")
)

// lot returns the random numbers for one moment of a test, determined by the seed.
func lot(t *testing.T, moment int) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, t.Name(), " ", moment)
	return rand.New(rand.NewPCG(*seed, h.Sum64()))
}

const insideVar = "CAIRN_STRESS_INSIDE"

// TestMain runs root's tests in their own mount namespace, so that no mount is left
// however they end.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 || os.Getenv(insideVar) != "" {
		os.Exit(m.Run())
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), insideVar+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	signal.Ignore(syscall.SIGINT, syscall.SIGQUIT) // the child handles them
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
