package container

import (
	"fmt"
	"slices"
	"strings"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/nsfs"
	"gvisor.dev/gvisor/pkg/sentry/inet"
	"gvisor.dev/gvisor/pkg/sentry/kernel"
	"gvisor.dev/gvisor/pkg/sentry/kernel/auth"
	"gvisor.dev/gvisor/pkg/sentry/kernel/sched"
	"gvisor.dev/gvisor/pkg/sentry/limits"
	"gvisor.dev/gvisor/pkg/sentry/loader"
	"gvisor.dev/gvisor/pkg/sentry/vfs"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
)

// process is the first process of a container in the making.
type process struct {
	s       *Server
	req     *guest.Run
	args    kernel.CreateProcessArgs
	account step.Account
	network *inet.Namespace
	streams streams
	group   *group // nil for none
}

// processContext is the context of a process that has no task yet.
type processContext struct {
	context.Context
	mounts **vfs.MountNamespace
}

// Value implements context.Context.
func (c processContext) Value(key any) any {
	if key != vfs.CtxMountNamespace {
		return c.Context.Value(key)
	}
	if *c.mounts == nil {
		return nil
	}
	(*c.mounts).IncRef()
	return *c.mounts
}

// newProcess makes the namespaces of a container.
func (s *Server) newProcess(req *guest.Run, id string) (*process, error) {
	k := s.k
	users := k.RootUserNamespace()
	root := auth.NewRootCredentials(users)
	p := &process{s: s, req: req}
	ctx := k.SupervisorContext()
	uts := kernel.NewUTSNamespace(req.Hostname, "", users)
	uts.SetInode(k.GetNamespaceInode(ctx, uts).(*nsfs.Inode))
	ipc := kernel.NewIPCNamespace(users)
	ipc.SetInode(k.GetNamespaceInode(ctx, ipc).(*nsfs.Inode))
	if err := ipc.InitPosixQueues(ctx, k.VFS(), root); err != nil {
		return nil, err
	}
	p.network = k.RootNetworkNamespace()
	if req.NoNetwork {
		p.network = inet.NewNamespace(k.RootNetworkNamespace(), users)
		p.network.SetInode(k.GetNamespaceInode(ctx, p.network).(*nsfs.Inode))
	} else {
		p.network.IncRef()
	}
	set, err := limitSet(req)
	if err != nil {
		return nil, err
	}
	p.args = kernel.CreateProcessArgs{
		Credentials: root, Umask: 0o022, Limits: set, MaxSymlinkTraversals: linux.MaxSymlinkTraversals,
		UTSNamespace: uts, IPCNamespace: ipc, PIDNamespace: k.RootPIDNamespace().NewChild(ctx, k.Kernel, users),
		ContainerID: id,
	}
	return p, nil
}

func (p *process) context() context.Context {
	return processContext{p.args.NewContext(p.s.k.Kernel), &p.args.MountNamespace}
}

// limitSet returns the resource limits of a command.
func limitSet(req *guest.Run) (*limits.LimitSet, error) {
	set, err := limits.NewLinuxDistroLimitSet()
	if err != nil {
		return nil, err
	}
	const soft, hard = 65536, 1 << 20
	set.SetUnchecked(limits.NumberOfFiles, limits.Limit{Cur: soft, Max: hard})
	set.SetUnchecked(limits.ProcessCount, limits.Limit{Cur: limits.Infinity, Max: limits.Infinity})
	for _, l := range req.Ulimits {
		kind, ok := limits.FromLinuxResource[int(l.Resource)]
		if !ok {
			return nil, fmt.Errorf("the ulimit %s is not known", l.Name)
		}
		set.SetUnchecked(kind, limits.Limit{Cur: limits.FromLinux(uint64(l.Soft)), Max: limits.FromLinux(uint64(l.Hard))})
	}
	return set, nil
}

// capabilities returns the capabilities of a command.
func capabilities(uid int, req *guest.Run) *auth.TaskCapabilities {
	set := auth.CapabilitySet(step.DefaultCapabilities())
	if req.Insecure {
		set = auth.AllCapabilities
	}
	set &^= auth.CapabilitySet(req.DropCaps)
	caps := &auth.TaskCapabilities{BoundingCaps: set}
	if uid == 0 {
		caps.PermittedCaps, caps.EffectiveCaps = set, set
	}
	return caps
}

// become sets the account of the process.
func (p *process) become(t *tree) error {
	root := t.mounts.Root(t.ctx)
	defer root.DecRef(t.ctx)
	const limit = 10 << 20
	account, err := step.LookUpIn(func(name string) (string, error) {
		text, err := t.read(follow(root, name), limit)
		if err != nil {
			err = fmt.Errorf("read /%s of the image: %w", name, plain(err))
		}
		return text, err
	}, p.req.User, p.req.Groups...)
	if err != nil {
		return err
	}
	slices.Sort(account.Groups) // as Linux does
	groups := make([]auth.KGID, len(account.Groups))
	for i, g := range account.Groups {
		groups[i] = auth.KGID(g)
	}
	p.account = account
	p.args.Credentials = auth.NewUserCredentials(auth.KUID(account.UID), auth.KGID(account.GID), groups,
		capabilities(account.UID, p.req), p.s.k.RootUserNamespace())
	return nil
}

