package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
)

// podProfiles are the rights that clusters grant, in descending order.
//
//	userns      hostUsers: false with CAP_SYS_ADMIN added: root of its own user namespace
//	unconfined  the default of most clusters: root, default capabilities, no filter
//	baseline    seccompProfile RuntimeDefault: as unconfined, but no mount, no namespace
//	restricted  the Pod Security Standard "restricted": uid 1000, no capability, no new
//	            privileges, RuntimeDefault
var podProfiles = []string{"userns", "unconfined", "baseline", "restricted"}

// podFirst is the first of the host's ids that a userns pod has.
const podFirst, podIDs = 200000, 131072

// cmdPod is: pod STATUS PROFILE PROGRAM [ARG...]. It runs a program of a busybox image
// in a container with the rights of a profile, as Kubernetes would start it; PROFILE.yaml
// has only the capabilities that our example of that name asks for, and PROFILE-NAME
// lacks the capability CAP_NAME. $WORK is
// /src there, read-only, and a folder of the script, pod-PROFILE, which may be written
// to, is /out. The root file system is an overlay, as in a pod; the network the host's.
func cmdPod(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "pod STATUS PROFILE PROGRAM [ARG...]")
	profile, least := strings.CutSuffix(args[1], ".yaml")
	profile, lacking, _ := strings.Cut(profile, "-")
	if !slices.Contains(podProfiles, profile) {
		ts.Fatalf("profile %q is none of %v", profile, podProfiles)
	}
	caps := podCaps(profile)
	if least {
		var err error
		caps, err = exampleCaps("../../examples/kubernetes/" + args[1])
		ts.Check(err)
	}
	caps = slices.DeleteFunc(caps, func(name string) bool { return name == "CAP_"+lacking })
	bundle, err := os.MkdirTemp("/var/tmp", "cairn-pod")
	ts.Check(err)
	defer os.RemoveAll(bundle)
	ts.Check(os.Chmod(bundle, 0o755))
	defer func() { _ = unix.Unmount(bundle+"/rootfs", unix.MNT_DETACH) }()
	ts.Check(podRoot(bundle, profile))
	out := filepath.Join(ts.Getenv("WORK"), "pod-"+args[1])
	ts.Check(os.MkdirAll(out, 0o777))
	ts.Check(os.Chmod(out, 0o777))
	config, err := podConfig(bundle, profile, caps, ts.Getenv("WORK"), out, podEnv(ts), args[2:])
	ts.Check(err)
	ts.Check(os.WriteFile(bundle+"/config.json", config, 0o644))
	c := exec.Command("runc", "run", "--bundle", bundle, "cairn-test-"+filepath.Base(bundle))
	c.Stdout, c.Stderr = ts.Stdout(), ts.Stderr()
	got, err := exitCode(c.Run())
	ts.Check(err)
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("in a %s pod, %s ended with status %d, not %s", profile, args[2], got, args[0])
	}
}

// hasPods reports whether the machine can start pods.
func hasPods() bool {
	_, err := exec.LookPath("runc")
	return err == nil && os.Getuid() == 0 && !insideUserNamespace()
}

func insideUserNamespace() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err != nil || !strings.HasSuffix(strings.TrimSpace(string(text)), " 4294967295")
}

