package helper

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// overlayOptions are the same for every user and kernel, so that one store serves all.
func overlayOptions() []option {
	return []option{
		{"index", "off"}, {"metacopy", "off"}, {"redirect_dir", "nofollow"}, {"xino", "off"},
		{"userxattr", ""}, {"volatile", ""},
	}
}

// layers are the parts of an overlay, lowers topmost first.
type layers struct {
	lowers      []string
	upper, work string // "": it is read-only
	text        bool   // as one text of options
}

// mount returns an unattached mount of the overlay, or where the kernel cannot make
// one, a mount attached at place.
func (l layers) mount(place string) (fd int, attached bool, err error) {
	if !l.text {
		fd, err := l.mountByPart()
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
			return fd, false, err
		}
		// Before Linux 6.5 there was no lowerdir+; a mistake of ours fails again below.
	}
	if err := l.mountByText(place); err != nil {
		return -1, false, err
	}
	fd, err = unix.Open(place, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return fd, true, err
}

func (l layers) mountByPart() (int, error) {
	options := make([]option, 0, len(l.lowers)+8)
	var held []int
	defer func() {
		for _, fd := range held {
			unix.Close(fd)
		}
	}()
	add := func(key, path string) error {
		// The kernel takes values below 256 bytes only.
		if len(path) > 255 {
			fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open %s: %w", path, err)
			}
			held = append(held, fd)
			path = "/proc/self/fd/" + strconv.Itoa(fd)
		}
		options = append(options, option{key, path})
		return nil
	}
	for _, dir := range l.lowers {
		if err := add("lowerdir+", dir); err != nil {
			return -1, err
		}
	}
	if l.upper != "" {
		if err := errors.Join(add("upperdir", l.upper), add("workdir", l.work)); err != nil {
			return -1, err
		}
	}
	return newFS("overlay", noDev, append(options, overlayOptions()...)...)
}

// mountByText mounts by mount(2), whose options are limited to a page: short links
// stand for the folders.
func (l layers) mountByText(place string) error {
	links, err := os.MkdirTemp(scratch, "links")
	if err != nil {
		return err
	}
	defer os.RemoveAll(links)
	text := make([]byte, 0, unix.Getpagesize())
	add := func(before, path string, number int) {
		name := strconv.FormatInt(int64(number), 36)
		err = errors.Join(err, os.Symlink(path, links+"/"+name))
		text = append(append(text, before...), name...)
	}
	before := "lowerdir="
	for i, dir := range l.lowers {
		add(before, dir, i+2)
		before = ":"
	}
	if l.upper != "" {
		add(",upperdir=", l.upper, 0)
		add(",workdir=", l.work, 1)
	}
	for _, o := range overlayOptions() {
		text = append(append(text, ','), o.key...)
		if o.value != "" {
			text = append(append(text, '='), o.value...)
		}
	}
	if err != nil {
		return err
	}
	if len(text) >= unix.Getpagesize() {
		return fmt.Errorf("mount overlay: %d layers are too many for this kernel", len(l.lowers))
	}
	if err := unix.Chdir(links); err != nil {
		return err
	}
	if err := unix.Mount("overlay", place, "overlay", unix.MS_NODEV, string(text)); err != nil {
		return l.refused(err)
	}
	return unix.Chdir("/")
}

// refused says what to do about a file system that can be no part of an overlay: one
// that is an overlay itself, a network's, an old one.
func (l layers) refused(err error) error {
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("mount overlay: %w", err)
	}
	return fmt.Errorf("mount overlay: %w: the file system of %s cannot carry one: "+
		"put the store on a local disk, such as ext4, xfs or btrfs, with --root (cairn info tells more)", err, l.upper)
}
