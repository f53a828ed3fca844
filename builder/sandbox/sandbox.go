// Package sandbox runs one command in an image's tree, apart from the machine.
//
// The tree is an overlay of read-only layers with an upper directory for the changes.
// The command sees it as its root directory, with a /proc, /dev and /sys of its own,
// runs in namespaces of its own under the capabilities and the system call filter that
// containers have by default, and has no descriptors but 0 to 2 and no environment but
// the declared one. It is the first process of its process namespace: when it ends,
// everything that it started ends.
//
// The work is done by one helper process for all runs (package helper), which is the
// own binary started once more: main must call Hook first. Nothing is mounted where
// the machine can see it, so that there is nothing to clean up, whatever is killed.
// Mount points that an image lacks come from a layer of the sandbox's own and never
// show in the upper directory.
//
// Real root needs CAP_SYS_ADMIN. An ordinary user with a range of subordinate ids
// calls Enter first, which restarts the process as root of a user namespace; from
// there on all is the same.
package sandbox

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/builder/sandbox/helper"
)

// Spec says what to run and in which tree. Paths of the host are absolute.
type Spec struct {
	Lowers []string // read-only trees in overlay form, topmost first
	Upper  string   // receives the changes
	Work   string   // overlay's own folder: empty, on Upper's file system
	// Stubs is a folder on the same file system for empty mount points, which runs may
	// share. With "" they lie in memory, and files of the image then differ from
	// directories in the device number that stat reports.
	Stubs string

	// Root is a tree to work in as it is, in place of Lowers, Upper and Work. It has
	// MountPoints. What is laid into it for the command is taken out again.
	Root string
	// Chroot does without namespaces and mounts: see [Chroot].
	Chroot bool

	Mounts []Mount
	Args   []string
	Env    []string // all there is; PATH and HOME are added when unset
	Dir    string   // "" is /
	// MakeDir makes a missing Dir, 0755 and root's, instead of refusing to start.
	MakeDir bool
	User    string // "", "name", "uid", "user:group": looked up inside the tree

	Hostname string   // "" is buildkitsandbox
	Network  string   // "" and "host": the caller's; "none": only lo
	Hosts    []string // more lines of /etc/hosts, as name:ip or name=ip
	ShmSize  int64    // bytes of /dev/shm; 0 is 64 MiB
	Limits   []Limit  // beside those that every command has
	// Groups, if not nil, makes a control group for the command.
	Groups *cgroup.Maker

	Stdin          *os.File  // nil is /dev/null
	Stdout, Stderr io.Writer // nil is /dev/null; an *os.File is passed on as it is
	// Interactive leaves the command in the caller's session, so that it can read
	// the terminal that Stdin is.
	Interactive bool
	Signals     <-chan os.Signal // sent on to the command
	Insecure    bool             // all capabilities, no filter, nothing hidden
}

// Mount is one more file system in the tree. It is a plain description: whoever
// has no right to mount can lay the same files there in another way.
type Mount struct {
	Type     string // "bind", "overlay", "tmpfs" or "file"
	Target   string // path in the tree, symbolic links followed inside it
	ReadOnly bool

	Source string   // bind: file or directory of the host, not a link to one
	Lowers []string // overlay: read-only trees in overlay form, topmost first
	Upper  string   // overlay: receives the changes; "" when it is read-only
	Work   string   // overlay: as Spec.Work
	// Subpath is what of a bind or overlay is shown: a file or directory, links
	// followed inside as if it were the root directory; "" is all of it.
	Subpath string

	Size     int64  // tmpfs: bytes; 0 is the kernel's default
	Data     string // file: what it holds; it lies in memory, for this command alone
	UID, GID uint32 // file
	Mode     uint32 // permission bits; 0 is 01777 for a tmpfs
}

// Result says how a command ended.
type Result struct {
	ExitCode int    // as a shell's $?: 128 + n after signal n
	Signal   string // name of the signal that ended it; "" when it exited
	// Reached says in words which limit of its control group the command has come up
	// against, "" for none. It may have gone on all the same.
	Reached string
	// Touched are paths in Root that are what they were before the command, unless it
	// has changed them: only their ctime always tells of a change.
	Touched []string
}

