package container

import (
	"fmt"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/host"
	"gvisor.dev/gvisor/pkg/sentry/kernel"
	"gvisor.dev/gvisor/pkg/sentry/kernel/auth"
	"gvisor.dev/gvisor/pkg/sentry/vfs"

	"golang.org/x/sys/unix"
)

// streams are the standard streams of a command.
type streams struct {
	host  [3]int // descriptors of the host, owned by the caller
	flags [3]int // their status flags, which the kernel changes
	file  [3]*vfs.FileDescription
	tty   *host.TTYFileDescription // the terminal of an interactive command, nil for none
}

// openStreams makes the table of descriptors with copies of the given descriptors, which
// must stay open until closeStreams.
func (p *process) openStreams(ctx context.Context, std [3]int) error {
	p.args.FDTable = p.s.k.NewFDTable()
	p.streams.host = std
	for i, fd := range std {
		var err error
		if p.streams.flags[i], err = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil {
			return fmt.Errorf("pass on descriptors: %w", err)
		}
	}
	for i := range std {
		if err := p.openStream(ctx, i); err != nil {
			return fmt.Errorf("pass on descriptors: %w", plain(err))
		}
		if _, err := p.args.FDTable.NewFDAt(ctx, int32(i), p.streams.file[i], kernel.FDFlags{}); err != nil {
			return fmt.Errorf("pass on descriptors: %w", plain(err))
		}
	}
	if tty, ok := p.streams.file[0].Impl().(*host.TTYFileDescription); ok && p.req.Interactive {
		p.streams.tty = tty
	}
	return nil
}

// openStream opens the i-th stream. Streams that are one terminal or one regular file
// share a description, with its state.
func (p *process) openStream(ctx context.Context, i int) error {
	s := &p.streams
	var st unix.Stat_t
	if err := unix.Fstat(s.host[i], &st); err != nil {
		return err
	}
	regular, tty := st.Mode&unix.S_IFMT == unix.S_IFREG, host.IsTTY(s.host[i])
	for j := range i {
		var other unix.Stat_t
		if (!regular && !tty) || unix.Fstat(s.host[j], &other) != nil {
			continue
		}
		if other.Dev == st.Dev && other.Ino == st.Ino && s.flags[i] == s.flags[j] {
			s.file[j].IncRef()
			s.file[i] = s.file[j]
			return nil
		}
	}
	fd, err := unix.FcntlInt(uintptr(s.host[i]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s.file[i], err = host.NewFD(ctx, p.s.k.HostMount(), fd, &host.NewFDOptions{
		IsTTY: tty, VirtualOwner: true, UID: auth.KUID(p.account.UID),
	})
	if err != nil || !regular {
		return err
	}
	off, err := unix.Seek(s.host[i], 0, unix.SEEK_CUR)
	if err == nil {
		_, err = s.file[i].Seek(ctx, off, linux.SEEK_SET)
	}
	return err
}

// closeStreams gives the host's files the flags that they had, and the offsets at which
// the command has left them.
func (p *process) closeStreams(ctx context.Context) {
	s := &p.streams
	for i, file := range s.file {
		if file == nil {
			continue
		}
		if off, err := file.Seek(ctx, 0, linux.SEEK_CUR); err == nil {
			unix.Seek(s.host[i], off, unix.SEEK_SET)
		}
		unix.FcntlInt(uintptr(s.host[i]), unix.F_SETFL, s.flags[i])
		file.DecRef(ctx)
	}
	p.args.FDTable.DecRef(ctx)
}
