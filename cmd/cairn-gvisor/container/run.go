package container

import (
	"cmp"
	"fmt"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/sentry/kernel"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
)

// Run runs a command with the given standard streams, which it owns, and returns its wait
// status and changes. It sends the command the signals that it receives from signals, and
// kills it when that is closed.
func (s *Server) Run(req *guest.Run, std [3]int, signals <-chan linux.Signal) (_ *guest.Reply, _ []guest.Change, err error) {
	closeStreams := func() {
		for _, fd := range std {
			unix.Close(fd)
		}
	}
	defer closeStreams()
	stack, err := s.stack(req.Layers)
	if err != nil {
		return nil, nil, err
	}
	p, err := s.newProcess(req, s.newID())
	if err != nil {
		return nil, nil, err
	}
	t := &tree{s: s, req: req, id: p.args.ContainerID, network: p.network, stack: stack}
	t.files = files{p.context(), s.k.VFS(), p.args.Credentials}
	defer t.close()
	defer t.closeCaches()
	defer func() { err = cmp.Or(err, t.leaveCaches(false)) }()
	if err := t.mount(); err != nil {
		return nil, nil, err
	}
	p.args.MountNamespace = t.mounts
	defer t.mounts.DecRef(t.ctx)
	if err := p.become(t); err != nil {
		return nil, nil, err
	}
	err = p.openStreams(t.ctx, std)
	defer p.closeStreams(t.ctx)
	if err != nil {
		return nil, nil, err
	}
	if p.group, err = t.newGroup(req.Memory, req.Processes); err != nil {
		return nil, nil, err
	}
	defer p.group.close()
	tg, err := p.start(t)
	if err != nil {
		return nil, nil, err
	}
	ended := make(chan struct{})
	p.group.watch(s.k.Kernel, tg, ended)
	status := p.wait(tg, signals)
	close(ended)
	if err := t.leaveCaches(true); err != nil {
		return nil, nil, err
	}
	changes, err := t.changes(t.upper, req.Upper)
	if err != nil {
		return nil, nil, fmt.Errorf("read the changes of the command: %w", plain(err))
	}
	reply := &guest.Reply{Limit: p.group.reached()}
	reply.End = endOf(tg, status)
	return reply, changes, nil
}

// wait waits for the end of all processes of the container.
func (p *process) wait(tg *kernel.ThreadGroup, signals <-chan linux.Signal) linux.WaitStatus {
	go func() {
		for sig := range signals {
			p.signal(tg, sig)
		}
	}()
	tg.WaitExited()
	for _, task := range p.s.k.TaskSet().Root.Tasks() {
		if task.ContainerID() == p.args.ContainerID {
			task.ThreadGroup().WaitExited()
		}
	}
	p.s.k.Leave(tg)
	return tg.ExitStatus()
}

// endOf returns how a command ended, and what it has used.
func endOf(tg *kernel.ThreadGroup, status linux.WaitStatus) wire.End {
	used := tg.CPUStats()
	used.Accumulate(tg.JoinedChildCPUStats())
	end := wire.End{Status: int64(status), CPU: (used.UserTime + used.SysTime).Microseconds()}
	if leader := tg.Leader(); leader != nil {
		end.Memory = int64(leader.MaxRSS(linux.RUSAGE_BOTH))
	}
	return end
}

// signal sends a signal to the command. Those of a terminal go to the foreground processes.
func (p *process) signal(tg *kernel.ThreadGroup, sig linux.Signal) {
	info := &linux.SignalInfo{Signo: int32(sig)}
	tty := p.streams.tty
	if tty != nil && (sig == linux.SIGINT || sig == linux.SIGQUIT || sig == linux.SIGTSTP || sig == linux.SIGWINCH) {
		if session := tty.ThreadGroup(); session != nil {
			if group, _ := session.ForegroundProcessGroup(tty.TTY()); group != nil {
				p.s.k.SendExternalSignalProcessGroup(group, info)
				return
			}
		}
	}
	p.s.k.SendExternalSignalThreadGroup(tg, info)
}
