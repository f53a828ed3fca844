package diff

import (
	"bytes"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const inUserNamespace = "CAIRN_DIFF_IN_USERNS"

// TestInUserNamespace runs the tests again as root of a user namespace, as in a
// rootless build.
func TestInUserNamespace(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 || os.Getenv(inUserNamespace) != "" {
		t.Skip("needs root, to map a range of ids")
	}
	dir, err := os.MkdirTemp("", "cairn-diff-")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	exe, err := os.ReadFile("/proc/self/exe")
	check(t, err)
	check(t, os.WriteFile(dir+"/exe", exe, 0o755))
	check(t, os.Mkdir(dir+"/tmp", 0o755))
	check(t, os.Chown(dir+"/tmp", 100000, 100000))
	check(t, os.Chmod(dir, 0o755))

	cmd := exec.Command(dir+"/exe", "-test.v", "-test.run=^Test(Overlay|OverlaySockets|OverlayDeepPaths|OverlayHostileLower|OverlayRandom|Prepare)$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), inUserNamespace+"=1", "TMPDIR="+dir+"/tmp")
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{},
	}
	out, err := cmd.CombinedOutput()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Skipf("user namespaces are not available: %v", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n := bytes.Count(out, []byte("--- PASS")); n < 50 {
		t.Skipf("only %d tests ran: overlays are not available in user namespaces:\n%s", n, out)
	}
}
