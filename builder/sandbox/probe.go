package sandbox

import (
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"

	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
)

// Report describes the sandbox that the machine allows.
type Report struct {
	Mode     Mode
	Snapshot Snapshot
	Kernel   string        // release
	IDs      int64         // number of user ids that files can have
	Limits   []string      // resources that can be limited: memory, cpu, pids
	Unmet    []Requirement // of features that are not available
}

// Rung returns Mode. Templates of cairn info used this name.
func (r Report) Rung() Mode { return r.Mode }

// Lacks returns Unmet with the names of fields that templates of cairn info used.
func (r Report) Lacks() []FormerRequirement {
	list := make([]FormerRequirement, len(r.Unmet))
	for i, u := range r.Unmet {
		list[i] = FormerRequirement{u.Feature, u.Problem, u.Remedy}
	}
	return list
}

// FormerRequirement is a Requirement with its former names of fields.
type FormerRequirement struct{ For, What, Grant string }

// MarshalJSON encodes a report with both the current and the former names of fields.
func (r Report) MarshalJSON() ([]byte, error) {
	type report Report
	return json.Marshal(struct {
		report
		Rung  Mode
		Lacks []FormerRequirement
	}{report(r), r.Mode, r.Lacks()})
}

// Snapshot is the way in which the changes of a step are found.
type Snapshot string

const (
	// Overlay mounts the layers with overlayfs.
	Overlay Snapshot = "overlay"
	// Plain copies the layers into one tree and compares it after the step.
	Plain Snapshot = "plain"
	// Listed compares the paths that the kernel of the mode Gvisor reports with the listings
	// of the layers.
	Listed Snapshot = "listed"
	// NoSnapshot means that no step can be run.
	NoSnapshot Snapshot = "none"
)

// Overlayfs has user xattrs since Linux 5.11, and mount_setattr came with 5.12.
const oldestMajor, oldestMinor = 5, 12

// tooOld reports whether a kernel release is older than the oldest supported one.
func tooOld(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n < 2 {
		return false
	}
	return major < oldestMajor || major == oldestMajor && minor < oldestMinor
}

// Probe returns a report on the sandbox for a store in the folder dir.
func (i Isolation) Probe(dir string) (Report, error) {
	i = i.Settled()
	m := thisMachine()
	r := Report{Mode: i.Mode, Unmet: i.Unmet, Kernel: m.sysctl("kernel.osrelease"), IDs: m.countIDs()}
	if i.SingleID {
		r.IDs = 1
	}
	if r.IDs > 1 && r.IDs < neededIDs {
		remedy := fmt.Sprintf("let the user namespace that cairn runs in have %d ids", neededIDs)
		if i.Mode == Rootless {
			remedy = m.outside().moreIDs()
		}
		r.Unmet = append(r.Unmet, requirement(otherIDs, fmt.Sprintf("only %d user ids: files cannot be given to users beyond them", r.IDs), remedy))
	}
	i.probeLimits(&r)
	var why error
	r.Snapshot, why = i.ProbeSnapshot(dir)
	if r.Snapshot == Plain && i.Mode != Chroot {
		r.Unmet = append(r.Unmet, requirement(string(Overlay), "overlay mounts do not work in "+dir+": "+why.Error(),
			"put the store on a local file system such as ext4, xfs or btrfs that is not an overlay itself (--root); in a pod: an emptyDir"))
		why = nil
	}
	if i.Mode == Chroot {
		why = nil
	}
	return r, why
}

// probeLimits sets the resource limits of a report, by trying each.
func (i Isolation) probeLimits(r *Report) {
	if i.Mode == Gvisor {
		r.Limits, r.Unmet = guestResources, append(r.Unmet, guestLimits("limit of processor time"))
		return
	}
	var err error
	r.Limits, err = cgroup.Available(i.cgroupCaller())
	if unmet, ok := errors.AsType[*Requirement](err); ok {
		r.Unmet = append(r.Unmet, *unmet)
	} else if err != nil {
		r.Unmet = append(r.Unmet, requirement(cgroup.Feature, err.Error(), "see the kernel's log"))
	}
}

// ProbeSnapshot returns the kind of snapshot that a store in the folder dir can have, by
// trying. If that is Plain, the error is the reason why overlay mounts do not work.
func (i Isolation) ProbeSnapshot(dir string) (Snapshot, error) {
	switch i.Mode {
	case None:
		return NoSnapshot, nil
	case Gvisor:
		return Listed, nil
	case Chroot:
		return Plain, errors.New("the process may not mount")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return NoSnapshot, err
	}
	err := shared().probe(dir)
	if refused, ok := errors.AsType[*wire.Error](err); ok {
		return Plain, refused
	}
	if err != nil {
		return NoSnapshot, err
	}
	return Overlay, nil
}

// InUserNamespace reports whether the process is in a user namespace other than the
// machine's first, as after Enter.
func InUserNamespace() bool {
	// The inode number of the first one is a constant of the kernel.
	link, err := os.Readlink("/proc/self/ns/user")
	return err == nil && link != "user:[4026531837]"
}

// probe lets the runtime process try overlay mounts in a folder.
func (b *Sandbox) probe(dir string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	reply, err := b.ask(context.Background(), &wire.Request{Probe: dir}, [3]*os.File{null, null, null}, nil)
	if err != nil {
		return err
	}
	if reply.Error != "" && reply.Status == 0 { // the probe could not begin
		return errors.New(reply.Error)
	}
	return reply.Err()
}
