package diff

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tree"
)

// Record is the state of a plain tree: enough about each path to detect a change
// without reading it.
type Record struct {
	stamps map[string]stamp
	latest unix.Timespec
}

// stamp is the kernel's data of a path. Every change alters some of it.
type stamp struct {
	inode
	mode, uid, gid uint32
	rdev           uint64
	size           int64
	mtime, ctime   unix.Timespec
}

func (s stamp) isDir() bool { return s.mode&unix.S_IFMT == unix.S_IFDIR }

func stampOf(st *unix.Stat_t) stamp {
	s := stamp{inode{st.Dev, st.Ino}, st.Mode, st.Uid, st.Gid, st.Rdev, st.Size, st.Mtim, st.Ctim}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		s.size = 0
	}
	return s
}

// Look records the state of a plain tree. It waits until the clock of the file
// system has advanced, so that every later change is detected.
func Look(ctx context.Context, root string) (*Record, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("record the tree %s: %w", root, err)
	}
	l := &look{record: &Record{stamps: map[string]stamp{}}}
	l.tasks, l.ctx = errgroup.WithContext(ctx)
	l.tasks.SetLimit(runtime.GOMAXPROCS(0) + 1)
	l.tasks.Go(func() error { return l.dir(fd, ".", new([]byte)) })
	if err := l.tasks.Wait(); err != nil {
		return nil, fmt.Errorf("record the tree %s: %w", root, err)
	}
	return l.record, l.record.pass(ctx)
}

// look is the state of one call of Look.
type look struct {
	ctx    context.Context
	tasks  *errgroup.Group
	mu     sync.Mutex
	record *Record
}

// found is an entry of a directory.
type found struct {
	name, path string
	stamp      stamp
}

// dir records the tree below the open directory fd, which it closes. buf is a buffer for
// the names.
func (l *look) dir(fd int, dir string, buf *[]byte) error {
	defer unix.Close(fd)
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	names, err := readNames(fd, buf)
	if err != nil {
		return &os.PathError{Op: "read", Path: dir, Err: err}
	}
	all := make([]found, len(names))
	for i, name := range names {
		path := listing.Join(dir, name)
		if len(path) > listing.MaxPath {
			return fmt.Errorf("%s: the path is longer than %d bytes", path, listing.MaxPath)
		}
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "stat", Path: path, Err: err}
		}
		all[i] = found{name, path, stampOf(&st)}
	}
	l.add(all)
	for i := range all {
		if !all[i].stamp.isDir() {
			continue
		}
		if err := l.descend(fd, &all[i], buf); err != nil {
			return err
		}
	}
	return nil
}

// descend reads a subdirectory, in another goroutine if a processor is free.
func (l *look) descend(dir int, f *found, buf *[]byte) error {
	fd, err := unix.Openat(dir, f.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: f.path, Err: err}
	}
	if l.tasks.TryGo(func() error { return l.dir(fd, f.path, new([]byte)) }) {
		return nil
	}
	return l.dir(fd, f.path, buf)
}

func (l *look) add(all []found) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range all {
		l.record.add(all[i].path, all[i].stamp)
	}
}

func (r *Record) add(path string, s stamp) {
	r.stamps[path] = s
	if s.ctime.Nano() > r.latest.Nano() {
		r.latest = s.ctime
	}
}

// see records one path.
func (r *Record) see(root place, path string) (stamp, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(root.fd, path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return stamp{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	s := stampOf(&st)
	r.add(path, s)
	return s, nil
}

// pass waits for the first tick after the latest change.
func (r *Record) pass(ctx context.Context) error {
	for {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
			return err
		}
		// Waiting does not help for a file from a machine whose clock is ahead.
		if d := r.latest.Nano() - now.Nano(); d < 0 || d > int64(time.Second) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		time.Sleep(time.Millisecond)
	}
}

// Plain returns the differences between the plain tree root and its recorded state,
// in which it was equal to the lower trees, topmost first, merged. They are those
// that Overlay would return, and upper, which must be prepared, becomes their tree.
// Plain reads only the paths that have changed. Afterwards root is equal to the
// lower trees and upper merged, and the returned record is its state for the next
// call.
func Plain(ctx context.Context, root string, before *Record, upper string, lowers []string, o Options) (Result, *Record, error) {
	now, err := Look(ctx, root)
	if err != nil {
		return Result{}, nil, err
	}
	p := &plain{before: before, now: now, first: map[inode]string{}, forgiven: o.Touched}
	if p.root.fd, err = unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return Result{}, nil, fmt.Errorf("read the changes in %s: %w", root, err)
	}
	defer unix.Close(p.root.fd)
	if p.upper.fd, err = unix.Open(upper, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return Result{}, nil, fmt.Errorf("read the changes in %s: %w", root, err)
	}
	defer unix.Close(p.upper.fd)
	if err := p.copyUp(ctx); err != nil {
		return Result{}, nil, fmt.Errorf("read the changes in %s: %w", root, err)
	}
	s, err := overlay(ctx, upper, lowers, o)
	if err != nil {
		return Result{}, nil, err
	}
	if err := errors.Join(unix.Chmod(root, RootMode), p.settle(s.nodes)); err != nil {
		return Result{}, nil, fmt.Errorf("clean up the changes in %s: %w", root, err)
	}
	return s.result(upper), now, now.pass(ctx)
}