// Hook must be called first in main and TestMain: in a helper process it never returns.
func Hook() {
	if len(os.Args) == 0 {
		return
	}
	switch os.Args[0] {
	case helper.Argument:
		helper.Serve()
	case helper.KeeperArgument:
		helper.Keep()
	case helper.StepArgument:
		helper.Become()
	}
}

const (
	defaultHostname = "buildkitsandbox"
	defaultShm      = 64 << 20
)

// request checks a Spec and puts it into the helper's terms.
func (s *Spec) request() (*helper.Request, error) {
	switch {
	case len(s.Args) == 0 || s.Args[0] == "":
		return nil, fmt.Errorf("no command to run")
	case s.Network != "" && s.Network != "host" && s.Network != "none":
		return nil, fmt.Errorf("network %q is neither host nor none", s.Network)
	case s.Dir != "" && !filepath.IsAbs(s.Dir):
		return nil, fmt.Errorf("working directory %q is not absolute", s.Dir)
	}
	r := &helper.Request{
		Lowers: s.Lowers, Upper: s.Upper, Work: s.Work, Stubs: s.Stubs, Root: s.Root,
		Args: s.Args, Env: s.Env, Dir: s.Dir, MakeDir: s.MakeDir, User: s.User,
		Hostname: s.Hostname, NoNetwork: s.Network == "none", ShmSize: s.ShmSize,
		Interactive: s.Interactive, Insecure: s.Insecure,
	}
	if r.Hostname == "" {
		r.Hostname = defaultHostname
	}
	if r.ShmSize == 0 {
		r.ShmSize = defaultShm
	}
	var err error
	if r.HostsFile, err = hostsFile(r.Hostname, s.Hosts); err != nil {
		return nil, err
	}
	if r.ResolvConf, err = resolvConf(); err != nil {
		return nil, err
	}
	if r.Mounts, err = mounts(s.Mounts); err != nil {
		return nil, err
	}
	if r.Limits, err = limits(s.Limits); err != nil {
		return nil, err
	}
	return r, noZeros(s)
}

// noZeros refuses what the kernel would cut short.
func noZeros(s *Spec) error {
	for _, list := range [][]string{s.Args, s.Env, s.Lowers, {s.Upper, s.Work, s.Root, s.Stubs, s.Dir, s.Hostname}} {
		for _, text := range list {
			if strings.ContainsRune(text, 0) {
				return fmt.Errorf("%q has a zero byte", text)
			}
		}
	}
	return nil
}

// hostsFile is /etc/hosts as BuildKit writes it.
func hostsFile(hostname string, more []string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", hostname)
	for _, line := range more {
		i := strings.IndexAny(line, ":=")
		if i < 1 {
			return "", fmt.Errorf("host %q is not of the form name:ip", line)
		}
		ip, err := netip.ParseAddr(strings.Trim(line[i+1:], "[]"))
		if err != nil {
			return "", fmt.Errorf("host %q: %w", line, err)
		}
		fmt.Fprintf(&b, "%s\t%s\n", ip, line[:i])
	}
	return b.String(), nil
}

// resolvConf is the machine's own: a step shares its network, so that even a resolver
// on 127.0.0.53 can be reached.
func resolvConf() (string, error) {
	text, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !os.IsNotExist(err) {
		return "", err
	}
	return string(text), nil
}

// Run runs one command and returns when it and all it started have ended. Its error
// says why the command could not be started; a failed command is a Result.
// Cancelling ctx kills the whole tree of processes, and so does the caller's death.
func Run(ctx context.Context, s Spec) (Result, error) { return shared().Run(ctx, s) }

// MountPoints makes in a folder what a tree must have for a command to run in it.
func MountPoints(folder string) error { return helper.MountPoints(folder) }

// Close ends what Run has left running for the next run, and waits for its end. It
// would end with this process anyway, but as an orphan, which the first process of
// many containers leaves lying as a zombie.
func Close() error { return shared().Close() }
