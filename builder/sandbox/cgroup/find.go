package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// hierarchy is the visible part of a hierarchy of cgroups.
type hierarchy struct {
	unified     bool     // version 2
	controllers []string // version 1 only; in version 2 each cgroup lists its own
	mount       string   // mount point
	own         string   // directory of the cgroup of this process
}

// hierarchies returns the mounted hierarchies that this process is in.
func (k *kernel) hierarchies() (list []hierarchy, err error) {
	groups, err := os.ReadFile(k.proc + "/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find the cgroup of this process: %w", err)
	}
	table, err := os.ReadFile(k.proc + "/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find the cgroup file systems: %w", err)
	}
	mounts := cgroupMounts(string(table))
	for line := range strings.Lines(string(groups)) {
		// "4:memory:/user.slice" in version 1, "0::/user.slice" in version 2.
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 || strings.HasPrefix(fields[1], "name=") {
			continue
		}
		h := hierarchy{unified: fields[1] == ""}
		if !h.unified {
			h.controllers = strings.Split(fields[1], ",")
		}
		if h.locate(mounts, fields[2]) {
			list = append(list, h)
		}
	}
	return list, nil
}

// locate sets the directory of the cgroup with the given path, and reports whether a
// mount shows it. Mounts that are hidden by other mounts do not count.
func (h *hierarchy) locate(mounts []cgroupMount, path string) (found bool) {
	for _, m := range slices.Backward(mounts) {
		rel, ok := below(m.root, path)
		if !ok || !m.shows(*h) {
			continue
		}
		own := filepath.Join(m.point, rel)
		_, err := os.Stat(own)
		if err == nil || !found {
			h.mount, h.own, found = m.point, own, true
		}
		if err == nil {
			break
		}
	}
	return found
}

// cgroupMount is a mount of a cgroup file system.
type cgroupMount struct {
	root, point string
	unified     bool
	options     []string // include the controllers in version 1
}

// shows reports whether the mount belongs to a hierarchy.
func (m cgroupMount) shows(h hierarchy) bool {
	return m.unified == h.unified && (h.unified || slices.Contains(m.options, h.controllers[0]))
}

// cgroupMounts parses mountinfo, with lines such as
// "36 25 0:31 ROOT POINT rw - cgroup cgroup rw,memory".
func cgroupMounts(table string) (list []cgroupMount) {
	for line := range strings.Lines(table) {
		head, tail, _ := strings.Cut(line, " - ")
		f, g := strings.Fields(head), strings.Fields(tail)
		if len(f) < 5 || len(g) < 3 || g[0] != "cgroup" && g[0] != "cgroup2" {
			continue
		}
		list = append(list, cgroupMount{unescape(f[3]), unescape(f[4]), g[0] == "cgroup2", strings.Split(g[2], ",")})
	}
	return list
}

// unescape replaces the kernel's octal escapes, such as \040 for a space.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// below returns path relative to root, and false if it is not inside root. Paths outside
// the root of the cgroup namespace begin with "/..".
func below(root, path string) (string, bool) {
	if strings.HasPrefix(root, "/..") || strings.HasPrefix(path, "/..") {
		return "", false
	}
	rel, err := filepath.Rel(root, path)
	return rel, err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// known lists the controllers that limits can need.
var known = []string{"memory", "cpu", "pids"}

// choose returns a place for each hierarchy with a needed controller. If a parent is
// given, hierarchies of the other known controllers are included, because the parent may
// have limits set by the user.
func choose(all []hierarchy, needed []string, parent string) (list []*place, err error) {
	at := func(h hierarchy) *place {
		for _, p := range list {
			if p.mount == h.mount {
				return p
			}
		}
		p := &place{hierarchy: h}
		list = append(list, p)
		return p
	}
	for _, c := range known {
		need := slices.Contains(needed, c)
		if !need && parent == "" {
			continue
		}
		h := find(all, c)
		if h == nil && need {
			return nil, unmet("no cgroup file system with the controller "+c+" is mounted",
				"mount one on /sys/fs/cgroup, or set the limit of the container that cairn runs in")
		}
		if h == nil {
			continue
		}
		if p := at(*h); need {
			p.needs = append(p.needs, c)
		}
	}
	if len(list) == 0 {
		return nil, unmet("no cgroup file system is mounted", "mount one on /sys/fs/cgroup, or leave out --cgroup-parent")
	}
	return list, nil
}

// find returns the hierarchy of a controller: one of version 1 that has it, or else that
// of version 2, without looking for the controller there. It returns nil for none.
func find(all []hierarchy, controller string) (found *hierarchy) {
	for i, h := range all {
		if slices.Contains(h.controllers, controller) {
			return &all[i]
		}
		if h.unified {
			found = &all[i]
		}
	}
	return found
}