// start makes the task and starts it. All that the task needs is passed on to it.
func (p *process) start(t *tree) (*kernel.ThreadGroup, error) {
	k, ctx, a := p.s.k, t.ctx, &p.args
	root := t.mounts.Root(ctx)
	defer root.DecRef(ctx)
	dir, err := p.workingDir(t, root)
	if err != nil {
		return nil, err
	}
	defer dir.DecRef(ctx)
	env := step.Environment(p.req.Env, p.account.Home)
	image, creds, err := p.load(t, root, dir, env)
	if err != nil {
		return nil, err
	}
	space := p.group.namespace(k.RootCgroupNamespace())
	for _, ref := range []interface{ IncRef() }{a.FDTable, a.UTSNamespace, a.IPCNamespace, p.network, space, creds.UserNamespace, t.mounts} {
		ref.IncRef()
	}
	tg := k.NewThreadGroup(a.PIDNamespace, kernel.NewSignalHandlers(), linux.SIGCHLD, a.Limits)
	_, err = k.TaskSet().NewTask(ctx, &kernel.TaskConfig{
		Kernel: k.Kernel, ThreadGroup: tg, TaskImage: image, FSContext: kernel.NewFSContext(root, dir, a.Umask), FDTable: a.FDTable,
		Credentials: creds, NetworkNamespace: p.network, AllowedCPUMask: sched.NewFullCPUSet(k.ApplicationCores()),
		UTSNamespace: a.UTSNamespace, IPCNamespace: a.IPCNamespace, CgroupNamespace: space, InitialCgroupV2: p.group.first(), MountNamespace: t.mounts,
		ContainerID: a.ContainerID, UserCounters: k.GetUserCounters(creds.RealKUID), Personality: linux.PER_LINUX,
	})
	if err != nil {
		tg.Release(ctx)
		return nil, fmt.Errorf("start the command: %w", plain(err))
	}
	if tty := p.streams.tty; tty != nil {
		if err := tg.SetControllingTTY(ctx, tty.TTY(), false, true); err != nil {
			return nil, fmt.Errorf("pass on the terminal: %w", plain(err))
		}
	}
	k.Enter(tg)
	k.StartProcess(tg)
	return tg, nil
}

// workingDir returns the working directory, which it makes if that is asked for.
func (p *process) workingDir(t *tree, root vfs.VirtualDentry) (vfs.VirtualDentry, error) {
	path := p.req.Dir
	if path == "" {
		path = "/"
	}
	if p.req.MakeDir && !t.exists(follow(root, path)) {
		if err := t.vfs.MkdirAllAt(t.ctx, path, root, t.creds, &vfs.MkdirOptions{Mode: 0o755}, true); err != nil {
			return vfs.VirtualDentry{}, fmt.Errorf("make the working directory: %w", plain(err))
		}
	}
	dir, err := t.vfs.GetDentryAt(t.ctx, t.creds, follow(root, path), &vfs.GetDentryOptions{CheckSearchable: true})
	if err != nil {
		return dir, fmt.Errorf("enter the working directory %q: %w", path, plain(err))
	}
	return dir, nil
}

// load loads the program of the command, which it looks for in $PATH.
func (p *process) load(t *tree, root, dir vfs.VirtualDentry, env []string) (*kernel.TaskImage, *auth.Credentials, error) {
	var attempt string
	var failure unix.Errno
	for _, name := range step.Executables(p.req.Args[0], env) {
		left := uint(linux.MaxSymlinkTraversals)
		image, creds, _, err := p.s.k.LoadTaskImage(t.ctx, loader.LoadArgs{
			Root: root, WorkingDir: dir, RemainingTraversals: &left, ResolveFinal: true, Filename: name,
			Argv: p.req.Args, Envv: env, Features: p.s.k.FeatureSet(), AllowSUID: true,
		})
		if err == nil {
			return image, creds, nil
		}
		number := unix.Errno(err.ToLinux())
		missing := number == unix.ENOENT || number == unix.ENOTDIR
		if failure == 0 || !missing {
			attempt, failure = name, number
		}
		if !missing && number != unix.EACCES {
			break
		}
	}
	return nil, nil, p.explain(t, root, attempt, failure, env)
}

// explain returns the error of a command that cannot be executed, in the words of
// step.ExplainExec.
func (p *process) explain(t *tree, root vfs.VirtualDentry, attempt string, failure unix.Errno, env []string) error {
	const noInterpreter = "exec %q: its interpreter or loader is not in the image: %w"
	name := p.req.Args[0]
	switch {
	case failure != unix.ENOENT && failure != unix.ENOTDIR:
		return fmt.Errorf("exec %q: %w", attempt, failure)
	case !strings.Contains(name, "/"):
		for _, file := range step.Executables(name, env) {
			if t.exists(follow(root, file)) {
				return fmt.Errorf(noInterpreter, file, failure)
			}
		}
		return &step.NotFoundError{Name: name}
	}
	full := name
	if !strings.HasPrefix(name, "/") {
		full = p.req.Dir + "/" + name
	}
	if t.exists(follow(root, full)) {
		return fmt.Errorf(noInterpreter, name, failure)
	}
	return fmt.Errorf("exec: %q: stat %s: %w", name, name, failure)
}