func podEnv(ts *testscript.TestScript) []string {
	env := []string{"PATH=/usr/local/bin:/bin"}
	for _, name := range []string{"CAIRN_REGISTRY_MIRROR", "SOURCE_DATE_EPOCH", "BUILDKIT_PROGRESS", "SECRET"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// podRoot creates the root filesystem of a bundle, an overlay over busybox.
func podRoot(bundle, profile string) error {
	tree := bundle + "/tree"
	for _, dir := range strings.Fields("bin etc home/user root tmp usr/local/bin var/tmp proc dev sys src out") {
		if err := os.MkdirAll(tree+"/"+dir, 0o755); err != nil {
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
	for _, name := range []string{"etc/resolv.conf", "etc/hosts", "bin/busybox"} {
		if err := copyProgram("/"+name, tree+"/"+name); err != nil {
			return err
		}
	}
	self, err := os.Executable() // which is cairn, when called so
	if err != nil {
		return err
	}
	if err := copyProgram(self, tree+"/usr/local/bin/cairn"); err != nil {
		return err
	}
	for _, name := range strings.Fields("sh cat ls sleep ps id stat rm mkdir") {
		if err := os.Symlink("busybox", tree+"/bin/"+name); err != nil {
			return err
		}
	}
	_ = os.Chmod(tree+"/tmp", 0o1777)
	_ = os.Chown(tree+"/home/user", 1000, 1000)
	return podOverlay(bundle, profile)
}

func podOverlay(bundle, profile string) error {
	for _, dir := range []string{"rootfs", "upper", "work"} {
		if err := os.Mkdir(bundle+"/"+dir, 0o755); err != nil {
			return err
		}
	}
	if profile == "userns" {
		shift := func(path string, _ os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, podFirst, podFirst)
		}
		for _, dir := range []string{"tree", "upper"} {
			if err := filepath.Walk(bundle+"/"+dir, shift); err != nil {
				return err
			}
		}
	}
	options := fmt.Sprintf("lowerdir=%[1]s/tree,upperdir=%[1]s/upper,workdir=%[1]s/work", bundle)
	return unix.Mount("overlay", bundle+"/rootfs", "overlay", 0, options)
}

func copyProgram(from, to string) error {
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

// podCaps are the capabilities that runtimes give, and those that a profile is about.
func podCaps(profile string) []string {
	caps := strings.Fields("CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID " +
		"CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SYS_CHROOT CAP_MKNOD CAP_AUDIT_WRITE CAP_SETFCAP")
	switch profile {
	case "userns":
		return append(caps, "CAP_SYS_ADMIN")
	case "restricted":
		return []string{}
	}
	return caps
}

// exampleCaps returns the capabilities that the pod in a manifest adds.
func exampleCaps(file string) (caps []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var m struct {
		Spec struct {
			Containers []struct {
				SecurityContext struct {
					Capabilities struct{ Drop, Add []string }
				} `yaml:"securityContext"`
			}
		}
	}
	if err := yaml.Unmarshal(text, &m); err != nil {
		return nil, err
	}
	if len(m.Spec.Containers) != 1 || !slices.Equal(m.Spec.Containers[0].SecurityContext.Capabilities.Drop, []string{"ALL"}) {
		return nil, fmt.Errorf("%s does not drop all capabilities", file)
	}
	for _, name := range m.Spec.Containers[0].SecurityContext.Capabilities.Add {
		caps = append(caps, "CAP_"+name)
	}
	return caps, nil
}

// podConfig returns the configuration that Kubernetes passes to a container runtime for
// the profile.
func podConfig(bundle, profile string, caps []string, src, out string, env, args []string) ([]byte, error) {
	uid, home := 0, "/root"
	namespaces := []object{{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}}
	linux := object{
		"maskedPaths":   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"},
		"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
	}
	switch profile {
	case "userns":
		namespaces = append(namespaces, object{"type": "user"})
		ids := []object{{"containerID": 0, "hostID": podFirst, "size": podIDs}}
		linux["uidMappings"], linux["gidMappings"] = ids, ids
	case "baseline":
		linux["seccomp"] = podFilter()
	case "restricted":
		uid, home = 1000, "/home/user"
		linux["seccomp"] = podFilter()
	}
	linux["namespaces"] = namespaces
	return json.Marshal(object{
		"ociVersion": "1.0.2",
		"process": object{
			"args": args, "cwd": "/", "env": append(env, "HOME="+home), "user": object{"uid": uid, "gid": uid},
			"capabilities":    object{"bounding": caps, "effective": caps, "permitted": caps},
			"noNewPrivileges": profile == "restricted",
		},
		"root":   object{"path": bundle + "/rootfs"},
		"mounts": podMounts(src, out),
		"linux":  linux,
	})
}

type object = map[string]any

func podMounts(src, out string) []object {
	bind := func(source, to string, options ...string) object {
		return object{"destination": to, "type": "none", "source": source, "options": append(options, "rbind")}
	}
	return []object{
		{"destination": "/proc", "type": "proc", "source": "proc"},
		{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755", "size=65536k"}},
		{"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666"}},
		bind("/sys", "/sys", "ro", "nosuid", "nodev", "noexec"),
		{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": []string{"ro", "nosuid", "nodev", "noexec"}},
		bind(src, "/src", "ro"),
		bind(out, "/out", "rw"),
	}
}

// podFilter rejects the system calls that the default filter of runtimes rejects without
// CAP_SYS_ADMIN, as far as builders use them.
func podFilter() object {
	refuse := func(errno int, names ...string) object {
		return object{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno}
	}
	rules := []object{
		refuse(int(unix.EPERM), strings.Fields("mount umount2 pivot_root unshare setns open_tree move_mount fsopen fsconfig fsmount "+
			"fspick mount_setattr keyctl add_key request_key bpf perf_event_open userfaultfd swapon swapoff reboot "+
			"init_module finit_module delete_module kexec_load open_by_handle_at quotactl")...),
		// Its flags can't be filtered: libc is to take clone in its place.
		refuse(int(unix.ENOSYS), "clone3"),
	}
	for _, bit := range []uint64{unix.CLONE_NEWNS, unix.CLONE_NEWCGROUP, unix.CLONE_NEWUTS, unix.CLONE_NEWIPC,
		unix.CLONE_NEWUSER, unix.CLONE_NEWPID, unix.CLONE_NEWNET} {
		rule := refuse(int(unix.EPERM), "clone")
		rule["args"] = []object{{"index": 0, "value": bit, "valueTwo": bit, "op": "SCMP_CMP_MASKED_EQ"}}
		rules = append(rules, rule)
	}
	return object{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
}

// TestPodConfig keeps the profiles apart without a runtime.
func TestPodConfig(t *testing.T) {
	for _, p := range podProfiles {
		text, err := podConfig("/b", p, podCaps(p), "/s", "/o", nil, []string{"x"})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Contains(string(text), "SCMP_ACT_ERRNO"), p == "baseline" || p == "restricted"; got != want {
			t.Errorf("%s: a filter: %v, want %v", p, got, want)
		}
	}
}
