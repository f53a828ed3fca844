package container

import (
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/tmpfs"
	"gvisor.dev/gvisor/pkg/sentry/socket/unix/transport"
	"gvisor.dev/gvisor/pkg/sentry/vfs"
	"gvisor.dev/gvisor/pkg/syserr"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
)

// newSocket mounts a socket file that leads to a listening socket of the host.
func (t *tree) newSocket(m *guest.Mount) (*vfs.Mount, error) {
	dir, err := t.newTmpfs("mode=700", tmpfs.FilesystemOpts{}, noFlags)
	if err != nil {
		return nil, err
	}
	defer dir.DecRef(t.ctx)
	op := at(rootOf(dir), "socket")
	mode := linux.FileMode(m.Mode & 0o777)
	if err := t.vfs.MknodAt(t.ctx, t.creds, op, &vfs.MknodOptions{Mode: linux.S_IFSOCK | mode, Endpoint: hostSocket(m.Source)}); err != nil {
		return nil, err
	}
	if err := t.setAttributes(op, m.UID, m.GID, m.Mode, nil); err != nil {
		return nil, err
	}
	vd, err := t.vfs.GetDentryAt(t.ctx, t.creds, op, &vfs.GetDentryOptions{})
	if err != nil {
		return nil, err
	}
	defer vd.DecRef(t.ctx)
	return t.vfs.NewDisconnectedMount(dir.Filesystem(), vd.Dentry(), &vfs.MountOptions{Flags: noFlags}), nil
}

// hostSocket is the path of a listening stream socket of the host. It implements
// transport.BoundEndpoint.
type hostSocket string

// BidirectionalConnect implements transport.BoundEndpoint.
func (s hostSocket) BidirectionalConnect(_ context.Context, ce transport.ConnectingEndpoint, done func(transport.Receiver, transport.Sender)) *syserr.Error {
	ce.Lock()
	switch {
	case ce.Connected():
		ce.Unlock()
		return syserr.ErrAlreadyConnected
	case ce.ListeningLocked():
		ce.Unlock()
		return syserr.ErrInvalidEndpointState
	case ce.Type() != linux.SOCK_STREAM:
		ce.Unlock()
		return syserr.ErrWrongProtocolForSocket
	}
	fd, err := s.connect()
	if err != nil {
		ce.Unlock()
		return syserr.ErrConnectionRefused
	}
	c, serr := transport.NewSCMSender(fd, ce.WaiterQueue(), string(s))
	if serr != nil {
		unix.Close(fd)
		ce.Unlock()
		return serr
	}
	done(c, c)
	ce.Unlock()
	return syserr.FromError(c.Init())
}

func (s hostSocket) connect() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: string(s)}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// UnidirectionalConnect implements transport.BoundEndpoint.
func (s hostSocket) UnidirectionalConnect(context.Context) (transport.Sender, *syserr.Error) {
	return nil, syserr.ErrConnectionRefused
}

// Passcred implements transport.BoundEndpoint.
func (s hostSocket) Passcred() bool { return false }

// Release implements transport.BoundEndpoint.
func (s hostSocket) Release(context.Context) {}
