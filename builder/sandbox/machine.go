package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"

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

// maps returns the id maps that a user namespace may have, the best first.
func (m machine) maps() []idMaps {
	single := idMaps{uids: []idRange{{0, int64(m.uid), 1}}, gids: []idRange{{0, int64(m.gid), 1}}, single: true}
	if m.uid == 0 {
		uids, errU := m.identity("uid_map")
		gids, errG := m.identity("gid_map")
		if errU != nil || errG != nil {
			return []idMaps{single}
		}
		return []idMaps{{uids: uids, gids: gids, identity: true}, single}
	}
	if len(m.rangeLacks()) > 0 {
		return []idMaps{single}
	}
	return []idMaps{{uids: m.ranges("etc/subuid", m.uid), gids: m.ranges("etc/subgid", m.gid)}, single}
}

// outside is the machine as the user knows it who entered a user namespace.
func (m machine) outside() machine {
	m.uid, m.gid = HostIDs()
	m.name = strconv.Itoa(m.uid)
	if u, err := user.LookupId(m.name); err == nil {
		m.name = u.Username
	}
	return m
}

// idLacks lists why there is one id only.
func (m machine) idLacks() []Lack {
	if m.uid == 0 {
		return []Lack{{allIDs, "the ids of the machine cannot be had in a user namespace",
			"in a pod: securityContext.capabilities.add: [SETUID, SETGID, SETFCAP]"}}
	}
	if lacks := m.rangeLacks(); len(lacks) > 0 {
		return lacks
	}
	return []Lack{{allIDs, "newuidmap or newgidmap failed",
		"let programs be setuid (no no_new_privs); in a pod: securityContext.allowPrivilegeEscalation: true"}}
}

// countIDs is how many user ids there are here.
func (m machine) countIDs() (n int64) {
	uids, _ := m.identity("uid_map")
	for _, r := range uids {
		n += r.count
	}
	return n
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
		out = append(out, idRange{next, s.first, s.count})
		next += s.count
	}
	return out
}

// subordinate is a line of /etc/subuid or /etc/subgid.
type subordinate struct {
	name         string // of a user, or the number
	first, count int64
}

// subordinateFiles are those, and the options with which usermod adds to them.
var subordinateFiles = []struct{ name, option string }{{"etc/subuid", "--add-subuids"}, {"etc/subgid", "--add-subgids"}}

const (
	firstSubordinate = 100000    // that useradd gives
	allOfKernel      = 1<<32 - 1 // ids of the kernel: the last number stands for none
)

// fits tells whether the kernel has all the ids.
func (s subordinate) fits() bool { return s.count <= allOfKernel-s.first }

// subordinate lists the user's own ranges.
func (m machine) subordinate(file string) []subordinate {
	return slices.DeleteFunc(m.allSubordinate(file), func(s subordinate) bool {
		return s.name != m.name && s.name != strconv.Itoa(m.uid)
	})
}

// allSubordinate lists everybody's ranges. Other programs ignore lines that are none, too.
func (m machine) allSubordinate(file string) (list []subordinate) {
	text, err := os.ReadFile(m.root + file)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 {
			continue
		}
		first, err1 := strconv.ParseInt(f[1], 10, 64)
		count, err2 := strconv.ParseInt(f[2], 10, 64)
		if err1 == nil && err2 == nil && first >= 0 && count > 0 {
			list = append(list, subordinate{f[0], first, count})
		}
	}
	return list
}

// rangeLacks lists what keeps an ordinary user from ids beside the own one.
func (m machine) rangeLacks() (out []Lack) {
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if _, err := m.find(program); err != nil {
			out = append(out, Lack{allIDs, program + " is not installed",
				"install the package uidmap (on Fedora and the like: shadow-utils)"})
			break
		}
	}
	for _, f := range subordinateFiles {
		list := m.subordinate(f.name)
		if len(list) == 0 {
			out = append(out, Lack{allIDs, fmt.Sprintf("%s has no range in /%s", m.name, f.name), m.addRange(f.option)})
		}
		for _, s := range list {
			if !s.fits() {
				out = append(out, Lack{allIDs, fmt.Sprintf("the line %s:%d:%d of /%s goes beyond the last id of the kernel", s.name, s.first, s.count, f.name),
					fmt.Sprintf("as root: let its two numbers add up to less than %d", allOfKernel+1)})
			}
		}
	}
	return out
}

