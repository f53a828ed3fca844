package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Mode is an isolation mode: how steps are separated from the machine. [Enter] selects
// the strongest mode that the machine allows.
type Mode string

const (
	// Namespaces runs steps in their own namespaces, as root with the right to mount.
	// The process may itself be in a user namespace that was made for it.
	Namespaces Mode = "namespaces"
	// Rootless is like Namespaces, in a user namespace that Cairn makes.
	Rootless Mode = "rootless"
	// Gvisor runs steps in a kernel of their own, the program cairn-gvisor. It needs no
	// privileges.
	Gvisor Mode = "gvisor"
	// Chroot is for root without the right to mount. Steps have their own root
	// directory and fewer capabilities, but see the machine's processes. The container
	// that Cairn runs in is the security boundary.
	Chroot Mode = "chroot"
	// None means that no mode is available: commands cannot be run.
	None Mode = "none"
)

// Modes returns the modes that can be requested, the strongest first.
func Modes() []Mode { return []Mode{Namespaces, Rootless, Gvisor, Chroot} }

// Isolation is the isolation mode of this process.
type Isolation struct {
	Mode     Mode
	SingleID bool          // files cannot be given to other users
	Unmet    []Requirement // why stronger modes are not available
	Pinned   bool          // no other mode may be used
}

// MoreIDs returns advice for a user without subordinate ids, or "".
func (i Isolation) MoreIDs() string {
	for _, r := range i.Unmet {
		if r.Feature == otherIDs {
			return r.Remedy
		}
	}
	return ""
}

// ExplainNoProc returns the probable reason why a command failed that looks for processes
// in /proc in the mode Chroot, and the remedy.
func (i Isolation) ExplainNoProc() string {
	const reason = "steps have no processes in /proc in isolation mode chroot, which programs such as go, java and bash (<(...)) need: "
	for _, r := range i.Unmet {
		if r.Feature == string(Gvisor) {
			return reason + "use the mode gvisor; for that, " + r.Remedy + " (" + r.Problem + ")"
		}
	}
	return reason + "let cairn use another mode (--isolation auto; cairn info names the requirements)"
}

// WarnNoProc returns a warning that steps have no processes in /proc, and the remedy. It is
// "" where they have, and where the mode Chroot was chosen although Gvisor is there.
func (i Isolation) WarnNoProc() string {
	if i.Mode != Chroot {
		return ""
	}
	unmet := i.Unmet
	if i.Pinned {
		unmet = thisMachine().enterGvisor()
	}
	for _, r := range unmet {
		if r.Feature == string(Gvisor) {
			return "steps have no processes in /proc in isolation mode chroot: programs that read /proc/self, such as go, java and cargo, fail; " +
				"the mode gvisor has them; for that, " + r.Remedy + " (" + r.Problem + ")"
		}
	}
	return ""
}

// CheckRun returns nil if commands can be run. Otherwise its error lists the
// requirements of each mode, of which one has to be met.
func (i Isolation) CheckRun() error {
	if i = i.Settled(); i.Mode != None {
		return nil
	}
	var text strings.Builder
	text.WriteString("cannot run commands: no isolation mode is available; meet the requirements of one of these:")
	for _, r := range i.Unmet {
		fmt.Fprintf(&text, "\n  %s: %v", r.Feature, r)
	}
	return errors.New(text.String())
}

// Enter selects the strongest isolation mode that the machine allows, or only the mode
// pin if that is not "". If the mode needs a user namespace, Enter starts the program
// again as root of a new one, with the same arguments, waits for it, forwards signals to
// it, and exits with its status. The kernel kills that process if this one is killed.
//
// Enter may not return, so it must be called before the process has state to lose. If
// the pinned mode is not available, the error lists the unmet requirements.
func Enter(pin Mode) (Isolation, error) {
	_, inside := os.LookupEnv(entered)
	os.Unsetenv(entered)
	m := thisMachine()
	if inside && mayMount() {
		i := Isolation{Mode: Rootless, SingleID: m.countIDs() == 1}
		if pin == "" { // else the process may have the right, without using it
			i.Unmet = append(i.Unmet, mountRight())
		}
		if i.SingleID {
			i.Unmet = append(i.Unmet, m.outside().unmetForIDs()...)
		}
		return i, nil
	}
	i := Isolation{Mode: None, SingleID: m.uid != 0, Pinned: pin != ""}
	for _, c := range []struct {
		mode  Mode
		enter func(machine) []Requirement
	}{{Namespaces, machine.enterNamespaces}, {Rootless, machine.enterRootless}, {Gvisor, machine.enterGvisor}, {Chroot, machine.enterChroot}} {
		if pin != "" && pin != c.mode {
			continue
		}
		unmet := c.enter(m)
		if len(unmet) == 0 {
			i.Mode = c.mode
			i.SingleID = i.SingleID || m.countIDs() == 1 || c.mode == Gvisor && !mayOwn()
			return i, nil
		}
		i.Unmet = append(i.Unmet, unmet...)
	}
	if pin != "" {
		return i, fmt.Errorf("isolation mode %s is not available: %w", pin, join(i.Unmet))
	}
	return i, nil
}

