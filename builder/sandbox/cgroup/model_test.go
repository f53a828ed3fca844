package cgroup

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// model implements version 2 of the kernel's interface with plain files. It has the rules of
// the kernel: groups have the files of their controllers, only leaves have processes, and
// groups with processes or children cannot be removed.
type model struct {
	*kernel
	t      *testing.T
	mount  string
	noSwap bool
	deny   map[string]error // errors of changes below a cgroup
	before string           // the initial tree
}

// Processes of a model: the one that waits for the program, and one of another program.
const outer, foreigner = 1 << 29, 1<<29 + 1

// newModel returns a model with some controllers in the root cgroup, and this process in
// the cgroup own.
func newModel(t *testing.T, own, controllers string) *model {
	dir := t.TempDir()
	m := &model{t: t, mount: dir + "/cg v2", deny: map[string]error{}}
	m.kernel = thisKernel(Caller{PIDs: []int{os.Getpid(), outer}})
	m.kernel.proc, m.kernel.mkdir, m.kernel.rmdir, m.kernel.write = dir, m.makeDir, m.removeDir, m.put
	m.kernel.try = func(files []string) error {
		for _, f := range files {
			if err := m.put(f, "0"); err != nil {
				return err
			}
			m.file(f, "") // it has ended
		}
		return nil
	}
	m.kernel.parent = func(pid int) int { return map[int]int{os.Getpid(): outer, foreigner: 1, 77: os.Getpid()}[pid] }
	m.kernel.alive = func(int) bool { return true }
	must(t, os.Mkdir(m.mount, 0o755))
	m.fill(m.mount, controllers)
	m.file(dir+"/cgroup", "0::"+own+"\n")
	m.file(dir+"/mountinfo", "25 1 0:22 / /proc rw - proc proc rw\n"+
		"26 25 0:23 / "+strings.ReplaceAll(m.mount, " ", `\040`)+" rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
	dir = m.mount
	for name := range strings.FieldsSeq(strings.ReplaceAll(own, "/", " ")) {
		// systemd enables controllers in this way in ancestors of delegated cgroups.
		m.file(dir+"/cgroup.subtree_control", controllers)
		dir += "/" + name
		must(t, m.makeDir(dir))
	}
	m.file(dir+"/cgroup.procs", fmt.Sprintf("%d\n%d\n77\n", os.Getpid(), outer))
	m.before = m.tree()
	return m
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *model) file(path, text string) { must(m.t, os.WriteFile(path, []byte(text), 0o644)) }

func (m *model) words(path string) []string {
	text, err := os.ReadFile(path)
	must(m.t, err)
	return strings.Fields(string(text))
}

// fill makes the files of a cgroup.
func (m *model) fill(dir, controllers string) {
	for name, text := range map[string]string{"cgroup.procs": "", "cgroup.controllers": controllers, "cgroup.subtree_control": "", "cgroup.kill": ""} {
		m.file(dir+"/"+name, text)
	}
	m.equip(dir, strings.Fields(controllers))
}

// equip makes the files of controllers in a cgroup and removes those of others.
func (m *model) equip(dir string, controllers []string) {
	for controller, files := range map[string]map[string]string{
		"memory": {"memory.max": "max", "memory.swap.max": "max", "memory.events": "low 0\noom 0\noom_kill 0\n"},
		"cpu":    {"cpu.max": "max 100000", "cpu.weight": "100"},
		"pids":   {"pids.max": "max", "pids.events": "max 0\n"},
	} {
		for name, text := range files {
			_, err := os.Stat(dir + "/" + name)
			has, wants := err == nil, slices.Contains(controllers, controller) && dir != m.mount && !(m.noSwap && name == "memory.swap.max")
			if wants && !has {
				m.file(dir+"/"+name, text)
			} else if has && !wants {
				must(m.t, os.Remove(dir+"/"+name))
			}
		}
	}
	m.file(dir+"/cgroup.controllers", strings.Join(controllers, " "))
}

func (m *model) denied(path string) error {
	for dir, err := range m.deny {
		if strings.HasPrefix(path, m.mount+dir+"/") {
			return err
		}
	}
	return nil
}

func (m *model) makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return unix.EEXIST
	}
	if err := m.denied(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	m.fill(dir, strings.Join(m.words(filepath.Dir(dir)+"/cgroup.subtree_control"), " "))
	return nil
}

