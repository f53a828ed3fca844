package helper

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// mountPlain mounts a plain tree. Mount points that it lacks are made in it, and taken
// out again after the step: no time of a directory shows that they were there.
func (t *tree) mountPlain() (err error) {
	if t.root, err = cloneTree(unix.AT_FDCWD, t.req.Root, 0); err != nil {
		return fmt.Errorf("mount the tree: %w", err)
	}
	if err := setAttributes(t.root, noDev, 0); err != nil {
		return err
	}
	missing, err := t.missing(t.root)
	if err != nil {
		return err
	}
	for _, s := range missing {
		if err := t.plainStub(s); err != nil {
			return fmt.Errorf("make mount point /%s: %w", s.path, err)
		}
	}
	return t.attachRoot()
}

// plainStub makes a mount point. It works on the tree itself, not on its mount: that
// is gone when the mount point is removed.
func (t *tree) plainStub(s stub) error {
	root, err := unix.Open(t.req.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	t.undo = append(t.undo, func() { unix.Close(root) })
	p := stubs{root: root, touched: &t.touched}
	defer func() { t.undo = append(t.undo, p.undo...) }()
	if err := p.parents(path.Dir(s.path)); err != nil {
		return err
	}
	if !s.file {
		return p.folder(s.path)
	}
	return p.make(s.path, func(dir int, name string) error {
		return unix.Mknodat(dir, name, unix.S_IFREG|0o644, 0)
	}, 0)
}

// stubs makes what a plain tree lacks, and knows how to remove it if it is empty then.
type stubs struct {
	root    int
	undo    []func()
	touched *touched
}

// touched are paths of a plain tree that the sandbox has changed and changed back. Only
// the kernel's own time of change still tells.
type touched struct{ text strings.Builder }

func (t *touched) add(paths ...string) {
	for _, p := range paths {
		t.text.WriteString(p + "\x00")
	}
}

func (t *touched) String() string { return t.text.String() }

// parents makes missing directories on the way.
func (s *stubs) parents(clean string) error {
	if clean == "." {
		return nil
	}
	if fd, err := openClean(s.root, clean, unix.O_PATH|unix.O_DIRECTORY); err != unix.ENOENT {
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	if err := s.parents(path.Dir(clean)); err != nil {
		return err
	}
	return s.folder(clean)
}

func (s *stubs) folder(clean string) error {
	return s.make(clean, func(dir int, name string) error { return unix.Mkdirat(dir, name, 0o755) }, unix.AT_REMOVEDIR)
}

func (s *stubs) make(clean string, create func(dir int, name string) error, remove int) error {
	dir, err := openClean(s.root, path.Dir(clean), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	s.touched.add(path.Dir(clean))
	name := path.Base(clean)
	s.undo = append(s.undo, func() {
		timeless(dir, func() error { return unix.Unlinkat(dir, name, remove) })
		unix.Close(dir)
	})
	return timeless(dir, func() error { return create(dir, name) })
}

// timeless does something in a directory whose time must not tell.
func timeless(dir int, do func() error) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	err := do()
	back := []unix.Timespec{st.Atim, st.Mtim}
	return errors.Join(err, unix.UtimesNanoAt(dir, "", back, unix.AT_EMPTY_PATH))
}
