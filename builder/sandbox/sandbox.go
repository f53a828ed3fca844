// Package sandbox runs one command in an image's tree, apart from the machine.
package sandbox

import (
	"context"
	"errors"
	"io"
	"os"
)

// Spec says what to run and in which tree. Paths of the host are absolute.
type Spec struct {
	Lowers []string // read-only trees in overlay form, topmost first
	Upper  string   // receives the changes
	Work   string   // overlay's own folder: empty, on Upper's file system

	Mounts []Mount
	Args   []string
	Env    []string // all there is; PATH and HOME are added when unset
	Dir    string   // "" is /
	// MakeDir makes a missing Dir, 0755 and root's, instead of refusing to start.
	MakeDir bool
	User    string // "", "name", "uid", "user:group": looked up inside the tree

	Hostname string   // "" is buildkitsandbox
	Network  string   // "" and "host": the caller's; "none": only lo
	Hosts    []string // more lines of /etc/hosts, as name:ip
	ShmSize  int64    // bytes of /dev/shm; 0 is 64 MiB

	Stdin          *os.File // nil is /dev/null
	Stdout, Stderr io.Writer
	// Interactive leaves the command in the caller's session, so that it can read
	// the terminal that Stdin is.
	Interactive bool
	Signals     <-chan os.Signal // sent on to the command
	Insecure    bool             // all capabilities, no seccomp, nothing masked
}

// Mount is one more file system in the tree.
type Mount struct {
	Type     string // "bind" or "tmpfs"
	Source   string // bind: file or directory of the host
	Target   string // path in the tree, symbolic links followed inside it
	ReadOnly bool
	Size     int64  // tmpfs: bytes; 0 is the kernel's default
	Mode     uint32 // tmpfs: permission bits of its root; 0 is 01777
}

// Result says how a command ended.
type Result struct {
	ExitCode int    // as a shell's $?: 128 + n after signal n
	Signal   string // name of the signal that ended it; "" when it exited
	// Stubs are paths in Upper made by the sandbox and removed again. Mount points
	// come from a lower layer of the sandbox's own, so that there are none.
	Stubs []string
}

// Run runs one command and returns when it and all it started have ended. Its error
// says why the command could not be started; a failed command is a Result.
// Cancelling ctx kills the whole tree of processes, and so does the caller's death.
func Run(ctx context.Context, s Spec) (Result, error) { return Result{}, errors.ErrUnsupported }

// Hook must be called first in main and TestMain: in a helper process it never returns.
func Hook() {}

// Enter makes the rest of the process run as root of a user namespace.
func Enter() error { return nil }

// HostIDs returns what root of this process is outside its user namespace: 0, 0 for
// the machine's own root.
func HostIDs() (uid, gid int) { return os.Getuid(), os.Getgid() }

// Report is what the machine grants.
type Report struct {
	Rung     string // "namespaces", "rootless", "none"
	Snapshot string // "overlay", "none"
	Kernel   string
	Lacks    []Lack
}

// Lack is one thing missing for a better rung or snapshot.
type Lack struct {
	For   string // the rung or snapshot that it would give
	What  string // what is missing
	Grant string // how to grant it
}

// Probe finds out what the machine grants for a store in storeDir.
func Probe(storeDir string) (Report, error) { return Report{}, errors.ErrUnsupported }
