package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
)

// guestName is the name of the program that runs commands in the isolation mode Gvisor.
// guestVariable names it if it is not beside this program.
const (
	guestName     = "cairn-gvisor"
	guestVariable = "CAIRN_GVISOR"
)

var pastTime = time.Unix(1, 0)

// guestProgram returns the path of the program.
func guestProgram() (string, error) {
	path := os.Getenv(guestVariable)
	name := path
	if path == "" {
		name = guestName
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		path = filepath.Join(filepath.Dir(self), guestName)
	}
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("$%s %q is not an absolute path", guestVariable, path)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("the program %s is missing", name)
	case err != nil:
		return "", err
	case info.IsDir() || info.Mode()&0o111 == 0:
		return "", fmt.Errorf("%s is not a program", path)
	}
	return path, nil
}

// guestArchitectures are those that gVisor supports.
var guestArchitectures = []string{"amd64", "arm64"}

// enterGvisor reports the unmet requirements of the mode Gvisor that can be seen without
// starting the kernel.
func (m machine) enterGvisor() []Requirement {
	if unmet := unmetArchitecture(runtime.GOARCH); len(unmet) > 0 {
		return unmet
	}
	if _, err := guestProgram(); err != nil {
		return []Requirement{guestMissing(err)}
	}
	return nil
}

// unmetArchitecture returns the requirement of another machine if gVisor does not support
// an architecture.
func unmetArchitecture(arch string) []Requirement {
	if slices.Contains(guestArchitectures, arch) {
		return nil
	}
	return []Requirement{requirement(string(Gvisor), "there is no gVisor for "+arch,
		"use a machine with one of "+strings.Join(guestArchitectures, ", "))}
}

// guestMissing is the requirement of a machine without the program.
func guestMissing(err error) Requirement {
	return requirement(string(Gvisor), err.Error(), "install "+guestName+" beside cairn, or name it with $"+guestVariable)
}

// startGvisor starts the kernel and reports the unmet requirements if that fails.
func (m machine) startGvisor() []Requirement {
	if unmet := m.enterGvisor(); len(unmet) > 0 {
		return unmet
	}
	if err := sharedGuest().probe(); err != nil {
		return []Requirement{m.explainGvisor(err)}
	}
	return nil
}

// explainGvisor returns the requirement to meet when the kernel could not be started.
func (m machine) explainGvisor(err error) Requirement {
	if other, ok := errors.AsType[*otherProgramError](err); ok {
		return guestMissing(other)
	}
	r := requirement(string(Gvisor), err.Error(), "report it at https://github.com/cairn-build/cairn/issues")
	if explainProgram(&r, err) {
		return r
	}
	scope, _ := strconv.Atoi(m.sysctl("kernel.yama.ptrace_scope"))
	limit, count := m.processLimit()
	profile := m.file("proc/self/attr/apparmor/current")
	switch {
	case scope >= 2:
		r.Problem += fmt.Sprintf(" (kernel.yama.ptrace_scope is %d, so that processes cannot trace their children)", scope)
		r.Remedy = "as root of the node: sysctl -w kernel.yama.ptrace_scope=1"
	case limit > 0 && limit-count < neededProcesses:
		r.Problem += fmt.Sprintf(" (%d of at most %d processes exist)", count, limit)
		r.Remedy = fmt.Sprintf("allow at least %d processes; in a pod: the setting podPidsLimit of the kubelet", count+neededProcesses)
	case errors.Is(err, unix.EAGAIN):
		r.Remedy = fmt.Sprintf("raise the user's limit of processes (ulimit -u) by %d", neededProcesses)
	case m.sysctl("vm.memfd_noexec") == "2":
		r.Problem += " (vm.memfd_noexec is 2, so that no memory file can be executable)"
		r.Remedy = "as root of the node: sysctl -w vm.memfd_noexec=1"
	case strings.HasSuffix(profile, "(enforce)"):
		r.Problem += " (the AppArmor profile " + strings.TrimSuffix(profile, " (enforce)") + " is enforced)"
		r.Remedy = "let it allow ptrace of children; in a pod: securityContext.appArmorProfile.type: RuntimeDefault or Unconfined"
	case m.file("sys/fs/selinux/enforce") == "1":
		r.Problem += " (SELinux enforces the context " + m.file("proc/self/attr/current") + ")"
		r.Remedy = "let it allow ptrace and executable memory; in a pod: securityContext.seLinuxOptions.type"
	case m.filtered():
		r.Problem += " (a system call filter is set)"
		r.Remedy = "let it allow ptrace, seccomp and prctl, as the default filters of container runtimes do; in a pod: securityContext.seccompProfile.type: RuntimeDefault"
	}
	return r
}

// explainProgram sets the remedy of a requirement whose reason is the program, not a
// setting of the machine. It returns false for other reasons.
func explainProgram(r *Requirement, err error) bool {
	version, differs := strings.CutSuffix(r.Problem, ": "+guest.OneRelease)
	switch {
	case differs:
		r.Problem, r.Remedy = version, guest.OneRelease
	case errors.Is(err, unix.ENOEXEC):
		r.Remedy = "install the " + guestName + " for " + runtime.GOARCH
	case errors.Is(err, unix.EACCES):
		r.Problem += " (it may not be executed: its file system is mounted with noexec, or a security module forbids it)"
		r.Remedy = "install " + guestName + " where programs can be executed, and name it with $" + guestVariable
	default:
		return false
	}
	return true
}

// neededProcesses is the number of processes and threads that the kernel needs for a small
// command.
const neededProcesses = 64

// processLimit returns the limit of processes in the control group, 0 for none, and their
// number.
func (m machine) processLimit() (limit, count int64) {
	for _, dir := range []string{"sys/fs/cgroup/", "sys/fs/cgroup/pids/"} {
		limit, err := strconv.ParseInt(m.file(dir+"pids.max"), 10, 64)
		if err != nil {
			continue
		}
		count, _ := strconv.ParseInt(m.file(dir+"pids.current"), 10, 64)
		return limit, count
	}
	return 0, 0
}

// file returns the text of a file of the machine, "" if it cannot be read.
func (m machine) file(name string) string {
	text, err := os.ReadFile(m.root + name)
	if err != nil {
		return ""
	}
	return strings.Trim(string(text), " \n\x00")
}

// Settled returns the isolation after the kernel of the mode Gvisor was started. If that
// fails, it is Chroot where that is possible, and otherwise None.
func (i Isolation) Settled() Isolation {
	if i.Mode != Gvisor {
		return i
	}
	m := thisMachine()
	unmet := m.startGvisor()
	if len(unmet) == 0 {
		return i
	}
	i.Unmet, i.Mode = append(i.Unmet, unmet...), None
	if i.Pinned {
		return i
	}
	if unmet = m.enterChroot(); len(unmet) == 0 {
		i.Mode = Chroot
	}
	i.Unmet = append(i.Unmet, unmet...)
	return i
}

// MayChroot reports whether the mode is Gvisor and becomes Chroot if the kernel cannot be
// started.
func (i Isolation) MayChroot() bool {
	return i.Mode == Gvisor && !i.Pinned && len(thisMachine().unmetForChroot()) == 0
}

// Chosen returns the isolation of a command that may run steps. Where there is another mode
// than Gvisor, it tries to start the kernel; elsewhere the first step does.
func (i Isolation) Chosen() Isolation {
	if i.MayChroot() {
		return i.Settled()
	}
	return i
}

// mayOwn reports whether the process may give files to other users, and read them then.
func mayOwn() bool {
	for _, c := range []uint{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER} {
		if effective()&(1<<c) == 0 {
			return false
		}
	}
	return true
}
