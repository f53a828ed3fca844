// Package cgroup runs each command of a build in its own control group, so that the
// kernel limits its memory, CPU time and number of processes.
//
// A [Maker] finds the cgroup below which groups can be made, in cgroup version 2 or in
// the hierarchies of version 1. It makes one for trial before a build begins, so that an
// unsupported limit is reported early, with a remedy. A [Group] is made for one command.
// The child process enters it before it executes the command, and the group is removed
// after the command. Makers hold a lock on their groups. A group without a lock belongs
// to a process that was killed: the next Maker in the same cgroup removes it, and so
// does [Sweep].
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Requirement is an unmet requirement of a feature of the sandbox.
type Requirement struct {
	Feature string // an isolation mode, a kind of snapshot, or [Feature], for example
	Problem string // the missing part
	Remedy  string // how to provide it
}

// Error returns the problem and its remedy.
func (r Requirement) Error() string { return r.Problem + ": " + r.Remedy }

// Feature is the feature that this package's requirements belong to.
const Feature = "limits"

// unmet returns an error that wraps a Requirement.
func unmet(problem, remedy string) error {
	return fmt.Errorf("cannot limit steps: %w", &Requirement{Feature, problem, remedy})
}

// Caller describes the program that groups are made for.
type Caller struct {
	Root bool  // it is run by the machine's root
	PIDs []int // its processes; descendants of this process need not be listed
}

// Maker makes groups with the same limits. Its methods may be called concurrently. The
// methods of a nil Maker do nothing.
type Maker struct {
	limits    Limits
	kernel    *kernel
	others    []*Maker // with other limits at the same places
	unlimited bool     // makes no groups: only the others do, or none

	mu     sync.Mutex
	places []*place
	left   []*Group // could not be removed
}

// Open finds the cgroup for new groups, removes groups that killed processes have left
// in it, and tries to limit a process. If a requirement is not met, the error wraps a
// [*Requirement]. Without limits Open returns a nil Maker.
func Open(l Limits, c Caller) (*Maker, error) { return thisKernel(c).open(l) }

// With is Open for a Maker that has further ones, which Other returns. It returns a nil
// Maker only if no limits are set at all.
func With(l Limits, others []Limits, c Caller) (*Maker, error) {
	return thisKernel(c).open(l, others...)
}

// Other returns the Maker of groups with other limits, which With was given. It is nil
// for no limits, and closed with m.
func (m *Maker) Other(l Limits) *Maker {
	if m == nil || l == (Limits{}) {
		return nil
	}
	for _, o := range append([]*Maker{m}, m.others...) {
		if o.limits == l {
			return o
		}
	}
	return nil
}

func (k *kernel) open(l Limits, others ...Limits) (*Maker, error) {
	m := &Maker{limits: l, kernel: k, unlimited: l == (Limits{})}
	for _, o := range others {
		if o != (Limits{}) && m.Other(o) == nil {
			m.others = append(m.others, &Maker{limits: o, kernel: k})
		}
	}
	if l == (Limits{}) && len(m.others) == 0 {
		return nil, nil
	}
	err := m.prepare()
	for _, o := range append([]*Maker{m}, m.others...) {
		if o.places = m.places; err == nil && o.limits != (Limits{}) {
			err = o.try()
		}
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// controllers returns the controllers that the limits of m and the others need.
func (m *Maker) controllers() (list []string) {
	for _, o := range append([]*Maker{m}, m.others...) {
		list = append(list, o.limits.controllers()...)
	}
	return list
}

// prepare finds and prepares the cgroups for all needed controllers.
func (m *Maker) prepare() error {
	all, err := m.kernel.hierarchies()
	if err != nil {
		return err
	}
	if m.places, err = choose(all, m.controllers(), m.limits.Parent); err != nil {
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

// try makes a group and starts a process in it.
func (m *Maker) try() error {
	g, err := m.New()
	if err != nil {
		return err
	}
	err = m.kernel.try(g.Files())
	if err != nil {
		err = m.kernel.explain(g.held[0].dir, err)
	}
	return errors.Join(err, g.Remove())
}

// New makes a group. The caller removes it when its command has ended.
func (m *Maker) New() (*Group, error) {
	if m == nil || m.unlimited {
		return nil, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	g := &Group{maker: m}
	for _, p := range m.places {
		h, err := m.newHeld(p)
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

// newHeld makes a group in one hierarchy. If the parent cgroup was made by another
// process and removed since, it is made again.
func (m *Maker) newHeld(p *place) (held, error) {
	dir, lock, err := m.kernel.newCgroup(p.dir, groupPrefix)
	if errors.Is(err, unix.ENOENT) {
		if err = p.prepare(m.kernel, m.limits.Parent); err == nil {
			dir, lock, err = m.kernel.newCgroup(p.dir, groupPrefix)
		}
	}
	if err != nil {
		return held{}, m.kernel.explain(p.dir, err)
	}
	return held{dir, lock, p}, nil
}

// Close undoes the changes of Open and removes the groups that Remove could not.
func (m *Maker) Close() error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var err error
	for _, o := range m.others {
		o.places = nil // those of m
		err = errors.Join(err, o.Close())
	}
	for _, g := range m.left {
		err = errors.Join(err, g.remove())
	}
	m.left = nil
	for _, p := range slices.Backward(m.places) {
		m.kernel.sweep(p.dir) // again: during Open, processes of a killed build may still have been exiting
		err = errors.Join(err, p.restore(m.kernel))
	}
	return err
}

// Available returns the resources that can be limited. If some cannot, it also returns
// the error for the first of them.
func Available(c Caller) (resources []string, err error) { return thisKernel(c).available() }

func (k *kernel) available() (list []string, first error) {
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
		} else if first == nil {
			first = err
		}
	}
	return list, first
}

// newCgroup makes a cgroup with a name that begins with prefix. It returns it locked, so
// that other processes do not remove it.
func (k *kernel) newCgroup(parent, prefix string) (dir string, lock *os.File, err error) {
	for {
		dir = parent + "/" + newName(prefix)
		if err := k.mkdir(dir); err != nil {
			return "", nil, err
		}
		lock, err := os.Open(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // another process removed it before it was locked
		}
		if err != nil {
			return "", nil, errors.Join(err, k.rmdir(dir))
		}
		locked := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
		if locked && isAt(dir, lock) {
			return dir, lock, nil
		}
		lock.Close()
	}
}

// isAt reports whether dir still is the path of an open directory.
func isAt(dir string, opened *os.File) bool {
	now, err := os.Stat(dir)
	if err != nil {
		return false
	}
	then, err := opened.Stat()
	return err == nil && os.SameFile(now, then)
}
