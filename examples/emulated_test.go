package examples_test

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

const emulatedDockerfile = `FROM scratch
ARG TARGETARCH
COPY $TARGETARCH/bin/busybox /bin/sh
RUN uname -m > /machine && echo $TARGETARCH >> /machine
`

// emulated runs a RUN step for another architecture through binfmt_misc. The
// emulator is registered in a user namespace, so the machine's own settings stay.
func (l *lab) emulated(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("arm64 is emulated on amd64 only")
	}
	const rule = "/usr/lib/binfmt.d/qemu-aarch64.conf"
	if _, err := os.Stat(rule); err != nil {
		t.Skipf("no emulator: %v (package qemu-user-static)", err)
	}
	need(t, "unshare")
	const register = `mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && cat "$0" > /proc/sys/fs/binfmt_misc/register && exec "$@"`
	emulated := func(args ...string) *exec.Cmd {
		return command("unshare", append([]string{"--user", "--map-root-user", "--mount", "sh", "-c", register, rule}, args...)...)
	}
	if out, err := emulated("true").CombinedOutput(); err != nil {
		t.Skipf("no binfmt_misc in a user namespace, which Linux has since 6.7: %v: %s", err, out)
	}
	dir := t.TempDir()
	for _, arch := range []string{"amd64", "arm64"} {
		unpackBusybox(t, arch, filepath.Join(dir, arch))
	}
	dockerfile := filepath.Join(dir, "Dockerfile")
	if err := os.WriteFile(dockerfile, []byte(emulatedDockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	build := func(store string) []string { // a store belongs to one ID mapping
		return []string{l.cairn, "--root", filepath.Join(dir, store), "build", "--platform", "linux/amd64,linux/arm64", "-o", out, dir}
	}
	refused, err := command(l.cairn, build("plain")[1:]...).CombinedOutput()
	if err == nil {
		t.Log("this machine emulates arm64 already")
	} else if !strings.Contains(string(refused), "register an emulator in binfmt_misc") {
		t.Errorf("without an emulator: %v, and no remedy:\n%s", err, refused)
	}
	must(t, emulated(build("emulated")...))
	for folder, want := range map[string]string{"linux_amd64": "x86_64\namd64\n", "linux_arm64": "aarch64\narm64\n"} {
		got, err := os.ReadFile(filepath.Join(out, folder, "machine"))
		if err != nil || string(got) != want {
			t.Errorf("%s was built on %q (%v), want %q", folder, got, err, want)
		}
	}
}

// unpackBusybox downloads Debian's busybox-static for an architecture from the
// mirror that apt uses.
func unpackBusybox(t *testing.T, arch, dir string) {
	t.Helper()
	need(t, "dpkg-deb")
	uris, err := command("apt-get", "download", "--print-uris", "busybox-static").Output()
	uri := regexp.MustCompile(`^'(http.*)_amd64\.deb'`).FindSubmatch(uris)
	if err != nil || uri == nil {
		t.Skipf("apt knows no busybox-static (try apt-get update): %v: %s", err, uris)
	}
	url := string(uri[1]) + "_" + arch + ".deb"
	resp, err := http.Get(url)
	if err != nil {
		t.Skipf("no Debian archive: %v", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Skipf("no busybox for %s: %s: %s", arch, url, resp.Status)
	}
	deb, err := os.Create(dir + ".deb")
	if err != nil {
		t.Fatal(err)
	}
	defer deb.Close()
	if _, err := io.Copy(deb, resp.Body); err != nil {
		t.Fatal(err)
	}
	must(t, command("dpkg-deb", "-x", deb.Name(), dir))
}
