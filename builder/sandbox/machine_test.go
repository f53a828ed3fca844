package sandbox

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"

	"golang.org/x/sys/unix"
)

// fakeMachine returns a machine on which all requirements are met unless files or programs
// differ.
func fakeMachine(t testing.TB, files map[string]string, programs ...string) machine {
	t.Helper()
	all := map[string]string{
		"etc/subuid": "other:1:1\nada:100000:65536\n1000:300000:10\n", "etc/subgid": "ada:200000:65536\n",
		"proc/sys/user/max_user_namespaces": "15000\n",
		"proc/self/uid_map":                 "0 1000 1\n1 100000 10\n",
	}
	for name, text := range files {
		all[name] = text
	}
	root := t.TempDir() + "/"
	for name, text := range all {
		must(t, os.MkdirAll(filepath.Dir(root+name), 0o755))
		must(t, os.WriteFile(root+name, []byte(text), 0o644))
	}
	find := func(program string) (string, error) {
		if slices.Contains(programs, program) {
			return program, nil
		}
		return "", os.ErrNotExist
	}
	return machine{root, 1000, 1001, "ada", find}
}

func TestUnmet(t *testing.T) {
	both := []string{"newuidmap", "newgidmap"}
	for _, test := range []struct {
		name     string
		files    map[string]string
		programs []string
		want     []string
	}{
		{"nothing", nil, both, nil},
		{"no uidmap", nil, both[1:], []string{"newuidmap is not installed: install the package uidmap (shadow-utils on Fedora)"}},
		{"no uids", map[string]string{"etc/subuid": "eve:1:1\n"}, both,
			[]string{"user ada has no range in /etc/subuid: as root: usermod --add-subuids 100000-165535 ada"}},
		{"no range beside another user's", map[string]string{"etc/subuid": "eve:100000:65536\n", "etc/subgid": "eve:100000:65536\n"}, both,
			[]string{"user ada has no range in /etc/subuid: as root: usermod --add-subuids 165536-231071 ada",
				"user ada has no range in /etc/subgid: as root: usermod --add-subgids 165536-231071 ada"}},
		{"none is free", map[string]string{"etc/subuid": "eve:100000:4294867195\n"}, both,
			[]string{"user ada has no range in /etc/subuid: as root: free 65536 consecutive ids from 100000 on in /etc/subuid and /etc/subgid"}},
		{"too many", map[string]string{"etc/subuid": "ada:500000:4294967295\n"}, both,
			[]string{"the line ada:500000:4294967295 of /etc/subuid exceeds the largest id of the kernel: as root: change it so that the sum of its two numbers is less than 4294967296"}},
		{"as many as there are", map[string]string{"etc/subuid": "ada:500000:4294467295\n"}, both, nil},
		{"no gids", map[string]string{"etc/subgid": ""}, both,
			[]string{"user ada has no range in /etc/subgid: as root: usermod --add-subgids 165536-231071 ada"}},
		{"switched off", map[string]string{"proc/sys/kernel/unprivileged_userns_clone": "0\n"}, both,
			[]string{"kernel.unprivileged_userns_clone is 0: as root: sysctl -w kernel.unprivileged_userns_clone=1"}},
		{"limited", map[string]string{"proc/sys/user/max_user_namespaces": "0\n"}, both,
			[]string{"user.max_user_namespaces is 0: as root: sysctl -w user.max_user_namespaces=15000"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := fakeMachine(t, test.files, test.programs...)
			var got []string
			for _, l := range append(m.unmetSysctls(), m.unmetForRanges()...) {
				got = append(got, l.Error())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if maps := m.maps(); len(m.unmetForRanges()) > 0 != maps[0].single || !maps[len(maps)-1].single {
				t.Errorf("id maps %v", maps)
			}
		})
	}
}

// TestFreeRange checks that the advised range belongs to no user, in either file.
func TestFreeRange(t *testing.T) {
	for _, test := range []struct {
		name, uids, gids string
		want             int64 // 0 for none
	}{
		{"empty", "", "", 100000},
		{"below", "root:1:65535\n", "", 100000},
		{"useradd's first", "eve:100000:65536\n", "eve:100000:65536\n", 165536},
		{"a number for a name", "1001:100000:65536\n", "", 165536},
		{"in one file only", "eve:100000:65536\n", "bob:165536:65536\n", 231072},
		{"the end of one", "eve:90000:10001\n", "", 165536},
		{"the begin of one", "eve:165535:1\n", "", 165536},
		{"a gap", "eve:100000:65536\nbob:231072:65536\n", "", 165536},
		{"no gap that is wide enough", "bob:200000:65536\neve:100000:65536\n", "", 296608},
		{"one in another", "eve:100000:262144\nbob:100010:5\n", "", 362144},
		{"malformed", "eve\n\neve:100000\neve:x:65536\neve:100000:\neve:100000:0\neve:-1:9\n# none\neve:100000:99999999999999999999\na:100000:65536:5", "", 100000},
		{"too many after a gap", "eve:500000:4294967295\n", "", 100000},
		{"all", "eve:100000:4294967295\n", "", 0},
		{"no room at the end", "eve:100000:4294800000\n", "", 0},
	} {
		m := fakeMachine(t, map[string]string{"etc/subuid": test.uids, "etc/subgid": test.gids})
		if got, ok := m.freeRange(); ok != (test.want != 0) || ok && got != test.want {
			t.Errorf("%s: got %d, %v, want %d", test.name, got, ok, test.want)
		}
	}
	m := fakeMachine(t, nil)
	must(t, os.Remove(m.root+"etc/subuid"))
	if got, ok := m.freeRange(); got != 100000 || !ok {
		t.Errorf("without a file: got %d, %v", got, ok)
	}
}

// TestFewIDs checks that the advised command adds to the file with too few ids.
func TestFewIDs(t *testing.T) {
	for _, test := range []struct{ uids, gids, want string }{
		{"ada:100000:1000\n", "ada:100000:1000\n", "as root: usermod --add-subuids 165536-231071 --add-subgids 165536-231071 ada"},
		{"ada:100000:1000\nada:300000:10\n", "ada:200000:65536\n", "as root: usermod --add-subuids 362144-427679 ada"},
	} {
		if got := fakeMachine(t, map[string]string{"etc/subuid": test.uids, "etc/subgid": test.gids}).moreIDs(); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

func TestIDs(t *testing.T) {
	m := fakeMachine(t, nil, "newuidmap", "newgidmap")
	ids := m.maps()[0]
	if want := []idRange{{0, 1000, 1}, {1, 100000, 65536}, {65537, 300000, 10}}; !slices.Equal(ids.uids, want) {
		t.Errorf("uids %v, want %v", ids.uids, want)
	}
	if want := []idRange{{0, 1001, 1}, {1, 200000, 65536}}; !slices.Equal(ids.gids, want) {
		t.Errorf("gids %v, want %v", ids.gids, want)
	}
	same, err := m.identity("uid_map")
	if want := []idRange{{0, 0, 1}, {1, 1, 10}}; err != nil || !slices.Equal(same, want) {
		t.Errorf("identity %v, want %v, %v", same, want, err)
	}
}

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		files map[string]string
		err   error
		want  string
	}{
		{map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}, unix.EACCES, "apparmor_restrict_unprivileged_userns=0"},
		{nil, unix.ENOSPC, "user.max_user_namespaces is reached"},
		{map[string]string{"proc/sys/user/max_mnt_namespaces": "0\n"}, unix.ENOSPC, "sysctl -w user.max_mnt_namespaces=15000"},
		{map[string]string{"proc/self/status": "Name:\tx\nSeccomp:\t2\n"}, unix.ENOSYS, "seccompProfile.type: Unconfined"},
		{nil, unix.EPERM, "appArmorProfile.type: Unconfined"},
		{nil, unix.EINVAL, "invalid argument"},
	} {
		got := fakeMachine(t, test.files).explainRefusal(test.err).Error()
		if !strings.Contains(got, test.want) {
			t.Errorf("%v: got %s, want %s", test.err, got, test.want)
		}
	}
}

