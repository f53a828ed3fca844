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

// machine describes the user and the system settings on which user namespaces depend.
// Tests make their own.
type machine struct {
	root     string // directory with etc and proc, ending in a slash
	uid, gid int
	name     string
	lookPath func(program string) (string, error)
}

func thisMachine() machine {
	m := machine{"/", os.Geteuid(), os.Getegid(), strconv.Itoa(os.Geteuid()), exec.LookPath}
	if u, err := user.Current(); err == nil {
		m.name = u.Username
	}
	return m
}

// neededIDs is the number of ids that any image can be built with. Many images need
// fewer.
const neededIDs = 65536

// maps returns the id maps to try for a user namespace, the best first.
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
	if len(m.unmetForRanges()) > 0 {
		return []idMaps{single}
	}
	return []idMaps{{uids: m.ranges("etc/subuid", m.uid), gids: m.ranges("etc/subgid", m.gid)}, single}
}

// outside returns the machine with the user that the process has outside its user
// namespace.
func (m machine) outside() machine {
	m.uid, m.gid = HostIDs()
	m.name = strconv.Itoa(m.uid)
	if u, err := user.LookupId(m.name); err == nil {
		m.name = u.Username
	}
	return m
}

// unmetForIDs returns the reasons why the process has a single id.
func (m machine) unmetForIDs() []Requirement {
	if m.uid == 0 {
		return []Requirement{requirement(otherIDs, "the machine's ids cannot be mapped into a user namespace",
			"in a pod: securityContext.capabilities.add: [SETUID, SETGID, SETFCAP]")}
	}
	if unmet := m.unmetForRanges(); len(unmet) > 0 {
		return unmet
	}
	return []Requirement{requirement(otherIDs, "newuidmap or newgidmap failed",
		"let programs be setuid (no no_new_privs); in a pod: securityContext.allowPrivilegeEscalation: true")}
}

// countIDs returns the number of user ids in the current user namespace.
func (m machine) countIDs() (n int64) {
	uids, _ := m.identity("uid_map")
	for _, r := range uids {
		n += r.count
	}
	return n
}

// identity returns a map of each id of the current user namespace to itself.
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

// ranges returns a map of root to the user, and of the following ids to the user's
// subordinate ids.
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
	name         string // of a user, or a user id
	first, count int64
}

// subordinateFiles are the files of subordinate ids, each with the option of usermod
// that adds to it.
var subordinateFiles = []struct{ name, option string }{{"etc/subuid", "--add-subuids"}, {"etc/subgid", "--add-subgids"}}

const (
	firstSubordinate = 100000    // the first that useradd assigns
	kernelIDs        = 1<<32 - 1 // number of ids; the last 32-bit number means "no id"
)

// fits reports whether all ids of the range exist.
func (s subordinate) fits() bool { return s.count <= kernelIDs-s.first }

// subordinate returns the user's ranges.
func (m machine) subordinate(file string) []subordinate {
	return slices.DeleteFunc(m.allSubordinate(file), func(s subordinate) bool {
		return s.name != m.name && s.name != strconv.Itoa(m.uid)
	})
}

// allSubordinate returns the ranges of all users. Like other programs it skips malformed
// lines.
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

// unmetForRanges returns the unmet requirements of subordinate ids for an ordinary user.
func (m machine) unmetForRanges() (out []Requirement) {
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if _, err := m.lookPath(program); err != nil {
			out = append(out, requirement(otherIDs, program+" is not installed",
				"install the package uidmap (shadow-utils on Fedora)"))
			break
		}
	}
	for _, f := range subordinateFiles {
		list := m.subordinate(f.name)
		if len(list) == 0 {
			out = append(out, requirement(otherIDs, fmt.Sprintf("user %s has no range in /%s", m.name, f.name), m.addRange(f.option)))
		}
		for _, s := range list {
			if !s.fits() {
				out = append(out, requirement(otherIDs, fmt.Sprintf("the line %s:%d:%d of /%s exceeds the largest id of the kernel", s.name, s.first, s.count, f.name),
					fmt.Sprintf("as root: change it so that the sum of its two numbers is less than %d", kernelIDs+1)))
			}
		}
	}
	return out
}