func join(unmet []Requirement) error {
	errs := make([]error, len(unmet))
	for i := range unmet {
		errs[i] = &unmet[i]
	}
	return errors.Join(errs...)
}

// mountRight is the requirement of a process without CAP_SYS_ADMIN.
func mountRight() Requirement {
	return requirement(string(Namespaces), "the process may not mount (no CAP_SYS_ADMIN)",
		"run as root; in a pod: hostUsers: false and securityContext.capabilities.add: [SYS_ADMIN]")
}

// enterNamespaces reports the unmet requirements of the mode Namespaces. It tries to
// mount in a mount namespace, on a thread that ends with it.
func (m machine) enterNamespaces() []Requirement {
	if unmet := m.unmetKernel(Namespaces); len(unmet) > 0 {
		return unmet
	}
	if !mayMount() {
		return []Requirement{mountRight()}
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		done <- tryMount()
	}()
	err := <-done
	if err == unix.ENOSPC {
		return []Requirement{requirement(string(Namespaces), "the process may not make a mount namespace (the limit "+mountNamespaces+" is reached)",
			"as root: sysctl -w "+mountNamespaces+"=15000")}
	}
	if err != nil {
		return []Requirement{requirement(string(Namespaces), "mounts are refused although the process has CAP_SYS_ADMIN ("+err.Error()+")",
			"let the system call filter allow them; in a pod: securityContext.seccompProfile.type: Unconfined")}
	}
	return nil
}

// tryMount gives the calling thread a mount namespace and makes a file system in it.
func tryMount() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	return unix.Close(fs)
}

// enterRootless runs the program in a user namespace and exits with its status. It
// returns only if that fails, with the unmet requirements.
func (m machine) enterRootless() []Requirement {
	unmet := append(m.unmetSysctls(), m.unmetKernel(Rootless)...)
	if len(unmet) > 0 {
		return unmet
	}
	var last error
	for _, ids := range m.maps() {
		status, err := enter(ids)
		if err == nil {
			if status.Signaled() {
				exitBySignal(status.Signal())
			}
			os.Exit(status.ExitStatus())
		}
		last = err
	}
	return []Requirement{m.explainRefusal(last)}
}

// chrootCapabilities returns the capabilities that the mode Chroot needs: to unpack
// images, to make device nodes, to change the root directory and the user, to remove files
// that a step has left, and to kill processes of other users.
func chrootCapabilities() []capability {
	return []capability{
		{"CHOWN", unix.CAP_CHOWN}, {"DAC_OVERRIDE", unix.CAP_DAC_OVERRIDE}, {"FOWNER", unix.CAP_FOWNER},
		{"SETGID", unix.CAP_SETGID}, {"SETUID", unix.CAP_SETUID}, {"SETPCAP", unix.CAP_SETPCAP},
		{"SYS_CHROOT", unix.CAP_SYS_CHROOT}, {"KILL", unix.CAP_KILL},
		{"MKNOD", unix.CAP_MKNOD},
	}
}

type capability struct {
	name   string
	number uint
}

// enterChroot reports the unmet requirements of the mode Chroot. If there are none, it
// makes the process undumpable, since steps can see it.
func (m machine) enterChroot() []Requirement {
	if unmet := m.unmetForChroot(); len(unmet) > 0 {
		return unmet
	}
	// Steps have no CAP_SYS_PTRACE, so they cannot read an undumpable process.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return []Requirement{requirement(string(Chroot), "the process cannot be protected from steps ("+err.Error()+")", "use another isolation mode")}
	}
	return nil
}

// unmetForChroot returns the unmet requirements of the mode Chroot.
func (m machine) unmetForChroot() []Requirement {
	const remedy = "in a pod: securityContext.runAsUser: 0"
	if m.uid != 0 {
		return []Requirement{requirement(string(Chroot), fmt.Sprintf("the process is user %d, not root", m.uid),
			remedy+" (and no capabilities.drop)")}
	}
	var missing []string
	for _, c := range chrootCapabilities() {
		if effective()&(1<<c.number) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return []Requirement{requirement(string(Chroot), "the process lacks CAP_"+strings.Join(missing, ", CAP_"),
			remedy+", securityContext.capabilities.add: ["+strings.Join(missing, ", ")+"]")}
	}
	if InUserNamespace() {
		// A step would write to a file where it writes to /dev/null elsewhere.
		return []Requirement{requirement(string(Chroot), "steps need device nodes such as /dev/null, which the kernel does not make in a user namespace",
			"allow mounts; in a pod: securityContext.capabilities.add: [SYS_ADMIN]")}
	}
	// This does not change the root directory.
	if err := unix.Chroot("/"); err != nil {
		return []Requirement{requirement(string(Chroot), "chroot is refused ("+err.Error()+")",
			"let the system call filter allow it; in a pod: securityContext.seccompProfile.type: RuntimeDefault")}
	}
	return nil
}
