package container

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/cgroup2fs"
	"gvisor.dev/gvisor/pkg/sentry/kernel"
	"gvisor.dev/gvisor/pkg/sentry/kernel/auth"
	"gvisor.dev/gvisor/pkg/sentry/pgalloc"
	"gvisor.dev/gvisor/pkg/sentry/usage"
	"gvisor.dev/gvisor/pkg/sentry/vfs"
)

// group is a control group of the kernel for one command. A nil group is none.
type group struct {
	files
	root   *vfs.Mount
	cgroup kernel.Cgroup2
	space  *kernel.CgroupNamespace
	id     string
	memory int64       // limit in bytes, 0 for none
	full   atomic.Bool // the memory has exceeded the limit
}

// newGroup makes a control group for a command with limits.
func (t *tree) newGroup(memory, processes int64) (*group, error) {
	if memory == 0 && processes == 0 {
		return nil, nil
	}
	g, err := t.makeGroup(memory, processes)
	if err != nil {
		return nil, fmt.Errorf("limit the command: %w", plain(err))
	}
	return g, nil
}

func (t *tree) makeGroup(memory, processes int64) (*group, error) {
	root, err := t.s.groups()
	if err != nil {
		return nil, err
	}
	g := &group{files: t.files, root: root, id: t.id, memory: memory}
	op := at(rootOf(root), t.id)
	if err := g.vfs.MkdirAt(g.ctx, g.creds, op, &vfs.MkdirOptions{Mode: 0o755}); err != nil {
		return nil, err
	}
	vd, err := g.vfs.GetDentryAt(g.ctx, g.creds, op, &vfs.GetDentryOptions{})
	if err != nil {
		return nil, err
	}
	defer vd.DecRef(g.ctx)
	cg, ok := cgroup2fs.CgroupFromDentry(vd.Dentry())
	if !ok {
		return nil, fmt.Errorf("the control group %s has another type", t.id)
	}
	g.cgroup = cg
	g.space = t.s.k.NewCgroupNamespace(g.ctx, cg, t.s.k.RootUserNamespace())
	if processes > 0 {
		err = cg.WriteControl(g.ctx, "pids.max", strconv.FormatInt(processes, 10))
	}
	return g, err
}

// groups mounts the control groups when they are first needed.
func (s *Server) groups() (*vfs.Mount, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.groupRoot != nil {
		return s.groupRoot, nil
	}
	ctx := s.k.SupervisorContext()
	m, err := s.k.VFS().MountDisconnected(ctx, auth.NewRootCredentials(s.k.RootUserNamespace()), "cgroup", cgroup2fs.Name,
		&vfs.MountOptions{GetFilesystemOptions: vfs.GetFilesystemOptions{InternalMount: true}})
	if err != nil {
		return nil, err
	}
	if err := s.k.Cgroup2FS().RootCgroup().WriteControl(ctx, "cgroup.subtree_control", "+pids +memory"); err != nil {
		return nil, err
	}
	s.groupRoot = m
	return m, nil
}

// namespace returns the namespace of the group, or the given one if there is no group.
func (g *group) namespace(other *kernel.CgroupNamespace) *kernel.CgroupNamespace {
	if g == nil {
		return other
	}
	return g.space
}

// first returns the group of a new task.
func (g *group) first() kernel.Cgroup2 {
	if g == nil {
		return nil
	}
	return g.cgroup
}

// memoryInterval is the time between two looks at the memory of a command.
const memoryInterval = 10 * time.Millisecond

// freeing is the number of looks for which the memory that an ended process returned may
// stay as it is. The kernel frees it in the background.
const freeing = 10

// watch kills the largest process of a command if its memory exceeds the limit, as Linux
// does. The next one is killed only if the memory exceeds the limit still when that of the
// first has been freed. It returns at once, and ends when done is closed.
func (g *group) watch(k *kernel.Kernel, tg *kernel.ThreadGroup, done <-chan struct{}) {
	if g == nil || g.memory == 0 {
		return
	}
	id := pgalloc.MemoryCgroupIDFromContext(tg.Leader())
	go func() {
		tick := time.NewTicker(memoryInterval)
		defer tick.Stop()
		var killed *kernel.ThreadGroup
		var before uint64 // at the last look
		wait := 0
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			now := memoryOf(k, id)
			if killed != nil && (residentSize(killed.Leader()) > 0 || now < before) {
				wait = freeing
			}
			before = now
			switch {
			case now <= uint64(g.memory):
				wait = 0
			case wait > 0:
				wait--
			default:
				g.full.Store(true)
				killed = killLargest(tg)
				wait = freeing
			}
		}
	}()
}

// memoryOf returns the number of bytes that a control group holds, without the pages of
// files on the host.
func memoryOf(k *kernel.Kernel, id uint32) uint64 {
	if err := k.MemoryFile().UpdateUsage(map[uint32]struct{}{id: {}}); err != nil {
		return 0
	}
	stats, total := usage.MemoryAccounting.CopyPerCg(id)
	return total - stats.Mapped
}

// killLargest kills the process with the most memory in the namespace of a first process,
// and returns it.
func killLargest(first *kernel.ThreadGroup) *kernel.ThreadGroup {
	largest, most := first, uint64(0)
	for _, tg := range first.PIDNamespace().ThreadGroups() {
		if size := residentSize(tg.Leader()); size > most {
			largest, most = tg, size
		}
	}
	// The error is that it has ended.
	_ = largest.SendSignal(&linux.SignalInfo{Signo: int32(linux.SIGKILL)})
	return largest
}

// residentSize returns the number of bytes in the memory of a process, 0 if it has ended.
func residentSize(t *kernel.Task) (size uint64) {
	if t == nil {
		return 0
	}
	t.WithMuLocked(func(t *kernel.Task) {
		if m := t.MemoryManager(); m != nil {
			size = m.ResidentSetSize()
		}
	})
	return size
}

// reached returns the name of the limit that the command has reached, "" for none.
func (g *group) reached() string {
	if g == nil {
		return ""
	}
	if g.full.Load() {
		return "memory"
	}
	text, err := g.cgroup.ReadControl(g.ctx, "pids.events")
	if count, ok := strings.CutPrefix(strings.TrimSpace(text), "max "); err == nil && ok && count != "0" {
		return "processes"
	}
	return ""
}

// close removes the group.
func (g *group) close() {
	if g == nil {
		return
	}
	if g.space != nil {
		g.space.DecRef(g.ctx)
	}
	g.vfs.RmdirAt(g.ctx, g.creds, at(rootOf(g.root), g.id))
}