// fewIDs is how an ordinary user gets enough ids who has some.
func (m machine) fewIDs() string {
	var options []string
	for _, f := range subordinateFiles {
		var n int64
		for _, s := range m.subordinate(f.name) {
			n += s.count
		}
		if n < neededIDs {
			options = append(options, f.option)
		}
	}
	return m.addRange(options...)
}

// addRange is the command that gives the user a range of its own.
func (m machine) addRange(options ...string) string {
	first, ok := m.freeRange()
	if !ok {
		return fmt.Sprintf("as root: free %d ids in a row, from %d on, in /etc/subuid and /etc/subgid", neededIDs, firstSubordinate)
	}
	command := "as root: usermod"
	for _, option := range options {
		command += fmt.Sprintf(" %s %d-%d", option, first, first+neededIDs-1)
	}
	return command + " " + m.name
}

// freeRange finds the first range, of those that useradd would give, that nobody has in
// either file: two users who share ids could change each other's files.
func (m machine) freeRange() (first int64, ok bool) {
	var taken []subordinate
	for _, f := range subordinateFiles {
		taken = append(taken, m.allSubordinate(f.name)...)
	}
	slices.SortFunc(taken, func(a, b subordinate) int { return cmp.Compare(a.first, b.first) })
	first = firstSubordinate
	for _, s := range taken {
		if s.first >= first+neededIDs {
			break
		}
		if !s.fits() {
			return 0, false // it has all that follow
		}
		if over := s.first + s.count - first; over > 0 {
			first += (over + neededIDs - 1) / neededIDs * neededIDs
		}
	}
	return first, subordinate{first: first, count: neededIDs}.fits()
}

// allIDs is what an ordinary user's files lack who has one id only.
const allIDs = "files of other users"

// switches lists what the kernel is set to refuse.
func (m machine) switches() (out []Lack) {
	for _, s := range []struct{ name, bad, good string }{
		{"kernel.unprivileged_userns_clone", "0", "1"},
		{"user.max_user_namespaces", "0", "15000"},
	} {
		if m.sysctl(s.name) == s.bad {
			out = append(out, Lack{string(Rootless), s.name + " is " + s.bad, "as root: sysctl -w " + s.name + "=" + s.good})
		}
	}
	return out
}

// refused says why there may be no user namespace, and what would help.
func (m machine) refused(err error) Lack {
	const restrict = "kernel.apparmor_restrict_unprivileged_userns"
	l := Lack{string(Rootless), err.Error(), "see the kernel's log"}
	switch {
	case m.sysctl(restrict) == "1" && !m.filtered():
		l.What += " (AppArmor keeps programs without a profile from using one)"
		l.Grant = "as root: sysctl -w " + restrict + "=0"
	case errors.Is(err, unix.ENOSPC):
		l.What += " (the limit user.max_user_namespaces is reached)"
		l.Grant = "as root: sysctl -w user.max_user_namespaces=15000"
	case m.filtered() && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS)):
		l.What += " (a filter of system calls is set)"
		l.Grant = "let it allow user namespaces and mounts; in a pod: securityContext.seccompProfile.type: Unconfined"
	case errors.Is(err, unix.EPERM):
		l.Grant = "let security modules allow user namespaces; in a pod: securityContext.appArmorProfile.type: Unconfined"
	}
	return l
}

// filtered tells whether a filter of system calls is set.
func (m machine) filtered() bool {
	text, err := os.ReadFile(m.root + "proc/self/status")
	return err == nil && strings.Contains(string(text), "\nSeccomp:\t2")
}

// tooOld is what an old kernel lacks.
func (m machine) tooOld() *Lack {
	release := m.sysctl("kernel.osrelease")
	if !tooOld(release) {
		return nil
	}
	return &Lack{string(Rootless), "Linux " + release + " is too old",
		fmt.Sprintf("use Linux %d.%d or later", oldestMajor, oldestMinor)}
}

// sysctl returns a setting, or "" where the kernel has no such.
func (m machine) sysctl(name string) string {
	text, err := os.ReadFile(m.root + "proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
