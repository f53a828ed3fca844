// Package sandbox runs a command in the tree of an image, isolated from the machine.
//
// The tree is an overlay of read-only layers with an upper directory for the changes.
// The command has it as its root directory, with its own /proc, /dev and /sys. It runs
// in its own namespaces, with the default capabilities and system call filter of a
// container. It has only the descriptors 0 to 2 and the declared environment. It is the
// first process of its PID namespace, so that all its processes end with it.
//
// Commands are started by one runtime process for all runs (package runtime). That is
// this program, executed again: main must call Hook first. Mounts are not visible outside
// of the runtime process, so there is nothing to clean up if processes are killed. Mount
// points that an image lacks are in a layer that the sandbox adds, and never in the upper
// directory.
//
// Root needs CAP_SYS_ADMIN. For an ordinary user, [Enter] executes the program again as
// root of a user namespace, in which everything works in the same way. Without the right
// to mount, root can use chroot(2) (package runtime/chroot), which isolates less. [Mode]
// lists the isolation modes.
package sandbox

import (
	"github.com/cairn-build/cairn/builder/sandbox/runtime/chroot"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/plaintree"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"

	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/builder/sandbox/runtime"
)

// Spec describes a command to run and its tree. Paths of the host are absolute.
type Spec struct {
	Lowers []string // read-only trees in overlay form, topmost first
	Upper  string   // receives the changes
	Work   string   // the overlay's work directory: empty, on the file system of Upper
	// MountPoints is a folder on the same file system for empty mount points, which runs
	// can share. If it is "", mount points are in memory, and stat then reports a
	// different device number for files of the image than for directories.
	MountPoints string

	// Root is a plain tree that the command changes directly, instead of Lowers, Upper and
	// Work. It must have the mount points of [MountPoints]. Temporary files for the
	// command are removed from it.
	Root string
	// Layers are the layers of the tree, the bottom first, for the mode [Gvisor]. They stand
	// for Lowers. Upper receives the contents of changed files only, and Work is a folder for
	// temporary files.
	Layers []Layer
	// Chroot runs the command without namespaces and mounts. It needs Root. See the mode
	// [Chroot].
	Chroot bool

	Mounts []Mount
	Args   []string
	Env    []string // complete; PATH and HOME are added if they are not set
	Dir    string   // "" is /
	// MakeDir makes Dir if it is missing, with mode 0755 and owned by root. Otherwise a
	// missing Dir is an error.
	MakeDir bool
	User    string // "", "name", "uid" or "user:group", looked up in the tree
	// Groups are further groups of User, as names or numbers.
	Groups []string
	// DropCapabilities are names of capabilities that the command does not have, without
	// CAP_.
	DropCapabilities []string

	Hostname string   // "" is buildkitsandbox
	Network  string   // "" or "host": the caller's; "none": only a loopback device
	Hosts    []string // additional entries of /etc/hosts, as name:ip or name=ip
	// NoHosts leaves the /etc/hosts of the tree. Hosts are ignored.
	NoHosts bool
	// ResolvConf is the content of /etc/resolv.conf; "" is the machine's.
	ResolvConf string
	ShmSize    int64    // bytes of /dev/shm; 0 is 64 MiB
	Ulimits    []Ulimit // in addition to the default ones
	// Cgroups, if not nil, makes a control group for the command.
	Cgroups *cgroup.Maker

	Stdin *os.File // nil is /dev/null
	// Stdout and Stderr receive the output; nil is /dev/null. An *os.File is passed to the
	// command, unless the command could not open it as /dev/stdout or /dev/stderr. Then the
	// output is copied to it from a pipe that belongs to the command's user.
	Stdout, Stderr io.Writer
	// Interactive leaves the command in the caller's session, so that it can read from
	// a terminal.
	Interactive bool
	// Terminal, if not nil, is the other end of a terminal: the standard streams of the
	// command, in a session of its own. It gets the command's user as its owner.
	Terminal *os.File
	Signals  <-chan os.Signal // forwarded to the command
	Insecure bool             // all capabilities, no system call filter, no hidden files
}

// Mount describes an additional mount in the tree. In the mode Chroot, the same files are
// put there without mounting.
type Mount struct {
	// Type is "bind", "overlay", "tmpfs" or "file"; in the mode Gvisor "layers", "cache",
	// "socket", "tmpfs" or "file".
	Type     string
	Target   string // path in the tree; its symbolic links are followed in the tree
	ReadOnly bool

	Source string   // bind, cache, socket: file or directory of the host; not a link
	Lowers []string // overlay: read-only trees in overlay form, topmost first
	Upper  string   // overlay: receives the changes; "" if it is read-only
	Work   string   // overlay: as Spec.Work
	Layers []Layer  // layers: the bottom first; changes are discarded
	Record string   // cache: a file that has the attributes of the files in Source
	// Subpath is the file or directory of a bind or overlay that is mounted, "" for all.
	// Its links are followed as if the source were the root directory.
	Subpath string

	Size     int64  // tmpfs: bytes; 0 is the kernel's default
	Data     string // file: its content; the file is in memory, for this command only
	UID, GID uint32 // file, socket; of a cache without a record
	Mode     uint32 // permission bits; 0 is 01777 for a tmpfs
}

