// Package podtest runs programs in containers with the rights that Kubernetes gives to
// those of a pod.
package podtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Profile is the rights of a container.
type Profile string

// The profiles, from the most rights that clusters grant to the least.
const (
	Userns     Profile = "userns"     // hostUsers: false with CAP_SYS_ADMIN added: root of its own user namespace
	Unconfined Profile = "unconfined" // the default of most clusters: root, default capabilities, no filter
	Baseline   Profile = "baseline"   // seccompProfile RuntimeDefault: as Unconfined, but no mount, no namespace
	Restricted Profile = "restricted" // the Pod Security Standard "restricted": uid 1000, no capability, no new privileges, RuntimeDefault
)

// Profiles lists all profiles.
func Profiles() []Profile { return []Profile{Userns, Unconfined, Baseline, Restricted} }

// Pod is a pod with one container. The network is that of the machine.
type Pod struct {
	Profile  Profile
	Caps     []string          // capabilities; nil for those of the profile
	UID      uint32            // of a Restricted pod without an entry in /etc/passwd, as OpenShift has them; 0 for 1000, which has one
	ReadOnly bool              // the root file system
	PIDs     int64             // limit of processes; 0 for none
	Memory   int64             // limit in bytes; 0 for none
	Runtime  string            // "" for runc, or crun, which sets limits on machines with cgroups of version 2 only
	Tree     string            // the root file system below an overlay; "" for a small one with busybox
	Programs map[string]string // host files that are copied into /usr/local/bin of a busybox tree, by their names there
	Volumes  []Volume
	Env      []string
	Dir      string // working directory; "" for /
}

// Volume is a directory of the host that the pod has at a path.
type Volume struct {
	Host, Path string
	ReadOnly   bool
}

// first is the first of the host's ids that a Userns pod has.
const first, ids = 200000, 131072

// Missing returns the reason why this machine cannot start pods with a runtime, or "".
func Missing(runtime string) string {
	if os.Getuid() != 0 {
		return "needs root"
	}
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(text)), " 4294967295") {
		return "not in a user namespace"
	}
	if _, err := os.Stat(busybox); err != nil {
		return "no " + busybox + " (package busybox-static)"
	}
	if _, err := exec.LookPath(runtime); err != nil {
		return "no " + runtime + " (package " + runtime + ")"
	}
	return ""
}

// Run runs a command in a new pod and returns its exit status. The root file system is
// an overlay, as in a pod.
func (p Pod) Run(ctx context.Context, stdout, stderr io.Writer, args ...string) (status int, err error) {
	c, remove, err := p.Command(ctx, args...)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	c.Stdout, c.Stderr = stdout, stderr
	err = c.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// Command makes a pod and returns the command of a runtime that runs args in it. The
// caller removes the pod afterwards.
func (p Pod) Command(ctx context.Context, args ...string) (c *exec.Cmd, remove func() error, err error) {
	bundle, err := os.MkdirTemp("/var/tmp", "cairn-pod")
	if err != nil {
		return nil, nil, err
	}
	remove = func() error {
		err := unix.Unmount(bundle+"/rootfs", unix.MNT_DETACH)
		return errors.Join(err, os.RemoveAll(bundle))
	}
	if err := p.bundle(bundle, args); err != nil {
		_ = remove()
		return nil, nil, err
	}
	command := []string{"runc"}
	if p.Runtime == "crun" {
		// It refuses machines with both versions of cgroups, so it sees version 2 only.
		command = []string{"unshare", "--mount", "sh", "-euc", `mount -t cgroup2 none /sys/fs/cgroup; exec "$@"`, "-", "crun", "--cgroup-manager", "cgroupfs"}
	}
	command = append(command, "run", "--bundle", bundle, "cairn-test-"+filepath.Base(bundle))
	return exec.CommandContext(ctx, command[0], command[1:]...), remove, nil
}

// Running is a pod whose container runs.
type Running struct {
	id    string
	stdin io.Closer
	c     *exec.Cmd
	end   func() error
}

// Start makes a pod that runs cat, or another program that repeats its input, until
// [Running.Stop].
func (p Pod) Start(ctx context.Context, args ...string) (r *Running, err error) {
	c, remove, err := p.Command(ctx, args...)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, remove())
		}
	}()
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var log bytes.Buffer
	c.Stderr = &log
	if err := c.Start(); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(in, "ready\n"); err == nil {
		_, err = io.ReadFull(out, make([]byte, len("ready\n")))
		if err == nil {
			return &Running{c.Args[len(c.Args)-1], in, c, remove}, nil
		}
	}
	return nil, errors.Join(errors.New("the container did not start: "+log.String()), in.Close(), c.Wait())
}

