package runtime

import (
	"fmt"
	"strconv"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/inroot"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/mount"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
	"golang.org/x/sys/unix"
)

// mountDev mounts a new /dev. A step may make device nodes but must not open them, so
// /dev is mounted with NoDev, and each usual node is mounted without it on itself.
func (t *tree) mountDev() error {
	dev, err := mount.New("tmpfs", mount.NoSuid, mount.Option{Key: "mode", Value: "755"}, mount.Option{Key: "size", Value: "65536k"})
	if err != nil {
		return err
	}
	t.dev = dev
	at, err := inroot.Open(t.root, "dev", unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	if err := unix.MoveMount(dev, "", at, "", mount.EmptyPaths); err != nil {
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

// addDevices adds the usual devices: new nodes or, if these cannot be made, mounts of the
// machine's.
func (t *tree) addDevices() error {
	nodes := make([]int, 0, 8)
	defer func() {
		for _, fd := range nodes {
			unix.Close(fd)
		}
	}()
	for _, d := range step.Devices() {
		node, err := t.mountNode(d)
		if err != nil {
			return fmt.Errorf("%s: %w", d.Name, err)
		}
		nodes = append(nodes, node)
	}
	if !t.req.Insecure {
		if err := mount.SetAttributes(t.dev, mount.NoDev, 0); err != nil {
			return err
		}
	}
	for i, d := range step.Devices() {
		if err := mount.AttachAt(nodes[i], t.dev, d.Name); err != nil {
			return fmt.Errorf("%s: %w", d.Name, err)
		}
	}
	return nil
}

// addInsecureDevices makes the additional nodes that BuildKit gives an insecure step,
// whether or not the machine has these devices.
func (t *tree) addInsecureDevices() error {
	if err := unix.Mkdirat(t.dev, "net", 0o755); err != nil {
		return err
	}
	for _, d := range step.InsecureDevices() {
		if err := unix.Mknodat(t.dev, d.Name, unix.S_IFCHR|0o666, int(unix.Mkdev(d.Major, d.Minor))); err != nil {
			return fmt.Errorf("%s: %w", d.Name, err)
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

// mountNode returns an unattached mount of a device node.
func (t *tree) mountNode(d step.Device) (int, error) {
	if t.s.makesNodes {
		number := int(unix.Mkdev(d.Major, d.Minor))
		if err := unix.Mknodat(t.dev, d.Name, unix.S_IFCHR|0o666, number); err != nil {
			return -1, err
		}
		return mount.Clone(t.dev, d.Name, 0)
	}
	if err := unix.Mknodat(t.dev, d.Name, unix.S_IFREG|0o666, 0); err != nil {
		return -1, err
	}
	fd, err := mount.Clone(unix.AT_FDCWD, "/dev/"+d.Name, 0)
	if err != nil {
		return -1, err
	}
	if err := checkDevice(fd, d); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// checkDevice returns an error if an open file is not the device d. Steps must not have
// an ordinary file in place of /dev/null.
func checkDevice(fd int, d step.Device) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(d.Major, d.Minor) {
		return fmt.Errorf("/dev/%s of the machine is not the device %d:%d: %w: let the container that cairn runs in have the usual devices",
			d.Name, d.Major, d.Minor, unix.ENODEV)
	}
	return nil
}

func (t *tree) addDevMounts() error {
	pts := []mount.Option{{Key: "newinstance", Value: ""}, {Key: "ptmxmode", Value: "0666"}, {Key: "mode", Value: "0620"}}
	if t.s.hasTTYGroup {
		pts = append(pts, mount.Option{Key: "gid", Value: "5"})
	}
	for _, m := range []struct {
		name, fstype string
		attributes   int
		options      []mount.Option
	}{
		{"pts", "devpts", mount.NoSuid | mount.NoExec, pts},
		{"shm", "tmpfs", mount.NoSuid | mount.NoDev | mount.NoExec, []mount.Option{{Key: "mode", Value: "1777"}, {Key: "size", Value: strconv.FormatInt(t.req.ShmSize, 10)}}},
		{"mqueue", "mqueue", mount.NoSuid | mount.NoDev | mount.NoExec, nil},
	} {
		if err := t.addDevMount(m.name, m.fstype, m.attributes, m.options); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

func (t *tree) addDevMount(name, fstype string, attributes int, options []mount.Option) error {
	if err := unix.Mkdirat(t.dev, name, 0o755); err != nil {
		return err
	}
	fd, err := mount.New(fstype, attributes, options...)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return mount.AttachAt(fd, t.dev, name)
}
