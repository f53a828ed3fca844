// Package sentry starts gVisor's kernel in this process.
package sentry

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/cpuid"
	"gvisor.dev/gvisor/pkg/gomaxprocs"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/memutil"
	"gvisor.dev/gvisor/pkg/rand"
	"gvisor.dev/gvisor/pkg/sentry/checkpoint"
	"gvisor.dev/gvisor/pkg/sentry/devices/memdev"
	"gvisor.dev/gvisor/pkg/sentry/devices/ttydev"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/cgroup2fs"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/dev"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/devpts"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/host"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/mqfs"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/overlay"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/proc"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/sys"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/tmpfs"
	"gvisor.dev/gvisor/pkg/sentry/kernel"
	"gvisor.dev/gvisor/pkg/sentry/kernel/auth"
	"gvisor.dev/gvisor/pkg/sentry/loader"
	"gvisor.dev/gvisor/pkg/sentry/pgalloc"
	"gvisor.dev/gvisor/pkg/sentry/platform"
	"gvisor.dev/gvisor/pkg/sentry/platform/systrap"
	"gvisor.dev/gvisor/pkg/sentry/seccheck"
	"gvisor.dev/gvisor/pkg/sentry/time"
	"gvisor.dev/gvisor/pkg/sentry/usage"
	"gvisor.dev/gvisor/pkg/sentry/vfs"
	"gvisor.dev/gvisor/pkg/sentry/watchdog"
	"gvisor.dev/gvisor/pkg/sighandling"

	// The families of sockets and the system calls register themselves.
	_ "gvisor.dev/gvisor/pkg/sentry/socket/netlink"
	_ "gvisor.dev/gvisor/pkg/sentry/socket/netlink/route"
	_ "gvisor.dev/gvisor/pkg/sentry/socket/netlink/uevent"
	_ "gvisor.dev/gvisor/pkg/sentry/socket/unix"
	_ "gvisor.dev/gvisor/pkg/sentry/syscalls/linux"

	"github.com/cairn-build/cairn/cmd/cairn-gvisor/layerfs"
)

// Kernel is a running kernel.
type Kernel struct {
	*kernel.Kernel

	mu   sync.Mutex
	live []*kernel.ThreadGroup // the first processes of running containers
}

