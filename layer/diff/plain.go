package diff

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Record is what a plain tree looked like: enough of each path to see that it has
// been changed, without reading it.
type Record struct {
	stamps map[string]stamp
	latest unix.Timespec
}

// stamp is what the kernel says of a path. No change leaves all of it as it was.
type stamp struct {
	inode
	mode, uid, gid uint32
	rdev           uint64
	size           int64
	mtime, ctime   unix.Timespec
}

func stampOf(st *unix.Stat_t) stamp {
	s := stamp{inode{st.Dev, st.Ino}, st.Mode, st.Uid, st.Gid, st.Rdev, st.Size, st.Mtim, st.Ctim}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		s.size = 0
	}
	return s
}

// Look records a plain tree, and waits until the clock of the file system has moved
// on, so that any later change shows.
func Look(ctx context.Context, root string) (*Record, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("look at the tree %s: %w", root, err)
	}
	defer unix.Close(fd)
	r := &Record{stamps: map[string]stamp{}}
	if err := r.walk(ctx, place{fd, ""}, "."); err != nil {
		return nil, fmt.Errorf("look at the tree %s: %w", root, err)
	}
	return r, r.pass(ctx)
}

func (r *Record) walk(ctx context.Context, root place, dir string) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	at := root
	if dir != "." {
		at = root.child(dir)
	}
	var buf []byte
	names, err := at.names(&buf)
	if err != nil {
		return &os.PathError{Op: "read", Path: dir, Err: err}
	}
	for _, name := range names {
		path := join(dir, name)
		if len(path) > index.MaxPath {
			return fmt.Errorf("%s: the path is longer than %d bytes", path, index.MaxPath)
		}
		st, err := r.see(root, path)
		if err == nil && st.mode&unix.S_IFMT == unix.S_IFDIR {
			err = r.walk(ctx, root, path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// see records one path.
func (r *Record) see(root place, path string) (stamp, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(root.fd, path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return stamp{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	s := stampOf(&st)
	r.stamps[path] = s
	if s.ctime.Nano() > r.latest.Nano() {
		r.latest = s.ctime
	}
	return s, nil
}

// pass waits for a tick after the latest change.
func (r *Record) pass(ctx context.Context) error {
	for {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
			return err
		}
		// A file may come from a machine whose clock is ahead: then nothing is gained.
		if d := r.latest.Nano() - now.Nano(); d < 0 || d > int64(time.Second) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		time.Sleep(time.Millisecond)
	}
}

// Plain returns what differs between the plain tree root and what was recorded of it
// when it was the lower trees, topmost first, laid over each other. It is what Overlay
// returns: upper, prepared, becomes the tree of the changes. Only what has changed is
// read. The tree then says the same as a new one made of the lowers and upper, and the
// record, which is of it as it is now, serves for the next diff.
func Plain(ctx context.Context, root string, before *Record, upper string, lowers []string, o Options) ([]tarball.Change, *Record, error) {
	now, err := Look(ctx, root)
	if err != nil {
		return nil, nil, err
	}
	p := &plain{before: before, now: now, first: map[inode]string{}, forgiven: o.Touched}
	if p.root.fd, err = unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, nil, fmt.Errorf("read the changes in %s: %w", root, err)
	}
	defer unix.Close(p.root.fd)
	if p.upper.fd, err = unix.Open(upper, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, nil, fmt.Errorf("read the changes in %s: %w", root, err)
	}
	defer unix.Close(p.upper.fd)
	if err := p.copyUp(ctx); err != nil {
		return nil, nil, fmt.Errorf("read the changes in %s: %w", root, err)
	}
	s, err := overlay(ctx, upper, lowers, o)
	if err != nil {
		return nil, nil, err
	}
	if err := p.settle(s.nodes); err != nil {
		return nil, nil, fmt.Errorf("settle the changes in %s: %w", root, err)
	}
	return s.changes(upper), now, now.pass(ctx)
}

// plain is a diff of a plain tree.
type plain struct {
	before, now *Record
	root, upper place
	first       map[inode]string // of hard links
	forgiven    []string
}

// copyUp does what an overlay does while a step runs.
func (p *plain) copyUp(ctx context.Context) error {
	paths := p.touched()
	for _, path := range paths {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.copy(path); err != nil {
			return &os.PathError{Op: "copy", Path: path, Err: err}
		}
	}
	// Attributes of directories come last, as what is made in them changes their times.
	for _, path := range slices.Backward(append([]string{"."}, paths...)) {
		if st, ok := p.now.stamps[path]; path == "." || ok && st.mode&unix.S_IFMT == unix.S_IFDIR {
			if err := p.dressDir(path); err != nil {
				return &os.PathError{Op: "copy", Path: path, Err: err}
			}
		}
	}
	return nil
}

// touched lists what has changed, is new or gone, with all directories above.
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
		// What is gone with its directory, or hidden by what took its place, needs no more.
		dir := path.Dir(name)
		if st, ok := p.now.stamps[dir]; dir == "." || ok && st.mode&unix.S_IFMT == unix.S_IFDIR {
			add(name)
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// forgive takes what the sandbox has changed and changed back as it is now.
func (p *plain) forgive() {
	for _, name := range p.forgiven {
		old, was := p.before.stamps[name]
		st, is := p.now.stamps[name]
		if old.ctime = st.ctime; was && is {
			p.before.stamps[name] = old
		}
	}
}

func (p *plain) copy(name string) error {
	st, ok := p.now.stamps[name]
	if !ok {
		return tarball.MakeWhiteout(p.upper.fd, name)
	}
	switch st.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return unix.Mkdirat(p.upper.fd, name, 0o700)
	case unix.S_IFREG:
		if first, ok := p.first[st.inode]; ok {
			return unix.Linkat(p.upper.fd, first, p.upper.fd, name, 0)
		}
		p.first[st.inode] = name
		in, err := tarball.OpenFile(p.root.fd, name)
		if err != nil {
			return err
		}
		defer in.Close()
		return tarball.CopyFile(p.upper.fd, name, in)
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
	return p.dress(name, st)
}

// dress gives what is neither file nor directory its attributes.
func (p *plain) dress(name string, st stamp) error {
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

func (p *plain) dressDir(name string) error {
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
	return tarball.CopyAttributes(to, from)
}

// settle gives the plain tree the times that the layer says, and takes from it what is
// no part of one.
func (p *plain) settle(nodes []*node) error {
	var again []*node
	for _, n := range nodes {
		switch {
		case n.parent == nil:
		case n.socket || n.missing:
			if err := p.drop(n); err != nil {
				return &os.PathError{Op: "remove", Path: n.Path, Err: err}
			}
		case n.Type != index.TypeWhiteout:
			again = append(again, n)
		}
	}
	for _, n := range again {
		at := n.MTime
		if !n.emit {
			at = n.below
		}
		if err := setTime(p.root.fd, n.Path, at); err != nil {
			return &os.PathError{Op: "settle", Path: n.Path, Err: err}
		}
	}
	for _, n := range again { // when all is done: hard links share their times
		if _, err := p.now.see(p.root, n.Path); err != nil {
			return err
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
	return unix.Unlinkat(p.root.fd, n.Path, 0)
}
