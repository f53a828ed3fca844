package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Rung is a rung of the ladder of isolation: how far steps are kept apart from the
// machine. The highest one that the machine grants is taken.
type Rung string

const (
	// Namespaces is root with the right to mount, also in a user namespace that
	// somebody else made.
	Namespaces Rung = "namespaces"
	// Rootless is the same in a user namespace of Cairn's own.
	Rootless Rung = "rootless"
	// Chroot is root without the right to mount: steps have a root directory of their
	// own and fewer capabilities, but see the machine's processes. What keeps them in
	// is the container that Cairn itself runs in.
	Chroot Rung = "chroot"
	// None is without any rights: nothing can be run.
	None Rung = "none"
)

// Rungs are those that can be asked for, the highest first.
func Rungs() []Rung { return []Rung{Namespaces, Rootless, Chroot} }

// Isolation is where on the ladder a process stands.
type Isolation struct {
	Rung  Rung
	OneID bool   // files cannot be given to other users
	Lacks []Lack // what keeps it from higher rungs
}

// Refusal says why no command can be run, nil where one can.
func (i Isolation) Refusal() error {
	if i.Rung != None {
		return nil
	}
	var text strings.Builder
	text.WriteString("commands cannot be run here, as nothing would keep them apart from the machine; one of these would do:")
	for _, l := range i.Lacks {
		fmt.Fprintf(&text, "\n  for %s: %s: %s", l.For, l.What, l.Grant)
	}
	return errors.New(text.String())
}

// Enter takes the highest rung that the machine grants or, if pin is not "", that one
// and no other. Where that is a user namespace, the process is started once more as
// root inside it, with the same arguments, and this one waits, passes on signals and
// exits as the other does. If this one is killed, so is the other.
//
// Call it before there is anything to lose: it may not return. The error says what a
// pinned rung lacks and how to grant it.
func Enter(pin Rung) (Isolation, error) {
	_, inside := os.LookupEnv(entered)
	os.Unsetenv(entered)
	m := thisMachine()
	if inside && mayMount() {
		i := Isolation{Rung: Rootless, OneID: m.countIDs() == 1, Lacks: []Lack{mayNotMount()}}
		if i.OneID {
			i.Lacks = append(i.Lacks, m.outside().idLacks()...)
		}
		return i, nil
	}
	i := Isolation{Rung: None, OneID: m.uid != 0}
	for _, r := range []struct {
		rung Rung
		take func(machine) []Lack
	}{{Namespaces, machine.mount}, {Rootless, machine.enter}, {Chroot, machine.chroot}} {
		if pin != "" && pin != r.rung {
			continue
		}
		lacks := r.take(m)
		if len(lacks) == 0 {
			i.Rung = r.rung
			i.OneID = i.OneID || m.countIDs() == 1
			return i, nil
		}
		i.Lacks = append(i.Lacks, lacks...)
	}
	if pin != "" {
		return i, fmt.Errorf("the isolation %s cannot be had here: %w", pin, joined(i.Lacks))
	}
	return i, nil
}

func joined(lacks []Lack) error {
	errs := make([]error, len(lacks))
	for i, l := range lacks {
		errs[i] = l
	}
	return errors.Join(errs...)
}

func mayNotMount() Lack {
	return Lack{string(Namespaces), "the process may not mount (no CAP_SYS_ADMIN)",
		"run as root; in a pod: hostUsers: false and securityContext.capabilities.add: [SYS_ADMIN]"}
}

// mount takes the first rung: a mount namespace is made, by a thread that ends.
func (m machine) mount() []Lack {
	if old := m.tooOld(); old != nil {
		return []Lack{{string(Namespaces), old.What, old.Grant}}
	}
	if !mayMount() {
		return []Lack{mayNotMount()}
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: it ends with its namespace
		done <- tryMount()
	}()
	if err := <-done; err != nil {
		return []Lack{{string(Namespaces), "mounts are refused although the process has CAP_SYS_ADMIN (" + err.Error() + ")",
			"let the filter of system calls allow them; in a pod: securityContext.seccompProfile.type: Unconfined"}}
	}
	return nil
}

// tryMount gives the thread a mount namespace, and asks for a file system.
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

// enter takes the second rung: it does not return where that succeeds.
func (m machine) enter() []Lack {
	lacks := m.switches()
	if old := m.tooOld(); old != nil {
		lacks = append(lacks, *old)
	}
	if len(lacks) > 0 {
		return lacks
	}
	var last error
	for _, ids := range m.maps() {
		status, err := enter(ids)
		if err == nil {
			if status.Signaled() {
				dieOf(status.Signal())
			}
			os.Exit(status.ExitStatus())
		}
		last = err
	}
	return []Lack{m.refused(last)}
}

// needed are the capabilities of the third rung: to unpack images, to change root and
// user, to take what is left from a step, and to kill what another user runs there.
func needed() []capability {
	return []capability{
		{"CHOWN", unix.CAP_CHOWN}, {"DAC_OVERRIDE", unix.CAP_DAC_OVERRIDE}, {"FOWNER", unix.CAP_FOWNER},
		{"SETGID", unix.CAP_SETGID}, {"SETUID", unix.CAP_SETUID}, {"SETPCAP", unix.CAP_SETPCAP},
		{"SYS_CHROOT", unix.CAP_SYS_CHROOT}, {"KILL", unix.CAP_KILL},
	}
}

type capability struct {
	name   string
	number uint
}

// chroot takes the third rung.
func (m machine) chroot() []Lack {
	const grant = "in a pod: securityContext.runAsUser: 0"
	if m.uid != 0 {
		return []Lack{{string(Chroot), fmt.Sprintf("the process is user %d, not root", m.uid),
			grant + " (and no capabilities.drop)"}}
	}
	var missing []string
	for _, c := range needed() {
		if effective()&(1<<c.number) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return []Lack{{string(Chroot), "the process lacks CAP_" + strings.Join(missing, ", CAP_"),
			grant + ", securityContext.capabilities.add: [" + strings.Join(missing, ", ") + "]"}}
	}
	// To the root directory that it has already.
	if err := unix.Chroot("/"); err != nil {
		return []Lack{{string(Chroot), "chroot is refused (" + err.Error() + ")",
			"let the filter of system calls allow it; in a pod: securityContext.seccompProfile.type: RuntimeDefault"}}
	}
	// Steps see this process. Without CAP_SYS_PTRACE they cannot look into it.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return []Lack{{string(Chroot), "the process cannot be protected (" + err.Error() + ")", "use another rung"}}
	}
	return nil
}
