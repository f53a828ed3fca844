package mount

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// overlayOptions returns the options of all overlays. They are the same for every user
// and kernel, so that all can share a store.
func overlayOptions() []Option {
	return []Option{
		{"index", "off"}, {"metacopy", "off"}, {"redirect_dir", "nofollow"}, {"xino", "off"},
		{"userxattr", ""}, {"volatile", ""},
	}
}

// Overlay describes an overlay mount.
type Overlay struct {
	Lowers      []string // topmost first
	Upper, Work string   // "" for a read-only overlay
	// Text means that the overlay is mounted by mount(2), with its options as one text.
	// Otherwise this is done only if the kernel does not support single options.
	Text bool
	// Scratch is a writable directory for short links to the layers, used with Text.
	Scratch string
}

// Mount makes the overlay. It returns an unattached mount or, if the overlay was mounted
// by mount(2), a descriptor of the mount, which is then attached at the path place.
func (o *Overlay) Mount(place string) (fd int, attached bool, err error) {
	if !o.Text {
		fd, err := o.mountByOption()
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
			return fd, false, err
		}
		// Linux has lowerdir+ since 6.5. If the error has another reason, the next
		// attempt fails too.
	}
	if err := o.mountByText(place); err != nil {
		return -1, false, err
	}
	fd, err = unix.Open(place, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return fd, true, err
}

func (o *Overlay) mountByOption() (int, error) {
	options := make([]Option, 0, len(o.Lowers)+8)
	var held []int
	defer func() {
		for _, fd := range held {
			unix.Close(fd)
		}
	}()
	add := func(key, path string) error {
		// The kernel accepts values below 256 bytes only, and in some keys a backslash
		// escapes the next character.
		if len(path) > 255 || strings.Contains(path, `\`) {
			fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open %s: %w", path, err)
			}
			held = append(held, fd)
			path = "/proc/self/fd/" + strconv.Itoa(fd)
		}
		options = append(options, Option{key, path})
		return nil
	}
	for _, dir := range o.Lowers {
		if err := add("lowerdir+", dir); err != nil {
			return -1, err
		}
	}
	if o.Upper != "" {
		if err := errors.Join(add("upperdir", o.Upper), add("workdir", o.Work)); err != nil {
			return -1, err
		}
	}
	return New("overlay", NoDev, append(options, overlayOptions()...)...)
}

// mountByText mounts the overlay by mount(2) at a path. The options are limited to one
// page, so the layers are given by short links in the working directory.
func (o *Overlay) mountByText(place string) error {
	dir, err := os.MkdirTemp(o.Scratch, "links")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	text, links := o.optionText()
	for name, target := range links {
		if err := os.Symlink(target, dir+"/"+name); err != nil {
			return err
		}
	}
	if len(text) >= unix.Getpagesize() {
		return fmt.Errorf("mount overlay: %d layers are too many for this kernel", len(o.Lowers))
	}
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	if err := unix.Mount("overlay", place, "overlay", unix.MS_NODEV, text); err != nil {
		return o.explain(err)
	}
	return unix.Chdir("/")
}

// optionText returns the options as a text that has names of links in place of paths,
// and the targets of these links.
func (o *Overlay) optionText() (text string, links map[string]string) {
	links = map[string]string{}
	buf := make([]byte, 0, unix.Getpagesize())
	add := func(before, path string, number int) {
		name := strconv.FormatInt(int64(number), 36)
		links[name] = path
		buf = append(append(buf, before...), name...)
	}
	before := "lowerdir="
	for i, dir := range o.Lowers {
		add(before, dir, i+2)
		before = ":"
	}
	if o.Upper != "" {
		add(",upperdir=", o.Upper, 0)
		add(",workdir=", o.Work, 1)
	}
	for _, option := range overlayOptions() {
		buf = append(append(buf, ','), option.Key...)
		if option.Value != "" {
			buf = append(append(buf, '='), option.Value...)
		}
	}
	return string(buf), links
}

// explain adds a remedy to the error for file systems that overlayfs does not support,
// such as another overlay, a network file system, or an old one.
func (o *Overlay) explain(err error) error {
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("mount overlay: %w", err)
	}
	return fmt.Errorf("mount overlay: %w: overlayfs does not support the file system of %s: "+
		"put the store on a local disk, such as ext4, xfs or btrfs, with --root (see cairn info)", err, o.Upper)
}
