package sandbox

import (
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"

	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

func TestMain(m *testing.M) {
	Hook()
	if os.Args[0] == guestName {
		serveGuest()
	}
	if act := os.Getenv("SANDBOX_TEST_ACT"); act != "" {
		os.Exit(perform(act))
	}
	// An ordinary user runs all tests inside a user namespace.
	if _, err := Enter(""); err != nil {
		fmt.Println(err)
	}
	os.Exit(m.Run())
}

// busybox is the path of the program in test trees.
const busybox = "/bin/busybox"

// image makes a tree with busybox. A non-nil edit changes it.
func image(t testing.TB, edit func(root string)) string {
	t.Helper()
	if !mayMount() {
		t.Skip("needs root, or a user with newuidmap and a range in /etc/subuid")
	}
	root := t.TempDir()
	must(t, os.Chmod(root, 0o755))
	must(t, os.MkdirAll(root+"/bin", 0o755))
	must(t, os.MkdirAll(root+"/etc", 0o755))
	must(t, os.Mkdir(root+"/tmp", 0o755))
	must(t, os.Chmod(root+"/tmp", 0o1777))
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Skipf("needs a static busybox (apt-get install busybox-static): %v", err)
	}
	must(t, os.WriteFile(root+"/bin/busybox", program, 0o755))
	for _, name := range strings.Fields("sh true false cat ls id echo env pwd stat mount umount sleep kill ps hostname dd head wc touch rm mkdir mv ln chmod test readlink mknod ip find grep sed tr nc setsid nohup date su yes") {
		must(t, os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	must(t, os.WriteFile(root+"/etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nada:x:1000:1001::/home/ada:/bin/sh\n"), 0o644))
	must(t, os.WriteFile(root+"/etc/group", []byte("root:x:0:\nstaff:x:50:ada\nwheel:x:10:root,ada\nada:x:1001:\n"), 0o644))
	if edit != nil {
		edit(root)
	}
	return root
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// spec returns a shell command in a tree, with new folders for changes.
func spec(t testing.TB, root, script string) Spec {
	t.Helper()
	dir := t.TempDir()
	s := Spec{
		Lowers: []string{root}, Upper: dir + "/upper", Work: dir + "/work", MountPoints: dir + "/stubs",
		Args: []string{"/bin/sh", "-c", script},
	}
	for _, d := range []string{s.Upper, s.Work, s.MountPoints} {
		must(t, os.Mkdir(d, 0o755))
	}
	return s
}

// outcome is the result and output of a run.
type outcome struct {
	Result
	out, err string
}

func run(t testing.TB, s Spec) outcome {
	t.Helper()
	o, err := try(s)
	must(t, err)
	return o
}

func try(s Spec) (outcome, error) { return tryIn(shared(), s) }

func tryIn(b *Sandbox, s Spec) (outcome, error) {
	var out, errs bytes.Buffer
	s.Stdout, s.Stderr = &out, &errs
	r, err := b.Run(context.Background(), s)
	return outcome{r, out.String(), errs.String()}, err
}

func BenchmarkRun(b *testing.B) {
	root := image(b, nil)
	dir := b.TempDir()
	must(b, os.Mkdir(dir+"/stubs", 0o755))
	must(b, shared().Start())
	for i := 0; b.Loop(); i++ {
		// Removing folders here would make ext4 search for inodes in later runs.
		s := Spec{
			Lowers: []string{root}, Upper: fmt.Sprint(dir, "/upper", i), Work: fmt.Sprint(dir, "/work", i),
			MountPoints: dir + "/stubs", Args: []string{"/bin/true"},
		}
		must(b, os.Mkdir(s.Upper, 0o755))
		must(b, os.Mkdir(s.Work, 0o755))
		if r, err := Run(b.Context(), s); err != nil || r.ExitCode != 0 {
			b.Fatal(r, err)
		}
	}
}

// BenchmarkRuntime starts a runtime process and ends it.
func BenchmarkRuntime(b *testing.B) {
	for b.Loop() {
		box := new(Sandbox)
		reply, err := box.first(b)
		if err != nil || reply == "" {
			b.Fatal(reply, err)
		}
		must(b, box.Close())
	}
}

// first sends a request to a new runtime process that it refuses immediately.
func (b *Sandbox) first(t testing.TB) (string, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	must(t, err)
	defer null.Close()
	reply, err := b.ask(t.Context(), &wire.Request{Probe: "/no/such/folder"}, [3]*os.File{null, null, null}, nil)
	return reply.Error, err
}

// BenchmarkParallel runs as many concurrent commands as there are CPUs.
func BenchmarkParallel(b *testing.B) {
	root := image(b, nil)
	dir := b.TempDir()
	must(b, os.Mkdir(dir+"/stubs", 0o755))
	must(b, shared().Start())
	var serial atomic.Int64
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			i := serial.Add(1)
			s := Spec{
				Lowers: []string{root}, Upper: fmt.Sprint(dir, "/upper", i), Work: fmt.Sprint(dir, "/work", i),
				MountPoints: dir + "/stubs", Args: []string{"/bin/true"},
			}
			must(b, os.Mkdir(s.Upper, 0o755))
			must(b, os.Mkdir(s.Work, 0o755))
			if r, err := Run(b.Context(), s); err != nil || r.ExitCode != 0 {
				b.Error(r, err)
			}
		}
	})
}