func TestTooOld(t *testing.T) {
	for release, want := range map[string]bool{
		"5.11.22": true, "4.18.0-553.el8": true, "5.12.0": false, "6.18.44-fc": false, "10.0": false, "strange": false,
	} {
		if tooOld(release) != want {
			t.Errorf("%s: %v, want %v", release, !want, want)
		}
	}
}

func TestProbe(t *testing.T) {
	if !mayMount() {
		t.Skip("needs root, or a user with newuidmap and a range in /etc/subuid")
	}
	dir := t.TempDir() + "/new"
	r, err := Isolation{Mode: Namespaces}.Probe(dir)
	must(t, err)
	if r.Mode != Namespaces || r.Snapshot != Overlay || r.Kernel == "" || r.IDs < neededIDs {
		t.Errorf("got %+v", r)
	}
	if left := entries(t, dir); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// TestProbeOnOverlay checks that an upper directory on an overlay, which the kernel refuses,
// is reported.
func TestProbeOnOverlay(t *testing.T) {
	s := spec(t, image(t, nil), "")
	s.Args, s.Env = []string{"/bin/probe"}, []string{"SANDBOX_TEST_ACT=probe"}
	s.Insecure = true
	s.Mounts = append(libraries(), Mount{Type: "bind", Source: ownProgram(t), Target: "/bin/probe"})
	o := run(t, s)
	if !strings.Contains(o.out, "snapshot plain") || !strings.Contains(o.out, "unmet overlay: overlay mounts do not work in /store") {
		t.Errorf("got %q %q", o.out, o.err)
	}
}

func ownProgram(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	must(t, err)
	return path
}

// TestProbeOutside checks the report for an ordinary user.
func TestProbeOutside(t *testing.T) {
	o := ordinaryUser(t)
	out, err := o.command("probe").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "mode rootless") || !strings.Contains(string(out), "unmet namespaces") {
		t.Errorf("got %q, %v", out, err)
	}
	cmd := o.command("probe")
	cmd.Env = append(cmd.Env, "PATH=/nowhere")
	if out, err = cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "mode rootless") || !strings.Contains(string(out), "package uidmap") {
		t.Errorf("got %q, %v", out, err)
	}
}

// TestReportNames checks that programs can read the current and the former names.
func TestReportNames(t *testing.T) {
	r := Report{Mode: Chroot, Snapshot: Plain, Kernel: "6.1", IDs: 1, Limits: []string{"cpu"}, Unmet: []Requirement{requirement("x", "y", "z")}}
	text, err := json.Marshal(r)
	must(t, err)
	const want = `{"Mode":"chroot","Snapshot":"plain","Kernel":"6.1","IDs":1,"Limits":["cpu"],"Unmet":[{"Feature":"x","Problem":"y","Remedy":"z"}],` +
		`"Rung":"chroot","Lacks":[{"For":"x","What":"y","Grant":"z"}]}`
	if string(text) != want {
		t.Errorf("got %s, want %s", text, want)
	}
	var old strings.Builder
	must(t, template.Must(template.New("").Parse("{{.Rung}}{{range .Lacks}} {{.For}} {{.What}} {{.Grant}}{{end}}")).Execute(&old, r))
	if old.String() != "chroot x y z" {
		t.Errorf("got %s", old.String())
	}
}
