package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// explain adds a remedy to an error of the kernel about the cgroup dir.
func (k *kernel) explain(dir string, err error) error {
	if _, explained := errors.AsType[*Requirement](err); explained {
		return err
	}
	switch {
	case errors.Is(err, unix.EROFS):
		return unmet("the cgroup "+dir+" is mounted read-only",
			"limit the container that cairn runs in (in a pod: resources.limits), or give it a writable /sys/fs/cgroup (docker run --privileged)")
	case errors.Is(err, os.ErrPermission):
		return unmet(fmt.Sprintf("the cgroup %s may not be changed (%v)", dir, errnoOf(err)), k.permissionRemedy(dir))
	case errors.Is(err, os.ErrNotExist):
		return unmet("the cgroup "+dir+" does not exist", "name another one with --cgroup-parent")
	}
	return fmt.Errorf("make a cgroup for steps in %s: %w", dir, err)
}

// permissionRemedy returns advice on how to get a cgroup that may be changed.
func (k *kernel) permissionRemedy(dir string) string {
	if _, err := os.Stat(dir + "/cgroup.controllers"); err == nil {
		return k.scopeRemedy()
	}
	if k.Root {
		return "make /sys/fs/cgroup writable for root, or limit the container that cairn runs in"
	}
	return "run cairn as root, or as root make a cgroup in each hierarchy, give it to this user, and name it with --cgroup-parent"
}

// scopeRemedy returns advice on how to start Cairn in its own cgroup.
func (k *kernel) scopeRemedy() string {
	user := "--user "
	if k.Root {
		user = ""
	}
	return "start cairn in its own cgroup (systemd-run " + user + "--scope -p Delegate=yes cairn build ...; in a container, as its only program), or name another cgroup with --cgroup-parent"
}

// undelegated returns the error for controllers that dir does not have.
func (k *kernel) undelegated(dir string, missing []string) error {
	have, _ := os.ReadFile(dir + "/cgroup.controllers")
	has := strings.Join(strings.Fields(string(have)), ", ")
	if has == "" {
		has = "none"
	}
	remedy := "name another cgroup with --cgroup-parent"
	if !k.Root {
		remedy = "delegate it to users with systemd (as root: systemctl edit user@.service, [Service] Delegate=cpu memory pids; then log in again), or " + remedy
	}
	return unmet(fmt.Sprintf("the cgroup %s does not have the controller %s (available: %s)", dir, strings.Join(missing, ", "), has), remedy)
}

// occupied returns the error for a cgroup that cannot have children with limits because
// of the foreign processes in it.
func (k *kernel) occupied(dir string, foreign []int) error {
	processes := "other processes"
	var list []string
	for _, pid := range foreign {
		if pid == 0 { // of another PID namespace
			processes = "processes of another container"
		} else if len(list) < 5 {
			list = append(list, text(int64(pid)))
		}
	}
	if len(list) > 0 {
		if len(foreign) > len(list) {
			list = append(list, "...")
		}
		processes = "other processes (" + strings.Join(list, ", ") + ")"
	}
	return unmet(fmt.Sprintf("%s are in the cgroup %s: limits cannot be set below it", processes, dir), k.scopeRemedy())
}

// explainSetting adds a remedy to the error of a setting that the kernel refused.
func (k *kernel) explainSetting(s setting, dir string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist) && strings.Contains(s.file, "sw"):
		return unmet("the kernel does not account swap", "leave out --memory-swap")
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE):
		return unmet(fmt.Sprintf("the kernel does not accept %s as %s of a cgroup in %s", s.text, s.file, filepath.Dir(dir)),
			"use a value in the kernel's range that does not exceed the limit of the parent cgroup")
	}
	return fmt.Errorf("set %s of the cgroup %s to %s: %w", s.file, dir, s.text, errnoOf(err))
}

// errnoOf returns the error number in an error, or the error itself if it has none.
func errnoOf(err error) error {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno
	}
	return err
}