// Result is the result of a command.
type Result struct {
	ExitCode int    // as $? in a shell: 128 + n after signal n
	Signal   string // name of the signal that ended it, "" if it exited
	// CPU is the processor time of the command and of the processes that it waited for.
	CPU time.Duration
	// Memory is the number of bytes that the largest of them had in memory at its peak. 0
	// is unknown, or little.
	Memory int64
	// LimitReached is a message about the limit of its control group that the command has
	// reached, or about memory that the machine or its container has lacked, "" for none.
	// The command may have continued.
	LimitReached string
	// Touched lists paths in Root that the sandbox has changed and restored, except for
	// their ctime. The command may have changed them too.
	Touched []string
	// Changes are the paths of the upper file system in the mode Gvisor.
	Changes []Change
}

// Hook must be called first in main and in TestMain. It does not return in processes that
// the sandbox has started.
func Hook() {
	if len(os.Args) == 0 {
		return
	}
	switch os.Args[0] {
	case wire.RuntimeArgument:
		runtime.Serve()
	case wire.SupervisorArgument:
		chroot.Supervise()
	case wire.StepArgument:
		chroot.Become()
	}
}

const (
	defaultHostname = "buildkitsandbox"
	defaultShm      = 64 << 20
)

// request checks a Spec and converts it to a request.
func (s *Spec) request() (*wire.Request, error) {
	switch {
	case len(s.Args) == 0 || s.Args[0] == "":
		return nil, fmt.Errorf("no command to run")
	case s.Network != "" && s.Network != "host" && s.Network != "none":
		return nil, fmt.Errorf("unknown network %q: use host or none", s.Network)
	case s.Dir != "" && !filepath.IsAbs(s.Dir):
		return nil, fmt.Errorf("working directory %q is not absolute", s.Dir)
	}
	r := &wire.Request{
		Lowers: s.Lowers, Upper: s.Upper, Work: s.Work, MountPoints: s.MountPoints, Root: s.Root,
		Args: s.Args, Env: s.Env, Dir: s.Dir, MakeDir: s.MakeDir, User: s.User,
		Groups: s.Groups, NoHosts: s.NoHosts,
		Hostname: s.Hostname, NoNetwork: s.Network == "none", ShmSize: s.ShmSize,
		Interactive: s.Interactive, Terminal: s.Terminal != nil, Insecure: s.Insecure,
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
	if r.ResolvConf = s.ResolvConf; r.ResolvConf == "" {
		if r.ResolvConf, err = resolvConf(); err != nil {
			return nil, err
		}
	}
	if r.Mounts, err = mounts(s.Mounts); err != nil {
		return nil, err
	}
	if r.Ulimits, err = ulimits(s.Ulimits); err != nil {
		return nil, err
	}
	if r.DropCaps, err = capabilitySet(s.DropCapabilities); err != nil {
		return nil, err
	}
	return r, noZeros(s)
}

// noZeros returns an error for a string with a zero byte, at which the kernel would
// truncate it.
func noZeros(s *Spec) error {
	for _, list := range [][]string{s.Args, s.Env, s.Groups, s.Lowers, {s.Upper, s.Work, s.Root, s.MountPoints, s.Dir, s.Hostname}} {
		for _, text := range list {
			if strings.ContainsRune(text, 0) {
				return fmt.Errorf("%q has a zero byte", text)
			}
		}
	}
	return nil
}

// hostsFile returns the content of /etc/hosts in the form of BuildKit.
func hostsFile(hostname string, more []string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", hostname)
	for _, line := range more {
		i := strings.IndexAny(line, ":=")
		if i < 1 {
			return "", fmt.Errorf("host %q does not have the form name:ip", line)
		}
		ip, err := netip.ParseAddr(strings.Trim(line[i+1:], "[]"))
		if err != nil {
			return "", fmt.Errorf("host %q: %w", line, err)
		}
		fmt.Fprintf(&b, "%s\t%s\n", ip, line[:i])
	}
	return b.String(), nil
}

// resolvConf returns the machine's resolv.conf. Its servers are reachable, even one on
// 127.0.0.53, because a step shares the machine's network.
func resolvConf() (string, error) {
	text, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !os.IsNotExist(err) {
		return "", err
	}
	return string(text), nil
}

// Run runs a command and returns when it and all its processes have ended. An error means
// that the command could not be started; the failure of a command is a Result. If ctx is
// cancelled or this process ends, all processes of the command are killed; the Result then
// has what the command has changed.
func Run(ctx context.Context, s Spec) (Result, error) { return shared().Run(ctx, s) }

// MountPoints makes the mount points in a folder that every tree needs.
func MountPoints(folder string) error { return plaintree.MakeUsual(folder) }

// Close ends the processes that Run has started, and waits for them. They would end
// with this process anyway, but then remain as zombies in containers whose first process
// does not wait for orphans.
func Close() error { return errors.Join(shared().Close(), sharedGuest().close()) }
