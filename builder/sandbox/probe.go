package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/cairn-build/cairn/builder/sandbox/helper"
	"golang.org/x/sys/unix"
)

// Report is what the machine grants.
type Report struct {
	Rung     string // "namespaces", "rootless" or "none"
	Snapshot string // "overlay" or "none"
	Kernel   string
	IDs      int64 // how many user ids a tree may have
	Lacks    []Lack
}

// Rungs and kinds of snapshots.
const (
	namespaces = "namespaces"
	overlay    = "overlay"
	none       = "none"
)

// The first kernel that has all that is needed: overlay with user xattrs came with
// 5.11, mount_setattr with 5.12.
const oldestMajor, oldestMinor = 5, 12

// Probe finds out what the machine grants for a store in storeDir, by trying it. An
// ordinary user learns what Enter would give; only after it is the snapshot tried.
// The error is one of the probe itself.
func Probe(storeDir string) (Report, error) {
	r := Report{Rung: none, Snapshot: none}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return r, err
	}
	r.Kernel = unix.ByteSliceToString(uts.Release[:])
	if tooOld(r.Kernel) {
		r.Lacks = append(r.Lacks, Lack{namespaces, "Linux " + r.Kernel + " is too old",
			fmt.Sprintf("use Linux %d.%d or later", oldestMajor, oldestMinor)})
		return r, nil
	}
	m := thisMachine()
	if !mayMount() {
		r.outside(m)
		return r, nil
	}
	return r, r.inside(m, storeDir)
}

func tooOld(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n < 2 {
		return false
	}
	return major < oldestMajor || major == oldestMajor && minor < oldestMinor
}

// outside fills in what a process without the right to mount can get.
func (r *Report) outside(m machine) {
	r.Lacks = append(r.Lacks, Lack{namespaces, "the process may not mount (no CAP_SYS_ADMIN)",
		"run as root; in a container, give it CAP_SYS_ADMIN or a user namespace (hostUsers: false)"})
	ids, err := m.ids()
	if err == nil {
		err = tryNamespace(m, ids)
	}
	if err == nil {
		r.Rung, r.IDs = rootless, ids.size()
		return
	}
	if lacks := m.lacks(); m.uid != 0 && len(lacks) > 0 {
		r.Lacks = append(r.Lacks, lacks...)
		return
	}
	r.Lacks = append(r.Lacks, Lack{rootless, "no user namespace can be made", err.Error()})
}

func (m idMaps) size() (n int64) {
	for _, r := range m.uids {
		n += r.count
	}
	return n
}

// tryNamespace makes a user namespace with the ids and lets it go.
func tryNamespace(m machine, ids idMaps) error {
	gate, err := newGate()
	if err != nil {
		return err
	}
	defer gate.close()
	child, done, err := gate.program().StartAsync(unix.CLONE_NEWUSER)
	if err != nil {
		return m.refused(fmt.Errorf("make a user namespace: %w", err))
	}
	defer runtime.KeepAlive(done) // the child works on memory that it holds
	err = ids.write(child.PID)
	unix.PidfdSendSignal(child.PIDFD, unix.SIGKILL, nil, 0)
	unix.Close(child.PIDFD)
	waitFor(child.PID)
	return err
}

// inside tries a step's mounts on the store's file system.
func (r *Report) inside(m machine, storeDir string) error {
	ids, err := m.identity("uid_map")
	if err != nil {
		return err
	}
	r.IDs = idMaps{uids: ids}.size()
	rung := namespaces
	if InUserNamespace() {
		rung = rootless
		r.Lacks = append(r.Lacks, Lack{namespaces, "the process is root of a user namespace only", "run as real root"})
	}
	if r.IDs < neededIDs {
		r.Lacks = append(r.Lacks, Lack{rootless, fmt.Sprintf("only %d user ids: files of others cannot be made", r.IDs),
			fmt.Sprintf("give the user %d ids in /etc/subuid and /etc/subgid", neededIDs)})
	}
	if err := os.MkdirAll(storeDir, 0o700); err != nil {
		return err
	}
	err = shared().probe(storeDir)
	if refused, ok := errors.AsType[*refusal](err); ok {
		r.Rung = rung
		r.Lacks = append(r.Lacks, Lack{overlay, "overlay mounts do not work in " + storeDir + ": " + refused.text,
			"put the store on a local file system that is no overlay itself, such as ext4, xfs or btrfs (--root)"})
		return nil
	}
	if err != nil {
		r.Lacks = append(r.Lacks, Lack{rung, "namespaces cannot be made", m.refused(err).Error()})
		return nil
	}
	r.Rung, r.Snapshot = rung, overlay
	return nil
}

// InUserNamespace tells whether the process lives in a user namespace, as after Enter.
func InUserNamespace() bool {
	// The number of the first one is a constant of the kernel.
	link, err := os.Readlink("/proc/self/ns/user")
	return err == nil && link != "user:[4026531837]"
}

// probe lets the helper try overlay mounts in a folder.
func (b *Sandbox) probe(dir string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	reply, err := b.ask(context.Background(), &helper.Request{Probe: dir}, [3]*os.File{null, null, null}, nil)
	if err != nil {
		return err
	}
	_, err = result(reply)
	return err
}