// plain is a diff of a plain tree.
type plain struct {
	before, now *Record
	root, upper place
	first       map[inode]string // inode of a hard link -> its first copied path
	forgiven    []string
}

// copyUp copies changed files to the upper directory, as an overlay does during a
// step.
func (p *plain) copyUp(ctx context.Context) error {
	paths := p.touched()
	for _, path := range paths {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.copyFile(path); err != nil {
			return &os.PathError{Op: "copy", Path: path, Err: err}
		}
	}
	// Directories come last, as making entries in them changes their times.
	for _, path := range slices.Backward(append([]string{"."}, paths...)) {
		if st, ok := p.now.stamps[path]; path == "." || ok && st.isDir() {
			if err := p.copyDirAttributes(path); err != nil {
				return &os.PathError{Op: "copy", Path: path, Err: err}
			}
		}
	}
	return nil
}

// touched lists the paths that were changed, added or removed, and all their parent
// directories.
func (p *plain) touched() []string {
	found := map[string]bool{}
	add := func(name string) {
		for ; name != "." && !found[name]; name = path.Dir(name) {
			found[name] = true
		}
	}
	p.forgive()
	for name, st := range p.now.stamps {
		if old, ok := p.before.stamps[name]; !ok || old != st {
			add(name)
		}
	}
	for name := range p.before.stamps {
		if _, ok := p.now.stamps[name]; ok {
			continue
		}
		// A path that was removed with its directory, or hidden by a replacement of
		// it, needs no whiteout.
		dir := path.Dir(name)
		if st, ok := p.now.stamps[dir]; dir == "." || ok && st.isDir() {
			add(name)
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// forgive records the current state of paths that the sandbox has changed and
// restored.
func (p *plain) forgive() {
	for _, name := range p.forgiven {
		old, was := p.before.stamps[name]
		st, is := p.now.stamps[name]
		if old.ctime = st.ctime; was && is {
			p.before.stamps[name] = old
		}
	}
}

func (p *plain) copyFile(name string) error {
	st, ok := p.now.stamps[name]
	if !ok {
		return tree.MakeWhiteout(p.upper.fd, name)
	}
	switch st.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return unix.Mkdirat(p.upper.fd, name, 0o700)
	case unix.S_IFREG:
		if first, ok := p.first[st.inode]; ok {
			return unix.Linkat(p.upper.fd, first, p.upper.fd, name, 0)
		}
		p.first[st.inode] = name
		in, err := tree.OpenFile(p.root.fd, name)
		if err != nil {
			return err
		}
		defer in.Close()
		return tree.CopyFile(p.upper.fd, name, in)
	case unix.S_IFLNK:
		link, err := p.root.child(name).readlink(int(st.size))
		if err == nil {
			err = unix.Symlinkat(link, p.upper.fd, name)
		}
		if err != nil {
			return err
		}
	default:
		if err := unix.Mknodat(p.upper.fd, name, st.mode, int(st.rdev)); err != nil {
			return err
		}
	}
	return p.copyOwnerAndTimes(name, st)
}

// copyOwnerAndTimes sets the attributes of an entry that is neither a file nor a
// directory.
func (p *plain) copyOwnerAndTimes(name string, st stamp) error {
	if err := unix.Fchownat(p.upper.fd, name, int(st.uid), int(st.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(p.upper.fd, name, st.mode&0o7777, 0); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(p.upper.fd, name, []unix.Timespec{st.mtime, st.mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

func (p *plain) copyDirAttributes(name string) error {
	const how = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	from, err := unix.Openat(p.root.fd, name, how, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := unix.Openat(p.upper.fd, name, how, 0)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return tree.CopyAttributes(to, from)
}

// settle removes files that layers cannot contain from the plain tree, and restores the
// times of their directories.
func (p *plain) settle(nodes []*node) error {
	for _, n := range nodes {
		if !n.socket && !n.missing {
			continue
		}
		if err := p.drop(n); err != nil {
			return &os.PathError{Op: "remove", Path: n.Path, Err: err}
		}
	}
	return nil
}

// drop removes a socket.
func (p *plain) drop(n *node) error {
	if _, ok := p.now.stamps[n.Path]; !ok {
		return nil
	}
	delete(p.now.stamps, n.Path)
	if err := unix.Unlinkat(p.root.fd, n.Path, 0); err != nil || n.parent.parent == nil {
		return err
	}
	dir := n.parent.Path
	if err := setTime(p.root.fd, dir, p.now.stamps[dir].mtime); err != nil {
		return err
	}
	_, err := p.now.see(p.root, dir)
	return err
}
