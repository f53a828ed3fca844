package builder

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) {
	sandbox.Hook()
	os.Exit(m.Run())
}

// needSandbox skips a test where commands cannot be run.
func needSandbox(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs busybox-static: ", err)
	}
	kind, err := sandbox.Isolation{Mode: sandbox.Namespaces}.ProbeSnapshot(t.TempDir())
	if os.Getuid() != 0 || kind != sandbox.Overlay {
		t.Skipf("needs root with namespaces and overlay; this is uid %d, snapshots %q: %v", os.Getuid(), kind, err)
	}
}

// busyboxDir returns a context with busybox and a Dockerfile that installs it.
func busyboxDir(t *testing.T, dockerfile string) string {
	t.Helper()
	exe, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	dir := contextOf(t, map[string]string{
		"Dockerfile": "FROM scratch AS base\nCOPY --chmod=755 busybox /bin/busybox\nCOPY etc /etc\n" +
			"RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n" + dockerfile,
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n",
	})
	put(t, filepath.Join(dir, "busybox"), exe)
	return dir
}

// changed builds with an epoch and lists the layers from the fourth on, which come after
// those of busybox.
func changed(t *testing.T, b *testEnv, dir string) string {
	t.Helper()
	at := int64(epoch)
	built, err := b.Build(t.Context(), options{Context: dir, Tags: []string{"x"}, Epoch: &at})
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(describe(t, b, built.Image), "config\n")
	if i := strings.Index(text, "layer 4\n"); i >= 0 {
		return text[i:]
	}
	return ""
}

func TestRunLayers(t *testing.T) {
	needSandbox(t)
	for _, tt := range []struct{ name, dockerfile, want string }{
		{"nothing", "RUN true\n", "layer 4\n"},
		{"file", "RUN echo x > /f\n", "layer 4\n0 0644 0:0 +0 f \"x\\n\"\n"},
		{"whiteout", "RUN echo x > /f && mkdir -p /d/e\nRUN rm -r /f /d/e\n", "layer 4\n5 0755 0:0 +0 d/\n5 0755 0:0 +0 d/e/\n0 0644 0:0 +0 f \"x\\n\"\n" +
			"layer 5\n5 0755 0:0 +0 d/\n0 0000 0:0 -1700000000 d/.wh.e\n0 0000 0:0 -1700000000 .wh.f\n"},
		{"user by name", "RUN echo app:x:5:6::/home/app:/bin/sh >> /etc/passwd && mkdir -p /home/app && chown 5:6 /home/app\n" +
			"USER app\nWORKDIR /home/app/w\nRUN id -u > id; id -g >> id; echo $HOME >> id\nCOPY --chown=app etc/group g\n",
			"layer 4\n5 0755 0:0 +0 etc/\n0 0644 0:0 +0 etc/passwd \"root:x:0:0:root:/root:/bin/sh\\napp:x:5:6::/home/app:/bin/sh\\n\"\n" +
				"5 0755 0:0 +0 home/\n5 0755 5:6 +0 home/app/\n" +
				"layer 5\n5 0755 0:0 +0 home/\n5 0755 5:6 +0 home/app/\n5 0755 5:6 +0 home/app/w/\n" +
				"layer 6\n5 0755 0:0 +0 home/\n5 0755 5:6 +0 home/app/\n5 0755 5:6 +0 home/app/w/\n0 0644 5:6 +0 home/app/w/id \"5\\n6\\n/home/app\\n\"\n" +
				"layer 7\n5 0755 0:0 +0 home/\n5 0755 5:6 +0 home/app/\n5 0755 5:6 +0 home/app/w/\n0 0644 5:6 +0 home/app/w/g \"root:x:0:\\n\"\n"},
		{"copy between stages", "FROM base\nRUN mkdir /o && echo x > /o/a && ln /o/a /o/b && chmod 700 /o/a\nFROM base\nCOPY --from=1 /nothing* /o /p/\n" +
			"FROM base\nCOPY --from=2 /p /q\n",
			"layer 4\n5 0755 0:0 +0 q/\n0 0700 0:0 +0 q/a \"x\\n\"\n1 0700 0:0 +0 q/b -> q/a\n"},
		{"env and args", "ARG A=1\nENV B=2\nRUN echo $A $B $PATH $(hostname) > /f\n",
			"layer 4\n0 0644 0:0 +0 f \"1 2 /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin buildkitsandbox\\n\"\n"},
		{"heredoc", "RUN <<EOF\necho one > /f\necho two >> /f\nEOF\nRUN <<EOF\n#!/bin/busybox ash\necho $0 > /g\nEOF\nRUN cat <<A <<B > /h\na\nA\nb\nB\n",
			"layer 4\n0 0644 0:0 +0 f \"one\\ntwo\\n\"\nlayer 5\n0 0644 0:0 +0 g \"/dev/pipes/EOF\\n\"\nlayer 6\n0 0644 0:0 +0 h \"b\\n\"\n"},
		{"root directory", "RUN chmod 1777 /\nRUN stat -c %a / > /f\n", "layer 4\nlayer 5\n0 0644 0:0 +0 f \"755\\n\"\n"},
		{"link", "RUN mkdir /d && ln -s /d /l\nCOPY --link etc/group /l/g\nRUN test -f /l/g && test ! -L /l && touch /ok\n",
			"layer 4\n5 0755 0:0 +0 d/\n2 0777 0:0 +0 l -> /d\nlayer 5\n5 0755 0:0 +0 l/\n0 0644 0:0 +0 l/g \"root:x:0:\\n\"\nlayer 6\n0 0644 0:0 +0 ok\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, dir := newBuilder(t, nil), busyboxDir(t, tt.dockerfile)
			cold := changed(t, b, dir)
			if diff := cmp.Diff(tt.want, cold); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(cold, changed(t, b, dir)); diff != "" {
				t.Errorf("warm (-cold +warm):\n%s", diff)
			}
		})
	}
}

// An image may have more layers than an overlay mount.
func TestManySteps(t *testing.T) {
	needSandbox(t)
	var df strings.Builder
	for i := range 620 {
		fmt.Fprintf(&df, "RUN echo %d > /f%d; rm -f /f%d\n", i, i, i-3)
	}
	df.WriteString("RUN ls / | grep -c ^f > /count; cat /f617 /f619 >> /count\n")
	got := changed(t, newBuilder(t, nil), busyboxDir(t, df.String()))
	if want := "0 0644 0:0 +0 count \"3\\n617\\n619\\n\"\n"; !strings.HasSuffix(got, want) {
		t.Errorf("the last layer is %q, want %q", got[max(0, len(got)-200):], want)
	}
}
