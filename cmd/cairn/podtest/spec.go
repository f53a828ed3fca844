package podtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Spec returns the configuration that Kubernetes passes to a container runtime, without
// the path of the root file system's bundle.
func (p Pod) Spec(args []string) (*specs.Spec, error) {
	caps := p.Caps
	if caps == nil {
		caps = DefaultCaps(p.Profile)
	}
	user, home := specs.User{}, "/root"
	if p.Profile == Restricted {
		user, home = specs.User{UID: 1000, GID: 1000}, "/home/user"
		if p.UID != 0 {
			user, home = specs.User{UID: p.UID}, "/"
		}
	}
	s := &specs.Spec{
		Version: "1.0.2",
		Root:    &specs.Root{Path: "rootfs", Readonly: p.ReadOnly},
		Mounts:  p.mounts(),
		Process: &specs.Process{
			Args: args, Cwd: cmp.Or(p.Dir, "/"), User: user,
			Env:             environ([]string{"PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin", "HOME=" + home}, p.Env),
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			NoNewPrivileges: p.Profile == Restricted,
		},
		Linux: &specs.Linux{
			Namespaces:    []specs.LinuxNamespace{{Type: "pid"}, {Type: "ipc"}, {Type: "uts"}, {Type: "mount"}},
			MaskedPaths:   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			Resources:     p.resources(),
		},
	}
	switch p.Profile {
	case Userns:
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "user"})
		one := []specs.LinuxIDMapping{{ContainerID: 0, HostID: first, Size: ids}}
		s.Linux.UIDMappings, s.Linux.GIDMappings = one, one
	case Baseline, Restricted:
		filter, err := seccomp.GetDefaultProfile(s)
		if err != nil {
			return nil, fmt.Errorf("make the default filter of runtimes: %w", err)
		}
		s.Linux.Seccomp = filter
	case Unconfined:
	default:
		return nil, fmt.Errorf("profile %q is none of %v", p.Profile, Profiles())
	}
	return s, nil
}

func (p Pod) resources() *specs.LinuxResources {
	r := &specs.LinuxResources{}
	if p.PIDs > 0 {
		r.Pids = &specs.LinuxPids{Limit: &p.PIDs}
	}
	if p.Memory > 0 {
		r.Memory = &specs.LinuxMemory{Limit: &p.Memory}
	}
	return r
}

// environ returns variables with others in their place or after them.
func environ(all, others []string) []string {
	for _, v := range others {
		name, _, _ := strings.Cut(v, "=")
		all = slices.DeleteFunc(all, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		all = append(all, v)
	}
	return all
}
