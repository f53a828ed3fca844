package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/builder/sandbox/helper"
)

// Report is what the machine grants.
type Report struct {
	Rung     Rung
	Snapshot Snapshot
	Kernel   string
	IDs      int64    // how many user ids a tree may have
	Limits   []string // that can be set for a step: memory, cpu, pids
	Lacks    []Lack
}

// Snapshot is how the changes of a step are kept apart from what lies below.
type Snapshot string

const (
	// Overlay mounts the layers on top of each other.
	Overlay Snapshot = "overlay"
	// Plain copies them into one tree, and compares it afterwards.
	Plain Snapshot = "plain"
	// NoSnapshot is where nothing can be run.
	NoSnapshot Snapshot = "none"
)

// The first kernel that has all that is needed: overlay with user xattrs came with
// 5.11, mount_setattr with 5.12.
const oldestMajor, oldestMinor = 5, 12

func tooOld(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n < 2 {
		return false
	}
	return major < oldestMajor || major == oldestMajor && minor < oldestMinor
}

// Probe tells what the machine grants for a store in the folder dir.
func (i Isolation) Probe(dir string) (Report, error) {
	m := thisMachine()
	r := Report{Rung: i.Rung, Lacks: i.Lacks, Kernel: m.sysctl("kernel.osrelease"), IDs: m.countIDs()}
	if i.OneID {
		r.IDs = 1
	}
	if r.IDs > 1 && r.IDs < neededIDs {
		grant := fmt.Sprintf("let the user namespace that cairn runs in have %d ids", neededIDs)
		if i.Rung == Rootless {
			grant = m.outside().fewIDs()
		}
		r.Lacks = append(r.Lacks, Lack{allIDs, fmt.Sprintf("only %d user ids: files of others cannot be made", r.IDs), grant})
	}
	i.probeLimits(&r)
	var why error
	r.Snapshot, why = i.Snapshots(dir)
	if r.Snapshot == Plain && i.Rung != Chroot {
		r.Lacks = append(r.Lacks, Lack{string(Overlay), "overlay mounts do not work in " + dir + ": " + why.Error(),
			"put the store on a local file system that is no overlay itself, such as ext4, xfs or btrfs (--root); in a pod: an emptyDir"})
		why = nil
	}
	if i.Rung == Chroot {
		why = nil
	}
	return r, why
}

// probeLimits finds out, by trying, which limits a step can have.
func (i Isolation) probeLimits(r *Report) {
	var why error
	r.Limits, why = cgroup.Grants(i.caller())
	if lack, ok := errors.AsType[*cgroup.Lack](why); ok {
		r.Lacks = append(r.Lacks, Lack{"limits", lack.What, lack.Grant})
	} else if why != nil {
		r.Lacks = append(r.Lacks, Lack{"limits", why.Error(), "see the kernel's log"})
	}
}

// Snapshots finds out, by trying, which kind of snapshot a store in the folder dir can
// have; for one that is not the best the error says why.
func (i Isolation) Snapshots(dir string) (Snapshot, error) {
	switch i.Rung {
	case None:
		return NoSnapshot, nil
	case Chroot:
		return Plain, errors.New("nothing may be mounted here")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return NoSnapshot, err
	}
	err := shared().probe(dir)
	if refused, ok := errors.AsType[*refusal](err); ok {
		return Plain, refused
	}
	if err != nil {
		return NoSnapshot, err
	}
	return Overlay, nil
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
	if reply.Error != "" && reply.Status == 0 { // the helper could not begin
		return errors.New(reply.Error)
	}
	_, err = result(reply)
	return err
}
