package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// refusal says what would help against an error of the kernel.
func (k *kernel) refusal(dir string, err error) error {
	if _, said := errors.AsType[*Lack](err); said {
		return err
	}
	switch {
	case errors.Is(err, unix.EROFS):
		return &Lack{"the cgroup " + dir + " is mounted read-only",
			"limit the container that cairn runs in (in a pod: resources.limits), or give it a writable /sys/fs/cgroup (docker run --privileged)"}
	case errors.Is(err, os.ErrPermission):
		return &Lack{fmt.Sprintf("the cgroup %s may not be changed (%v)", dir, reason(err)), k.permission(dir)}
	case errors.Is(err, os.ErrNotExist):
		return &Lack{"the cgroup " + dir + " is not there", "name one with --cgroup-parent"}
	}
	return fmt.Errorf("make a cgroup for steps in %s: %w", dir, err)
}

// permission says how to get a cgroup that may be changed.
func (k *kernel) permission(dir string) string {
	if _, err := os.Stat(dir + "/cgroup.controllers"); err == nil {
		return k.ownScope()
	}
	if k.Root {
		return "let root write to /sys/fs/cgroup, or limit the container that cairn runs in"
	}
	return "run cairn as root, or let root make a cgroup of that user's in each hierarchy and name it with --cgroup-parent"
}

// ownScope is how to start a program in a cgroup that is all its own.
func (k *kernel) ownScope() string {
	user := "--user "
	if k.Root {
		user = ""
	}
	return "start cairn in a cgroup of its own (systemd-run " + user + "--scope -p Delegate=yes cairn build ...; in a container, as its only program), or name one that it may use with --cgroup-parent"
}

// undelegated says that a cgroup has not been given some controllers.
func (k *kernel) undelegated(dir string, lacks []string) error {
	have, _ := os.ReadFile(dir + "/cgroup.controllers")
	has := strings.Join(strings.Fields(string(have)), ", ")
	if has == "" {
		has = "none"
	}
	grant := "name a cgroup that has it with --cgroup-parent"
	if !k.Root {
		grant = "let systemd hand it on to users (as root: systemctl edit user@.service, [Service] Delegate=cpu memory pids; then log in anew), or " + grant
	}
	return &Lack{fmt.Sprintf("the cgroup %s has no controller %s, but %s", dir, strings.Join(lacks, ", "), has), grant}
}

// crowded says that processes keep a cgroup from having limited ones below it.
func (k *kernel) crowded(dir string, strangers []int) error {
	who := "processes"
	if n := len(strangers); n > 0 {
		var list []string
		for _, pid := range strangers[:min(n, 5)] {
			if pid == 0 {
				list = append(list, "of another container") // its number cannot be seen
				break
			}
			list = append(list, text(int64(pid)))
		}
		if n > len(list) {
			list = append(list, "...")
		}
		who += " (" + strings.Join(list, ", ") + ")"
	}
	return &Lack{fmt.Sprintf("other %s are in the cgroup %s, which can have none below it with limits then", who, dir), k.ownScope()}
}

// unset says what a setting that was refused means.
func (k *kernel) unset(s setting, dir string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist) && strings.Contains(s.file, "sw"):
		return &Lack{"this kernel does not count swap", "leave out --memory-swap"}
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE):
		return &Lack{fmt.Sprintf("the kernel takes no %s as %s of a cgroup in %s", s.text, s.file, filepath.Dir(dir)),
			"ask for what is in the kernel's range, and for no more than the cgroup around has"}
	}
	return fmt.Errorf("set %s of the cgroup %s to %s: %w", s.file, dir, s.text, reason(err))
}

// reason is the kernel's part of an error.
func reason(err error) error {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno
	}
	return err
}
