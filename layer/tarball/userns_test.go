package tarball

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
)

// inUserNamespace reports whether only some ids are mapped.
func inUserNamespace(t testing.TB) bool {
	t.Helper()
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	return !strings.HasSuffix(strings.TrimSpace(string(ids)), " 4294967295")
}

// TestInUserNamespace runs the tests of trees again as root of a user namespace, as
// in a rootless build.
func TestInUserNamespace(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if inUserNamespace(t) {
		t.Skip("is in a user namespace already")
	}
	tmp, err := os.MkdirTemp("", "userns") // other users may not enter the parent of t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	const first = 100_000
	if err := os.Chown(tmp, first, first); err != nil {
		t.Fatal(err)
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: first, Size: 65536}}
	exe, err := os.Open("/proc/self/exe") // its directory may be closed to other users too
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	cmd := exec.Command("/proc/self/fd/3", "-test.v", "-test.run=^(TestHostile|TestOverlayAgreesWithView|TestMerge|TestBelow|TestDevices|TestUnmappedOwner)$")
	cmd.ExtraFiles = []*os.File{exe}
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "CAIRN_ROUNDS=30")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{Uid: 0, Gid: 0},
	}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Skipf("no user namespace: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestUnmappedOwner") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Devices that cannot be made are in the listing only.
func TestDevices(t *testing.T) {
	t.Parallel()
	needRoot(t)
	null := with(entry("null", listing.TypeChar), func(c *Change) { c.Major, c.Minor = 1, 3 })
	raw, wrote := write(t, []Change{file("a", "1"), hardlink("b", "a"), null})
	tree, x := apply(t, raw, ApplyOptions{})
	if show(x) != show(wrote) || x.Entries[2].Type != listing.TypeChar || x.Entries[2].Minor != 3 {
		t.Errorf("index %+v", x.Entries)
	}
	_, err := os.Lstat(tree + "/null")
	if made := err == nil; made == inUserNamespace(t) {
		t.Errorf("device is there: %v", made)
	}
}

func TestUnmappedOwner(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if !inUserNamespace(t) {
		t.Skip("all ids are mapped here")
	}
	raw, _ := write(t, []Change{with(file("a", "1"), func(c *Change) { c.UID = 70_000 })})
	_, err := Apply(t.TempDir(), strings.NewReader(string(raw)), ApplyOptions{})
	if err == nil || !strings.Contains(err.Error(), `"a": owner 70000:0 is not in the id map`) {
		t.Errorf("error %v", err)
	}
	tree := t.TempDir()
	x, err := Apply(tree, strings.NewReader(string(raw)), ApplyOptions{NoChown: true})
	if err != nil || x.Entries[0].UID != 70_000 {
		t.Fatalf("%+v, %v", x, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(tree+"/a", &st); err != nil || st.Uid != 0 {
		t.Errorf("owner %d, %v", st.Uid, err)
	}
}
