package worker

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/sandbox"
)

// agent lends the command an ssh agent, through a socket of its own.
func (m *mounter) agent(want plan.Mount) error {
	if !m.w.Agents.Has(want.ID) {
		if want.Required {
			return fmt.Errorf("ssh agent %s is required and not given: pass --ssh %s", want.ID, want.ID)
		}
		m.lacks = append(m.lacks, "--ssh "+want.ID)
		return nil
	}
	dir, err := m.w.Store.TempDir("ssh")
	if err != nil {
		return err
	}
	m.close = append(m.close, func() { os.RemoveAll(dir) })
	socket := dir + "/agent"
	l, err := listen(dir, "agent")
	if err != nil {
		return err
	}
	m.close = append(m.close, func() { l.Close() })
	if err := m.w.give(socket, want.Owner); err != nil {
		return err
	}
	if err := os.Chmod(socket, os.FileMode(want.Owner.Mode)); err != nil {
		return err
	}
	go m.w.Agents.Serve(want.ID, l)
	m.mounts = append(m.mounts, sandbox.Mount{Type: "bind", Source: socket, Target: want.Target})
	return nil
}

// listen opens a socket in a folder by its descriptor: a socket's path is short,
// and a store's need not be.
func listen(dir, name string) (net.Listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + name})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // that path means something else by then
	return l, nil
}