// moreIDs returns advice for a user with fewer subordinate ids than neededIDs.
func (m machine) moreIDs() string {
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

// addRange returns advice to add a range of ids to the files of some usermod options.
func (m machine) addRange(options ...string) string {
	first, ok := m.freeRange()
	if !ok {
		return fmt.Sprintf("as root: free %d consecutive ids from %d on in /etc/subuid and /etc/subgid", neededIDs, firstSubordinate)
	}
	command := "as root: usermod"
	for _, option := range options {
		command += fmt.Sprintf(" %s %d-%d", option, first, first+neededIDs-1)
	}
	return command + " " + m.name
}

// freeRange returns the first range that useradd would assign and that no user has in
// either file: users with shared ids could change each other's files.
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
			return 0, false // it takes all the following ids
		}
		if over := s.first + s.count - first; over > 0 {
			first += (over + neededIDs - 1) / neededIDs * neededIDs
		}
	}
	return first, subordinate{first: first, count: neededIDs}.fits()
}

// otherIDs is the feature of a user with more than one id.
const otherIDs = "files of other users"

// unmetSysctls returns requirements for user namespaces that kernel settings do not meet.
func (m machine) unmetSysctls() (out []Requirement) {
	for _, s := range []struct{ name, bad, good string }{
		{"kernel.unprivileged_userns_clone", "0", "1"},
		{"user.max_user_namespaces", "0", "15000"},
	} {
		if m.sysctl(s.name) == s.bad {
			out = append(out, requirement(string(Rootless), s.name+" is "+s.bad, "as root: sysctl -w "+s.name+"="+s.good))
		}
	}
	return out
}

// mountNamespaces is the limit of mount namespaces of a user.
const mountNamespaces = "user.max_mnt_namespaces"

// explainRefusal returns the requirement to meet when the kernel has refused a user
// namespace with err.
func (m machine) explainRefusal(err error) Requirement {
	const restrict = "kernel.apparmor_restrict_unprivileged_userns"
	r := requirement(string(Rootless), err.Error(), "see the kernel's log")
	switch {
	case m.sysctl(restrict) == "1" && !m.filtered():
		r.Problem += " (AppArmor does not let programs without a profile use one)"
		r.Remedy = "as root: sysctl -w " + restrict + "=0"
	case errors.Is(err, unix.ENOSPC):
		limit := "user.max_user_namespaces"
		if m.sysctl(mountNamespaces) == "0" {
			limit = mountNamespaces
		}
		r.Problem += " (the limit " + limit + " is reached)"
		r.Remedy = "as root: sysctl -w " + limit + "=15000"
	case m.filtered() && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS)):
		r.Problem += " (a system call filter is set)"
		r.Remedy = "let it allow user namespaces and mounts; in a pod: securityContext.seccompProfile.type: Unconfined"
	case errors.Is(err, unix.EPERM):
		r.Remedy = "let security modules allow user namespaces; in a pod: securityContext.appArmorProfile.type: Unconfined"
	}
	return r
}

// filtered reports whether the process has a system call filter.
func (m machine) filtered() bool {
	text, err := os.ReadFile(m.root + "proc/self/status")
	return err == nil && strings.Contains(string(text), "\nSeccomp:\t2")
}

// unmetKernel returns the requirement of a newer kernel for a mode, if it is not met.
func (m machine) unmetKernel(mode Mode) []Requirement {
	release := m.sysctl("kernel.osrelease")
	if !tooOld(release) {
		return nil
	}
	return []Requirement{requirement(string(mode), "Linux "+release+" is too old",
		fmt.Sprintf("use Linux %d.%d or later", oldestMajor, oldestMinor))}
}

// sysctl returns a kernel setting, or "" if the kernel does not have it.
func (m machine) sysctl(name string) string {
	text, err := os.ReadFile(m.root + "proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
