package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// place is where groups are made in one hierarchy.
type place struct {
	hierarchy
	needs []string // controllers that are to limit the groups
	dir   string   // the cgroup that they are made below

	made    []string // cgroups that were made to get there, the outermost first
	enabled []enabled
	leaf    string   // the cgroup below its own that this process has moved to
	lock    *os.File // of the leaf
}

// enabled are controllers that were enabled for what lies below a cgroup.
type enabled struct {
	dir         string
	controllers []string
}

// prepare makes the parent of groups, and lets it limit what is below.
func (p *place) prepare(k *kernel, parent string) error {
	p.dir = p.own
	if parent != "" {
		if err := p.goTo(k, parent); err != nil {
			return err
		}
	}
	if !p.unified || len(p.needs) == 0 {
		return nil
	}
	return p.enable(k, p.dir, parent != "")
}

// goTo makes the cgroup that was asked for.
func (p *place) goTo(k *kernel, parent string) error {
	base := p.own
	if strings.HasPrefix(parent, "/") {
		base = p.mount
	}
	p.dir = filepath.Join(base, filepath.Clean("/"+parent)) // never above the base
	rel, _ := filepath.Rel(base, p.dir)
	dir := base
	for name := range strings.SplitSeq(rel, "/") {
		dir = filepath.Join(dir, name)
		switch err := k.mkdir(dir); {
		case err == nil:
			p.made = append(p.made, dir)
		case !errors.Is(err, os.ErrExist):
			if _, statErr := os.Stat(dir); statErr != nil {
				return k.refusal(filepath.Dir(dir), err)
			}
		}
	}
	return nil
}

// enable lets cgroups below dir be limited. What lies above may be changed for that
// only where somebody has named the cgroup.
func (p *place) enable(k *kernel, dir string, climb bool) error {
	lacks, err := k.lacking(dir+"/cgroup.controllers", p.needs)
	if err == nil && len(lacks) > 0 && climb && dir != p.mount {
		if err := p.enable(k, filepath.Dir(dir), true); err != nil {
			return err
		}
		lacks, err = k.lacking(dir+"/cgroup.controllers", p.needs)
	}
	if err != nil {
		return k.refusal(dir, err)
	}
	if len(lacks) > 0 {
		return k.undelegated(dir, lacks)
	}
	return p.handOn(k, dir)
}

// handOn enables controllers for what lies below dir, which has them.
func (p *place) handOn(k *kernel, dir string) error {
	missing, err := k.lacking(dir+"/cgroup.subtree_control", p.needs)
	if err == nil && len(missing) > 0 {
		err = k.switchTo("+", dir, missing)
		if errors.Is(err, unix.EBUSY) {
			// The kernel wants processes in leaves only.
			if err = p.makeRoom(k, dir); err == nil {
				err = k.switchTo("+", dir, missing)
			}
		}
		if err == nil {
			p.enabled = append(p.enabled, enabled{dir, missing})
		}
	}
	if err != nil {
		return k.refusal(dir, err)
	}
	return nil
}

// lacking gives which of some controllers a file does not list.
func (k *kernel) lacking(file string, needs []string) (list []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	have := strings.Fields(string(text))
	for _, c := range needs {
		if !slices.Contains(have, c) {
			list = append(list, c)
		}
	}
	return list, nil
}

// switchTo enables or disables controllers for what lies below a cgroup.
func (k *kernel) switchTo(sign, dir string, controllers []string) error {
	return k.write(dir+"/cgroup.subtree_control", sign+strings.Join(controllers, " "+sign))
}

// makeRoom moves the program's own processes out of a cgroup that has no others, into
// one below.
func (p *place) makeRoom(k *kernel, dir string) error {
	if strangers := k.strangers(k.processes(dir)); len(strangers) > 0 || dir != p.own {
		return k.crowded(dir, strangers)
	}
	var err error
	if p.leaf, p.lock, err = k.newFolder(dir, leafPrefix); err != nil {
		return err
	}
	for own := k.processes(dir); len(own) > 0; own = k.processes(dir) {
		if strangers := k.strangers(own); len(strangers) > 0 {
			return k.crowded(dir, strangers)
		}
		if err := k.move(own, p.leaf); err != nil {
			return err
		}
	}
	return nil
}

// move puts processes into a cgroup; those that have ended meanwhile are no error.
func (k *kernel) move(pids []int, dir string) error {
	for _, pid := range pids {
		err := k.write(dir+"/cgroup.procs", strconv.Itoa(pid))
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("move the process %d to the cgroup %s: %w", pid, dir, err)
		}
	}
	return nil
}

// set limits a group.
func (p *place) set(k *kernel, dir string, l Limits) error {
	for _, c := range p.needs {
		settings := l.settings1(c)
		if p.unified {
			settings = l.settings2(c)
		}
		for _, s := range settings {
			err := k.write(dir+"/"+s.file, s.text)
			if errors.Is(err, os.ErrNotExist) && s.optional {
				continue
			}
			if err != nil {
				return k.unset(s, dir, err)
			}
		}
	}
	return nil
}

// restore takes back what prepare has changed.
func (p *place) restore(k *kernel) error {
	for _, dir := range slices.Backward(p.made) {
		if err := k.rmdir(dir); err != nil {
			break // another build uses it
		}
	}
	p.made = nil
	if p.leaf == "" {
		return nil
	}
	// Processes may come back only when nothing below is limited.
	var err error
	for _, e := range slices.Backward(p.enabled) {
		if e := k.switchTo("-", e.dir, e.controllers); !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	if err == nil {
		err = k.move(k.processes(p.leaf), p.own)
	}
	p.lock.Close()
	if err == nil {
		err = k.remove(p.leaf)
	}
	p.leaf, p.enabled = "", nil
	if err != nil {
		return fmt.Errorf("return to the cgroup %s: %w", p.own, err)
	}
	return nil
}