// New starts a kernel and installs the system call filter of this process. It can be
// called once.
func New() (*Kernel, error) {
	if err := check(); err != nil {
		return nil, err
	}
	if err := hideCalls(); err != nil {
		return nil, fmt.Errorf("install a system call filter: %w", err)
	}
	cpuid.Initialize()
	seccheck.Initialize()
	if err := errors.Join(rand.Init(), usage.Init(), sighandling.IgnoreChildStop()); err != nil {
		return nil, err
	}
	usage.MinimumTotalMemoryBytes = totalMemory()
	usage.MaximumTotalMemoryBytes = usage.MinimumTotalMemoryBytes
	tmpfs.SetTotalHostMem(usage.MinimumTotalMemoryBytes)
	cpus := runtime.NumCPU()
	gomaxprocs.SetBase(cpus)
	p, err := systrap.New(platform.Options{ApplicationCores: cpus})
	if err != nil {
		return nil, fmt.Errorf("start the platform of the kernel: %w", err)
	}
	k := &Kernel{Kernel: &kernel.Kernel{Platform: p, AllowSUID: true}}
	if err := k.init(uint(cpus)); err != nil {
		return nil, err
	}
	if err := k.register(); err != nil {
		return nil, err
	}
	if err := k.Start(); err != nil {
		return nil, err
	}
	// The kernel's warnings of the behaviour of programs do not concern the user of cairn.
	// A panic is still printed.
	log.SetTarget(&log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
	watch := watchdog.DefaultOpts
	watch.TaskTimeout = 0
	watchdog.New(k.Kernel, watch).Start()
	return k, installFilter(p.SeccompInfo())
}

// init makes the objects of the kernel.
func (k *Kernel) init(cpus uint) error {
	fd, err := memutil.CreateMemFD("memory", 0)
	if err != nil {
		return fmt.Errorf("make the memory of the kernel: %w", err)
	}
	mf, err := pgalloc.NewMemoryFile(os.NewFile(uintptr(fd), "memory"), pgalloc.MemoryFileOpts{})
	if err != nil {
		return fmt.Errorf("make the memory of the kernel: %w", err)
	}
	k.SetMemoryFile(mf)
	vdso, err := loader.PrepareVDSO(mf)
	if err != nil {
		return fmt.Errorf("prepare the vDSO: %w", err)
	}
	tk := kernel.NewTimekeeper()
	params := kernel.NewVDSOParamPage(mf, vdso.ParamPage.FileRange())
	tk.SetClocks(time.NewCalibratedClocks(false), params)
	users := auth.NewRootUserNamespace()
	network, err := newNetwork(users, tk, k.Kernel)
	if err != nil {
		return err
	}
	features := cpuid.HostFeatureSet()
	return k.Init(kernel.InitKernelArgs{
		FeatureSet:           features.Fixed(),
		Timekeeper:           tk,
		RootUserNamespace:    users,
		RootNetworkNamespace: network,
		ApplicationCores:     cpus,
		Vdso:                 vdso,
		VdsoParams:           params,
		RootUTSNamespace:     kernel.NewUTSNamespace("cairn", "", users),
		RootIPCNamespace:     kernel.NewIPCNamespace(users),
		RootPIDNamespace:     kernel.NewRootPIDNamespace(users),
		MaxFDLimit:           kernel.MaxFdLimit,
		Cgroup2FSInit:        cgroup2fs.NewFilesystem,
	})
}

// register registers file systems and devices.
func (k *Kernel) register() error {
	v := k.VFS()
	user := &vfs.RegisterFilesystemTypeOptions{AllowUserMount: true, AllowUserList: true}
	v.MustRegisterFilesystemType(cgroup2fs.Name, &cgroup2fs.FilesystemType{}, &vfs.RegisterFilesystemTypeOptions{})
	v.MustRegisterFilesystemType(devpts.Name, &devpts.FilesystemType{}, user)
	v.MustRegisterFilesystemType(dev.Name, &dev.FilesystemType{}, &vfs.RegisterFilesystemTypeOptions{})
	v.MustRegisterFilesystemType(overlay.Name, &overlay.FilesystemType{}, user)
	v.MustRegisterFilesystemType(proc.Name, &proc.FilesystemType{}, user)
	v.MustRegisterFilesystemType(sys.Name, &sys.FilesystemType{}, user)
	v.MustRegisterFilesystemType(tmpfs.Name, &tmpfs.FilesystemType{}, user)
	v.MustRegisterFilesystemType(mqfs.Name, &mqfs.FilesystemType{}, user)
	v.MustRegisterFilesystemType(layerfs.Name, &layerfs.FilesystemType{}, &vfs.RegisterFilesystemTypeOptions{})
	if err := errors.Join(memdev.Register(v), ttydev.Register(v)); err != nil {
		return err
	}
	fs, err := host.NewFilesystem(v)
	if err != nil {
		return err
	}
	defer fs.DecRef(k.SupervisorContext())
	k.SetHostMount(v.NewDisconnectedMount(fs, nil, &vfs.MountOptions{}))
	return nil
}

// Enter makes a process that has not started known to the kernel as one whose namespaces
// stand for those of the machine. The kernel needs such a process while others run.
func (k *Kernel) Enter(tg *kernel.ThreadGroup) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.live = append(k.live, tg)
	k.TestOnlySetGlobalInit(k.live[0])
}

// Leave ends the effect of Enter, after the processes of a container have ended.
func (k *Kernel) Leave(tg *kernel.ThreadGroup) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, l := range k.live {
		if l == tg {
			k.live = append(k.live[:i], k.live[i+1:]...)
			break
		}
	}
	var first *kernel.ThreadGroup
	if len(k.live) > 0 {
		first = k.live[0]
	}
	k.TestOnlySetGlobalInit(first)
}

// MemoryFile makes a nameless file in a directory for the content of a tmpfs, which
// destroys it.
func MemoryFile(dir string, id checkpoint.ResourceID) (*pgalloc.MemoryFile, error) {
	const flags = unix.O_RDWR | unix.O_CLOEXEC | unix.O_NOFOLLOW
	fd, err := unix.Open(dir, unix.O_TMPFILE|flags, 0o600)
	if err == unix.EOPNOTSUPP || err == unix.EISDIR || err == unix.ENOENT {
		name := dir + "/memory-" + id.ContainerName
		if fd, err = unix.Open(name, unix.O_CREAT|unix.O_EXCL|flags, 0o600); err == nil {
			err = unix.Unlink(name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make a temporary file in %s: %w", dir, err)
	}
	return pgalloc.NewMemoryFile(os.NewFile(uintptr(fd), "upper"), pgalloc.MemoryFileOpts{
		DiskBackedFile: true, DecommitOnDestroy: true, DisableIMAWorkAround: true, ResourceID: id,
	})
}