func (m *model) removeDir(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return unix.ENOENT
	}
	if len(m.words(dir+"/cgroup.procs")) > 0 || len(folders(dir)) > 0 {
		return unix.EBUSY
	}
	return os.RemoveAll(dir)
}

func (m *model) put(file, text string) error {
	if err := m.denied(file); err != nil {
		return err
	}
	if _, err := os.Stat(file); err != nil {
		return unix.ENOENT
	}
	dir := filepath.Dir(file)
	switch filepath.Base(file) {
	case "cgroup.subtree_control":
		return m.control(dir, strings.Fields(text))
	case "cgroup.procs":
		if dir != m.mount && len(m.words(dir+"/cgroup.subtree_control")) > 0 {
			return unix.EBUSY
		}
		m.leave(text)
		m.file(file, strings.Join(append(m.words(file), text), "\n")+"\n")
	case "cgroup.kill":
		m.file(dir+"/cgroup.procs", "")
	default:
		m.file(file, text)
	}
	return nil
}

// control enables and disables controllers for child cgroups.
func (m *model) control(dir string, changes []string) error {
	on := m.words(dir + "/cgroup.subtree_control")
	for _, c := range changes {
		name := c[1:]
		switch {
		case c[0] == '+' && !slices.Contains(m.words(dir+"/cgroup.controllers"), name):
			return unix.ENOENT
		case c[0] == '+' && dir != m.mount && len(m.words(dir+"/cgroup.procs")) > 0:
			return unix.EBUSY
		case c[0] == '+' && !slices.Contains(on, name):
			on = append(on, name)
		case c[0] == '-':
			for _, below := range folders(dir) {
				if slices.Contains(m.words(dir+"/"+below+"/cgroup.subtree_control"), name) {
					return unix.EBUSY
				}
			}
			on = slices.DeleteFunc(on, func(s string) bool { return s == name })
		}
	}
	m.file(dir+"/cgroup.subtree_control", strings.Join(on, " "))
	for _, below := range folders(dir) {
		m.equip(dir+"/"+below, on)
	}
	return nil
}

// leave removes a process from its cgroup.
func (m *model) leave(pid string) {
	must(m.t, filepath.WalkDir(m.mount, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == "cgroup.procs" {
			left := slices.DeleteFunc(m.words(path), func(s string) bool { return s == pid })
			m.file(path, strings.Join(left, "\n"))
		}
		return err
	}))
}

// tree lists all cgroups, and their files that differ from those of a new one. It has
// PROGRAM in place of the id of this process.
func (m *model) tree() string {
	var b strings.Builder
	plain := map[string]string{
		"memory.max": "max", "memory.swap.max": "max", "memory.events": "low 0 oom 0 oom_kill 0",
		"cpu.max": "max 100000", "cpu.weight": "100", "pids.max": "max", "pids.events": "max 0",
	}
	must(m.t, filepath.WalkDir(m.mount, func(path string, e fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(path, m.mount)
		for _, prefix := range []string{groupPrefix, leafPrefix} {
			if i := strings.Index(rel, prefix); i >= 0 {
				rel = rel[:i+len(prefix)] + "N" + rel[i+len(prefix)+16:]
			}
		}
		if e.IsDir() {
			fmt.Fprintf(&b, "%s/\n", rel)
			return err
		}
		text := strings.Join(m.words(path), " ")
		text = strings.ReplaceAll(text, strconv.Itoa(os.Getpid()), "PROGRAM")
		text = strings.ReplaceAll(strings.ReplaceAll(text, strconv.Itoa(outer), "OUTER"), strconv.Itoa(foreigner), "FOREIGN")
		if name := filepath.Base(path); text != plain[name] && name != "cgroup.controllers" {
			fmt.Fprintf(&b, "%s: %s\n", rel, text)
		}
		return err
	}))
	return b.String()
}
