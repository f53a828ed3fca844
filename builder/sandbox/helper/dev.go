package helper

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// device is a node of a step's /dev.
type device struct {
	name         string
	major, minor uint32
}

func devices() []device {
	return []device{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}
}

// mountDev mounts a /dev of the step's own. A step may make device nodes but must not
// open them, so /dev is mounted noDev and each usual node once more by itself.
func (t *tree) mountDev() error {
	dev, err := newFS("tmpfs", noSuid, option{"mode", "755"}, option{"size", "65536k"})
	if err != nil {
		return err
	}
	t.dev = dev
	place, err := open(t.root, "dev", unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(place)
	if err := unix.MoveMount(dev, "", place, "", emptyPaths); err != nil {
		return err
	}
	if err := t.addDevices(); err != nil {
		return err
	}
	if t.req.Insecure && t.s.makesNodes {
		if err := t.addInsecureDevices(); err != nil {
			return err
		}
	}
	for _, l := range [][2]string{
		{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"}, {"core", "/proc/kcore"},
	} {
		if err := unix.Symlinkat(l[1], dev, l[0]); err != nil {
			return err
		}
	}
	return t.addDevMounts()
}

// addDevices makes the nodes, or where that is not allowed borrows the machine's.
func (t *tree) addDevices() error {
	nodes := make([]int, 0, 8)
	defer func() {
		for _, fd := range nodes {
			unix.Close(fd)
		}
	}()
	for _, d := range devices() {
		node, err := t.node(d)
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		nodes = append(nodes, node)
	}
	if !t.req.Insecure {
		if err := setAttributes(t.dev, noDev, 0); err != nil {
			return err
		}
	}
	for i, d := range devices() {
		if err := unix.MoveMount(nodes[i], "", t.dev, d.name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	return nil
}

// addInsecureDevices makes what an insecure step may use besides, as BuildKit has it,
// whether the machine has it or not.
func (t *tree) addInsecureDevices() error {
	if err := unix.Mkdirat(t.dev, "net", 0o755); err != nil {
		return err
	}
	nodes := []device{{"kmsg", 1, 11}, {"cuse", 10, 203}, {"fuse", 10, 229}, {"kvm", 10, 232}, {"net/tun", 10, 200}, {"loop-control", 10, 237}}
	for _, d := range nodes {
		if err := unix.Mknodat(t.dev, d.name, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	const loops = 16
	for i := range uint32(loops) {
		name := "loop" + strconv.Itoa(int(i))
		if err := unix.Mknodat(t.dev, name, unix.S_IFBLK|0o660, int(unix.Mkdev(7, i))); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (t *tree) node(d device) (int, error) {
	if t.s.makesNodes {
		number := int(unix.Mkdev(d.major, d.minor))
		if err := unix.Mknodat(t.dev, d.name, unix.S_IFCHR|0o666, number); err != nil {
			return -1, err
		}
		return cloneTree(t.dev, d.name, 0)
	}
	if err := unix.Mknodat(t.dev, d.name, unix.S_IFREG|0o666, 0); err != nil {
		return -1, err
	}
	return cloneTree(unix.AT_FDCWD, "/dev/"+d.name, 0)
}

func (t *tree) addDevMounts() error {
	pts := []option{{"newinstance", ""}, {"ptmxmode", "0666"}, {"mode", "0620"}}
	if t.s.ttyGroup {
		pts = append(pts, option{"gid", "5"})
	}
	for _, m := range []struct {
		name, kind string
		attributes int
		options    []option
	}{
		{"pts", "devpts", noSuid | noExec, pts},
		{"shm", "tmpfs", noSuid | noDev | noExec, []option{{"mode", "1777"}, {"size", strconv.FormatInt(t.req.ShmSize, 10)}}},
		{"mqueue", "mqueue", noSuid | noDev | noExec, nil},
	} {
		if err := t.addDevMount(m.name, m.kind, m.attributes, m.options); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

func (t *tree) addDevMount(name, kind string, attributes int, options []option) error {
	if err := unix.Mkdirat(t.dev, name, 0o755); err != nil {
		return err
	}
	mount, err := newFS(kind, attributes, options...)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	return unix.MoveMount(mount, "", t.dev, name, unix.MOVE_MOUNT_F_EMPTY_PATH)
}
