// Package cgroup gives each command of a build a control group of its own, so that the
// kernel limits its memory, its processors and how many processes it has.
//
// A [Maker] finds the place where groups can be made, in version 2 of the kernel's
// interface or in the hierarchies of version 1, and tries one before a build begins:
// what cannot be limited is refused then, with what would help. A [Group] is made for
// one command, which writes itself into it before it is the command, and is removed
// after it. One that is left, as its maker was killed, has no lock any more: the next
// maker at the same place removes it, and so does [Sweep].
package cgroup

import (
	"errors"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Lack is what keeps commands from being limited.
type Lack struct {
	What  string // what is missing
	Grant string // how to grant it
}

func (l *Lack) Error() string { return "steps cannot be limited here: " + l.What + ": " + l.Grant }

// Caller is whom groups are made for.
type Caller struct {
	Root bool  // the machine's root, so that advice is for root
	PIDs []int // processes that are the program itself; what descends from this one is too
}

// Maker makes groups with the same limits. Its methods may be used at once; those of a
// nil one do nothing.
type Maker struct {
	limits Limits
	kernel *kernel

	mu     sync.Mutex
	places []*place
	left   []*Group // that could not be removed
}

// Open finds out where groups can be made, removes what others have left there, and
// tries whether a process can be limited. The error is a [*Lack] when the machine does
// not grant it. Without limits there is nothing to make: the Maker is nil.
func Open(l Limits, c Caller) (*Maker, error) { return thisKernel(c).open(l) }

func (k *kernel) open(l Limits) (*Maker, error) {
	if l == (Limits{}) {
		return nil, nil
	}
	m := &Maker{limits: l, kernel: k}
	err := m.prepare()
	if err == nil {
		err = m.try()
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// prepare finds the places of all controllers that are needed.
func (m *Maker) prepare() error {
	all, err := m.kernel.hierarchies()
	if err != nil {
		return err
	}
	if m.places, err = choose(all, m.limits); err != nil {
		return err
	}
	for _, p := range m.places {
		if err := p.prepare(m.kernel, m.limits.Parent); err != nil {
			return err
		}
		m.kernel.sweep(p.dir)
	}
	return nil
}

// try makes a group and lets a process enter it.
func (m *Maker) try() error {
	g, err := m.New()
	if err != nil {
		return err
	}
	err = m.kernel.try(g.Files())
	if err != nil {
		err = m.kernel.refusal(g.held[0].dir, err)
	}
	return errors.Join(err, g.Remove())
}

// New makes a group. Remove it when its command has ended.
func (m *Maker) New() (*Group, error) {
	if m == nil {
		return nil, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	g := &Group{maker: m}
	for _, p := range m.places {
		h, err := m.make(p)
		if err == nil {
			g.held = append(g.held, h)
			err = p.set(m.kernel, h.dir, m.limits)
		}
		if err != nil {
			return nil, errors.Join(err, g.remove())
		}
	}
	return g, nil
}

// make makes a group in one hierarchy. Another process that had made the place may
// have removed it since.
func (m *Maker) make(p *place) (held, error) {
	dir, lock, err := m.kernel.newFolder(p.dir, groupPrefix)
	if errors.Is(err, unix.ENOENT) {
		if err = p.prepare(m.kernel, m.limits.Parent); err == nil {
			dir, lock, err = m.kernel.newFolder(p.dir, groupPrefix)
		}
	}
	if err != nil {
		return held{}, m.kernel.refusal(p.dir, err)
	}
	return held{dir, lock, p}, nil
}

// Close takes back what Open has changed, and removes groups that Remove could not.
func (m *Maker) Close() error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var err error
	for _, g := range m.left {
		err = errors.Join(err, g.remove())
	}
	m.left = nil
	for _, p := range slices.Backward(m.places) {
		m.kernel.sweep(p.dir) // processes of a killed build may still have been ending when Open did so
		err = errors.Join(err, p.restore(m.kernel))
	}
	return err
}

// Grants tells which limits can be set here, and why not the others.
func Grants(c Caller) (list []string, why error) { return thisKernel(c).grants() }

func (k *kernel) grants() (list []string, why error) {
	for _, l := range []struct {
		name string
		Limits
	}{{"memory", Limits{Memory: 1 << 30}}, {"cpu", Limits{Quota: 10000}}, {"pids", Limits{PIDs: 1000}}} {
		m, err := k.open(l.Limits)
		if err == nil {
			err = m.Close()
		}
		if err == nil {
			list = append(list, l.name)
		} else if why == nil {
			why = err
		}
	}
	return list, why
}

// newFolder makes a cgroup with a name that tells whose it is, and locks it, which
// tells others that this process lives.
func (k *kernel) newFolder(parent, prefix string) (dir string, lock *os.File, err error) {
	for {
		dir = parent + "/" + newName(prefix)
		if err := k.mkdir(dir); err != nil {
			return "", nil, err
		}
		lock, err := os.Open(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // taken for a leftover before it was locked
		}
		if err != nil {
			return "", nil, errors.Join(err, k.rmdir(dir))
		}
		locked := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
		if locked && still(dir, lock) {
			return dir, lock, nil
		}
		lock.Close()
	}
}

// still tells whether a folder is the one that was opened.
func still(dir string, opened *os.File) bool {
	now, err := os.Stat(dir)
	if err != nil {
		return false
	}
	then, err := opened.Stat()
	return err == nil && os.SameFile(now, then)
}
