package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"

	subid "github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// Lack is one thing missing for a better rung or snapshot.
type Lack struct {
	For   string // the rung or snapshot that it would give
	What  string // what is missing
	Grant string // how to grant it
}

func (l Lack) Error() string { return l.What + ": " + l.Grant }

// machine is what decides whether a user may have a user namespace. Tests have one of
// their own.
type machine struct {
	root     string // of the files below
	uid, gid int
	name     string
	find     func(program string) (string, error)
}

func thisMachine() machine {
	m := machine{"/", os.Geteuid(), os.Getegid(), strconv.Itoa(os.Geteuid()), exec.LookPath}
	if u, err := user.Current(); err == nil {
		m.name = u.Username
	}
	return m
}

// neededIDs is how many subordinate ids an image may ask for; fewer will do for many.
const neededIDs = 65536

// ids returns the id maps of a user namespace for the user.
func (m machine) ids() (idMaps, error) {
	if m.uid == 0 {
		uids, err := m.identity("uid_map")
		if err != nil {
			return idMaps{}, err
		}
		gids, err := m.identity("gid_map")
		return idMaps{uids, gids, true}, err
	}
	if lacks := m.lacks(); len(lacks) > 0 {
		return idMaps{}, cannotEnter(lacks)
	}
	return idMaps{
		uids: m.ranges("etc/subuid", m.uid),
		gids: m.ranges("etc/subgid", m.gid),
	}, nil
}

// cannotEnter is the error for what is missing.
func cannotEnter(lacks []Lack) error {
	errs := make([]error, len(lacks))
	for i, l := range lacks {
		errs[i] = l
	}
	return fmt.Errorf("cannot build as an ordinary user here: %w", errors.Join(errs...))
}

// identity maps every id that there is to itself.
func (m machine) identity(file string) (out []idRange, err error) {
	text, err := os.ReadFile(m.root + "proc/self/" + file)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		var first, parent, count int64
		if _, err := fmt.Sscan(line, &first, &parent, &count); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, idRange{first, first, count})
	}
	return out, nil
}

// ranges maps root to the user and what follows to the user's subordinate ids.
func (m machine) ranges(file string, own int) []idRange {
	out := []idRange{{0, int64(own), 1}}
	next := int64(1)
	for _, s := range m.subordinate(file) {
		out = append(out, idRange{next, s.SubID, s.Count})
		next += s.Count
	}
	return out
}

func (m machine) subordinate(file string) []subid.SubID {
	list, err := subid.ParseSubIDFileFilter(m.root+file, func(s subid.SubID) bool {
		return (s.Name == m.name || s.Name == strconv.Itoa(m.uid)) && s.Count > 0
	})
	if err != nil {
		return nil
	}
	return list
}

const rootless = "rootless"

// lacks lists what keeps an ordinary user from a user namespace with enough ids.
func (m machine) lacks() (out []Lack) {
	out = append(out, m.switches()...)
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if _, err := m.find(program); err != nil {
			out = append(out, Lack{rootless, program + " is not installed",
				"install the package uidmap (on Fedora and the like: shadow-utils)"})
			break
		}
	}
	for _, f := range [][2]string{{"etc/subuid", "uids"}, {"etc/subgid", "gids"}} {
		if len(m.subordinate(f[0])) == 0 {
			out = append(out, Lack{rootless, fmt.Sprintf("%s has no range in /%s", m.name, f[0]),
				fmt.Sprintf("as root: usermod --add-sub%s 100000-%d %s", f[1], 100000+neededIDs-1, m.name)})
		}
	}
	return out
}

// switches lists what the kernel is set to refuse.
func (m machine) switches() (out []Lack) {
	for _, s := range []struct{ name, bad, good string }{
		{"kernel.unprivileged_userns_clone", "0", "1"},
		{"user.max_user_namespaces", "0", "15000"},
	} {
		if m.sysctl(s.name) == s.bad {
			out = append(out, Lack{rootless, s.name + " is " + s.bad, "as root: sysctl -w " + s.name + "=" + s.good})
		}
	}
	return out
}

// refused adds to an error about a user namespace why that may be.
func (m machine) refused(err error) error {
	const restrict = "kernel.apparmor_restrict_unprivileged_userns"
	switch {
	case m.sysctl(restrict) == "1":
		return fmt.Errorf("%w: AppArmor keeps programs without a profile from using one; as root: sysctl -w %s=0", err, restrict)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w: the limit user.max_user_namespaces is reached; as root: sysctl -w user.max_user_namespaces=15000", err)
	case len(m.switches()) > 0:
		return fmt.Errorf("%w: %w", err, cannotEnter(m.switches()))
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: inside a container, its system call filter must allow user namespaces, or give it CAP_SYS_ADMIN", err)
	}
	return err
}

// sysctl returns a setting, or "" where the kernel has no such.
func (m machine) sysctl(name string) string {
	text, err := os.ReadFile(m.root + "proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
