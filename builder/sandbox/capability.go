package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
)

// Capabilities returns the names of all capabilities, without CAP_, in the order of their
// numbers.
func Capabilities() []string {
	return strings.Fields("CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE " +
		"NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT " +
		"SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG " +
		"WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE")
}

// StepCapabilities returns the names of the capabilities that a command has, unless it is
// insecure.
func StepCapabilities() (names []string) {
	for n, name := range Capabilities() {
		if step.DefaultCapabilities()&(1<<n) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// capabilitySet returns a bit set of capabilities.
func capabilitySet(names []string) (set int64, err error) {
	for _, name := range names {
		n := slices.Index(Capabilities(), name)
		if n < 0 {
			return 0, fmt.Errorf("unknown capability %q", name)
		}
		set |= 1 << n
	}
	return set, nil
}
