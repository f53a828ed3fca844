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

// place is the location of groups in one hierarchy.
type place struct {
	hierarchy
	needs []string // controllers for the groups
	dir   string   // parent cgroup of the groups

	made    []string // ancestors of the groups that prepare has made, the outermost first
	enabled []enabled
	leaf    string   // child of own that the program's processes were moved to
	lock    *os.File // of the leaf
}

// enabled lists controllers that were enabled for the children of a cgroup.
type enabled struct {
	dir         string
	controllers []string
}

// prepare makes the parent cgroup and enables the needed controllers for its children.
func (p *place) prepare(k *kernel, parent string) error {
	p.dir = p.own
	if parent != "" {
		if err := p.ensureParent(k, parent); err != nil {
			return err
		}
	}
	if !p.unified || len(p.needs) == 0 {
		return nil
	}
	return p.enable(k, p.dir, parent != "")
}

// ensureParent makes the parent cgroup and its ancestors if they are missing.
func (p *place) ensureParent(k *kernel, parent string) error {
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
				return k.explain(filepath.Dir(dir), err)
			}
		}
	}
	return nil
}

// enable enables the needed controllers for the children of dir. With climb, set for a
// parent that the user has named, it enables them in the ancestors of dir too.
func (p *place) enable(k *kernel, dir string, climb bool) error {
	missing, err := k.notListed(dir+"/cgroup.controllers", p.needs)
	if err == nil && len(missing) > 0 && climb && dir != p.mount {
		if err := p.enable(k, filepath.Dir(dir), true); err != nil {
			return err
		}
		missing, err = k.notListed(dir+"/cgroup.controllers", p.needs)
	}
	if err != nil {
		return k.explain(dir, err)
	}
	if len(missing) > 0 {
		return k.undelegated(dir, missing)
	}
	return p.delegate(k, dir)
}

// delegate enables controllers of dir for its children.
func (p *place) delegate(k *kernel, dir string) error {
	missing, err := k.notListed(dir+"/cgroup.subtree_control", p.needs)
	if err == nil && len(missing) > 0 {
		err = k.setSubtree("+", dir, missing)
		if errors.Is(err, unix.EBUSY) {
			// Only cgroups without processes can have children with controllers.
			if err = p.vacate(k, dir); err == nil {
				err = k.setSubtree("+", dir, missing)
			}
		}
		if err == nil {
			p.enabled = append(p.enabled, enabled{dir, missing})
		}
	}
	if err != nil {
		return k.explain(dir, err)
	}
	return nil
}

// notListed returns those of the needed controllers that a file does not list.
func (k *kernel) notListed(file string, needs []string) (list []string, err error) {
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

// setSubtree enables (sign "+") or disables ("-") controllers for the children of a
// cgroup.
func (k *kernel) setSubtree(sign, dir string, controllers []string) error {
	return k.write(dir+"/cgroup.subtree_control", sign+strings.Join(controllers, " "+sign))
}

// vacate moves the processes of the program from dir, which must have no others, to a
// child of dir.
func (p *place) vacate(k *kernel, dir string) error {
	if foreign := k.foreign(k.processes(dir)); len(foreign) > 0 || dir != p.own {
		return k.occupied(dir, foreign)
	}
	var err error
	if p.leaf, p.lock, err = k.newCgroup(dir, leafPrefix); err != nil {
		return err
	}
	for own := k.processes(dir); len(own) > 0; own = k.processes(dir) {
		if foreign := k.foreign(own); len(foreign) > 0 {
			return k.occupied(dir, foreign)
		}
		if err := k.move(own, p.leaf); err != nil {
			return err
		}
	}
	return nil
}

// move moves processes to a cgroup. It ignores processes that have exited.
func (k *kernel) move(pids []int, dir string) error {
	for _, pid := range pids {
		err := k.write(dir+"/cgroup.procs", strconv.Itoa(pid))
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("move the process %d to the cgroup %s: %w", pid, dir, err)
		}
	}
	return nil
}

// set writes the limits of a group.
func (p *place) set(k *kernel, dir string, l Limits) error {
	controllers := l.controllers()
	for _, c := range p.needs {
		if !slices.Contains(controllers, c) {
			continue
		}
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
				return k.explainSetting(s, dir, err)
			}
		}
	}
	return nil
}

// restore undoes the changes of prepare.
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
	// Processes can return only after the controllers are disabled for the children.
	var err error
	for _, e := range slices.Backward(p.enabled) {
		if e := k.setSubtree("-", e.dir, e.controllers); !errors.Is(e, os.ErrNotExist) {
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
