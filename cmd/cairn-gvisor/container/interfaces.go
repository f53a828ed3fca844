package container

import (
	"fmt"
	"net"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/tmpfs"
	"gvisor.dev/gvisor/pkg/sentry/inet"
	"gvisor.dev/gvisor/pkg/sentry/vfs"
)

// mountInterfaces mounts /sys/class, which lacks the network interfaces in gVisor's sysfs.
func (t *tree) mountInterfaces() error {
	m, err := t.newTmpfs("mode=755", tmpfs.FilesystemOpts{DisableDefaultSizeLimit: true}, noFlags)
	if err != nil {
		return err
	}
	err = t.makeInterfaces(rootOf(m))
	if err == nil && !t.req.Insecure {
		err = t.vfs.SetMountReadOnly(m, true)
	}
	if err != nil {
		m.DecRef(t.ctx)
		return err
	}
	return t.attach(m, "sys/class")
}

func (t *tree) makeInterfaces(root vfs.VirtualDentry) error {
	for _, name := range []string{"power_supply", "net"} {
		if err := t.makePoint(root, name, true); err != nil {
			return err
		}
	}
	for index, i := range t.network.Stack().Interfaces() {
		for name, text := range attributes(index, i) {
			path := "net/" + i.Name + "/" + name
			if err := t.makePoint(root, path, false); err != nil {
				return err
			}
			if err := t.write(at(root, path), text+"\n"); err != nil {
				return err
			}
			if err := t.setAttributes(at(root, path), 0, 0, 0o444, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// attributes returns the texts that Linux has for an interface in /sys/class/net.
func attributes(index int32, i inet.Interface) map[string]string {
	address, state := net.HardwareAddr(i.Addr), "down"
	if len(address) == 0 {
		address = make(net.HardwareAddr, 6)
	}
	switch {
	case i.Flags&linux.IFF_LOOPBACK != 0:
		state = "unknown"
	case i.Flags&linux.IFF_RUNNING != 0:
		state = "up"
	}
	all := map[string]string{
		"address": address.String(), "flags": fmt.Sprintf("%#x", i.Flags&^(linux.IFF_RUNNING|linux.IFF_LOWER_UP)),
		"ifindex": fmt.Sprint(index), "operstate": state, "type": fmt.Sprint(i.DeviceType),
	}
	if i.MTU > 0 { // gVisor does not know that of the machine's interfaces
		all["mtu"] = fmt.Sprint(i.MTU)
	}
	return all
}