// Exec runs a command in the container and returns its exit status, as kubectl exec does.
func (r *Running) Exec(ctx context.Context, stdout, stderr io.Writer, args ...string) (status int, err error) {
	c := exec.CommandContext(ctx, "runc", append([]string{"exec", r.id}, args...)...)
	c.Stdout, c.Stderr = stdout, stderr
	err = c.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// Stop ends the container and removes the pod.
func (r *Running) Stop() error {
	return errors.Join(r.stdin.Close(), r.c.Wait(), r.end())
}

// bundle fills the directory from which a runtime starts the pod.
func (p Pod) bundle(bundle string, args []string) error {
	if err := os.Chmod(bundle, 0o755); err != nil {
		return err
	}
	tree := p.Tree
	if tree == "" {
		tree = bundle + "/tree"
		if err := p.busyboxTree(tree); err != nil {
			return fmt.Errorf("make the root file system: %w", err)
		}
	}
	if err := p.overlay(bundle, tree); err != nil {
		return fmt.Errorf("mount the root file system: %w", err)
	}
	spec, err := p.Spec(args)
	if err != nil {
		return err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(bundle+"/config.json", text, 0o644)
}

// overlay mounts the root file system of a bundle. A Userns pod owns all of it.
func (p Pod) overlay(bundle, tree string) error {
	for _, dir := range []string{"rootfs", "upper", "work"} {
		if err := os.Mkdir(bundle+"/"+dir, 0o755); err != nil {
			return err
		}
	}
	if p.Profile == Userns {
		shift := func(path string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, first, first)
		}
		for _, dir := range []string{tree, bundle + "/upper"} {
			if err := filepath.WalkDir(dir, shift); err != nil {
				return err
			}
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%[2]s/upper,workdir=%[2]s/work", tree, bundle)
	return unix.Mount("overlay", bundle+"/rootfs", "overlay", 0, options)
}

const busybox = "/bin/busybox"

// busyboxTree makes a small root file system.
func (p Pod) busyboxTree(tree string) error {
	for _, dir := range strings.Fields("bin etc home/user root tmp usr/local/bin var/tmp proc dev sys") {
		if err := os.MkdirAll(tree+"/"+dir, 0o755); err != nil {
			return err
		}
	}
	for _, v := range p.Volumes {
		if err := os.MkdirAll(tree+v.Path, 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
		"etc/group":  "root:x:0:\nuser:x:1000:\n",
	}
	for name, text := range files {
		if err := os.WriteFile(tree+"/"+name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	copies := map[string]string{"/etc/resolv.conf": "/etc/resolv.conf", "/etc/hosts": "/etc/hosts", "/bin/busybox": busybox}
	for name, host := range p.Programs {
		copies["/usr/local/bin/"+name] = host
	}
	for name, host := range copies {
		if err := copyFile(host, tree+name); err != nil {
			return err
		}
	}
	for _, name := range strings.Fields("sh cat ls sleep ps id stat rm mkdir") {
		if err := os.Symlink("busybox", tree+"/bin/"+name); err != nil {
			return err
		}
	}
	return errors.Join(os.Chmod(tree+"/tmp", 0o1777), os.Chown(tree+"/home/user", 1000, 1000))
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, in)
	return err
}

// DefaultCaps returns the capabilities that runtimes give, and those that a profile is
// about.
func DefaultCaps(p Profile) []string {
	caps := strings.Fields("CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID " +
		"CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SYS_CHROOT CAP_MKNOD CAP_AUDIT_WRITE CAP_SETFCAP")
	switch p {
	case Userns:
		return append(caps, "CAP_SYS_ADMIN")
	case Restricted:
		return []string{}
	}
	return caps
}

// mounts returns the mounts of a container.
func (p Pod) mounts() []specs.Mount {
	all := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc"},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666"}},
		// sysfs cannot be mounted without a network namespace of its own.
		{Destination: "/sys", Type: "none", Source: "/sys", Options: []string{"rbind", "ro", "nosuid", "nodev", "noexec"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "nodev", "noexec"}},
	}
	for _, v := range p.Volumes {
		how := "rw"
		if v.ReadOnly {
			how = "ro"
		}
		all = append(all, specs.Mount{Destination: v.Path, Type: "none", Source: v.Host, Options: []string{"rbind", how}})
	}
	return all
}
