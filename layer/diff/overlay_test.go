package diff

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// sh returns a function that runs a script in a directory.
func sh(t testing.TB, script string) func(root string) {
	return func(root string) {
		t.Helper()
		cmd := exec.Command("/bin/sh", "-euc", "umask 022; "+script)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
}

const baseScript = `
mkdir -p etc/conf.d usr/bin usr/lib/deep/er var/cache/apt empty
echo root > etc/passwd; echo one > etc/conf.d/one; echo two > etc/conf.d/two
echo tool > usr/bin/tool; chmod 755 usr/bin/tool; cp usr/bin/tool usr/bin/suid; chmod 4755 usr/bin/suid
ln usr/bin/tool usr/bin/linked; ln -s usr/bin bin; ln -s ../etc/passwd etc/alias
echo same > var/one; echo same > var/two
echo x > usr/lib/deep/er/file; echo y > usr/lib/deep/file; echo c > var/cache/apt/pkg
mknod etc/null c 1 3 2>/dev/null || mkfifo etc/null; mkfifo etc/pipe; chown 12:34 var/cache
find . -mindepth 1 -exec touch -h -d @1500000000 {} +
`

// overlayCase is a shell script to run on the merged tree and the resulting changes.
type overlayCase struct {
	name, script string
	want         string // paths, separated by spaces
}

func overlayCases() []overlayCase {
	return []overlayCase{
		{"nothing", `true`, ""},
		{"create", `echo n > usr/bin/new`, "+usr +usr/bin +usr/bin/new"},
		{"create at the root", `echo n > new`, "+new"},
		{"empty file", `: > new`, "+new"},
		{"modify", `echo changed > etc/passwd`, "+etc +etc/passwd"},
		{"append, time kept", `echo more >> etc/passwd; touch -d @1500000000 etc/passwd`, "+etc +etc/passwd"},
		{"same size and time, other bytes", `echo ROOT > etc/passwd; touch -d @1500000000 etc/passwd`, "+etc +etc/passwd"},
		{"same bytes, time kept", `echo root > etc/passwd; touch -d @1500000000 etc/passwd`, ""},
		{"copy-up without change", `chmod 644 etc/passwd; touch -d @1500000000 etc`, ""},
		{"copy-up of a directory without change", `chmod 755 usr/lib/deep/er`, ""},
		{"touch", `touch -d @1600000000.7 etc/passwd`, "+etc +etc/passwd"},
		{"touch by less than a second", `touch -d @1500000000.7 etc/passwd`, ""},
		{"touch of a directory", `touch -d @1600000000 usr/lib`, "+usr +usr/lib"},
		{"touch of a symlink", `touch -h -d @1600000000 bin`, "+bin"},
		{"chmod", `chmod 600 etc/passwd`, "+etc +etc/passwd"},
		{"chmod of a directory", `chmod 700 usr/lib`, "+usr +usr/lib"},
		{"chown of the root", `chown 5:6 .`, "+."},
		{"chown", `chown 1:2 etc/passwd`, "+etc +etc/passwd"},
		{"chown of a symlink", `chown -h 1:2 bin`, "+bin"},
		{"chown clears setuid", `chown 1 usr/bin/suid`, "+usr +usr/bin +usr/bin/suid"},
		{"setgid and sticky", `chmod 2755 usr/bin; chmod 1777 var`, "+usr +usr/bin +var"},
		{"delete", `rm etc/passwd`, "+etc -etc/passwd"},
		{"delete at the root", `rm bin`, "-bin"},
		{"delete and create", `rm etc/passwd; echo root > etc/passwd; touch -d @1500000000 etc/passwd etc`, ""},
		{"delete a directory", `rm -r usr/lib`, "+usr -usr/lib"},
		{"create and delete", `echo n > etc/n; rm etc/n; touch -d @1500000000 etc`, ""},
		{"directory by file", `rm -r usr/lib; echo f > usr/lib`, "+usr +usr/lib"},
		{"file by directory", `rm etc/passwd; mkdir etc/passwd; echo f > etc/passwd/f`, "+etc +etc/passwd +etc/passwd/f"},
		{"directory by symlink", `rm -r usr/lib; ln -s bin usr/lib`, "+usr +usr/lib"},
		{"symlink by directory", `rm bin; mkdir bin; echo x > bin/tool`, "+bin +bin/tool"},
		{"symlink by symlink", `ln -sfn usr/lib bin`, "+bin"},
		{"replaced directory", `rm -r usr/lib; mkdir usr/lib`, "+usr +usr/lib -usr/lib/deep"},
		{"replaced directory with equal file", `rm -r etc/conf.d; mkdir etc/conf.d; echo one > etc/conf.d/one; touch -d @1500000000 etc/conf.d/one`, "+etc +etc/conf.d -etc/conf.d/two"},
		{"replaced directory, nested", `rm -r usr; mkdir -p usr/lib/deep; echo z > usr/lib/deep/file`,
			"+usr -usr/bin +usr/lib +usr/lib/deep -usr/lib/deep/er +usr/lib/deep/file"},
		{"replaced by an equal directory", `rm -r usr/lib/deep/er; mkdir usr/lib/deep/er; echo x > usr/lib/deep/er/file
			touch -d @1500000000 usr/lib/deep/er/file usr/lib/deep/er usr/lib/deep`, ""},
		{"replaced directory, other types", `rm -r usr/lib; mkdir -p usr/lib; echo f > usr/lib/deep`, "+usr +usr/lib +usr/lib/deep"},
		{"rename of a file", `mv etc/passwd etc/shadow`, "+etc -etc/passwd +etc/shadow"},
		{"rename of a directory", `mv usr/lib usr/lib64`,
			"+usr -usr/lib +usr/lib64 +usr/lib64/deep +usr/lib64/deep/er +usr/lib64/deep/er/file +usr/lib64/deep/file"},
		{"rename of a new directory", `mkdir usr/n; echo x > usr/n/x; mv usr/n usr/m`, "+usr +usr/m +usr/m/x"},
		{"hard link", `echo n > a; ln a usr/b; ln a c`, "+a +c = a +usr +usr/b = a"},
		{"hard link of empty files", `: > b; ln b a`, "+a +b = a"},
		{"hard link to a lower file", `ln etc/passwd usr/passwd`, "+etc +etc/passwd +usr +usr/passwd = etc/passwd"},
		{"hard link in place of an equal file", `echo one > etc/conf.d/a; rm etc/conf.d/one; echo one > etc/conf.d/one; rm etc/conf.d/a
			ln etc/conf.d/one x; touch -d @1500000000 etc/conf.d/one etc/conf.d; rm x`, ""},
		{"one of two links changed", `echo changed > usr/bin/linked`, "+usr +usr/bin +usr/bin/linked"},
		{"linked again", `rm usr/bin/tool; ln usr/bin/linked usr/bin/tool; touch -d @1500000000 usr/bin usr/bin/tool`, ""},
		{"two equal files become one", `rm var/two; ln var/one var/two; touch -d @1500000000 var var/one`, "+var +var/one +var/two = var/one"},
		{"capability", `setcap cap_net_raw+ep usr/bin/tool`, "+usr +usr/bin +usr/bin/tool"},
		{"user attribute", `setfattr -n user.cairn -v x etc/passwd; setfattr -n user.cairn -v y etc`, "+etc +etc/passwd"},
		{"label and trusted attribute", `setfattr -n trusted.cairn -v x etc/passwd`, ""},
		{"fifo", `mkfifo etc/fifo`, "+etc +etc/fifo"},
		{"devices", `mknod etc/zero c 1 5; mknod etc/loop b 7 1; mknod -m 600 etc/other c 0 1`, "+etc +etc/loop +etc/other +etc/zero"},
		{"device by another", `rm etc/null; mknod etc/null c 1 5; touch -d @1500000000 etc/null`, "+etc +etc/null"},
		{"attributes of a device", `chmod 666 etc/null; chown 3 etc/pipe`, "+etc +etc/null +etc/pipe"},
		{"bytewise order", `mkdir a; : > a/b; : > a-b; : > a0; : > a.b`, "+a +a-b +a.b +a/b +a0"},
		{"strange names", `mkdir 'a b'; : > 'a b/ü'; : > "$(printf 'new\nline')"; : > '*'; : > -`, "+* +- +a b +a b/ü +new\nline"},
		{"times before 1970", `touch -d @-1.5 etc/passwd`, "+etc +etc/passwd"},
		{"unreadable", `chmod 000 etc/passwd usr/lib`, "+etc +etc/passwd +usr +usr/lib"},
	}
}

func TestOverlay(t *testing.T) {
	t.Parallel()
	for _, tt := range overlayCases() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, tool := range []string{"setcap", "setfattr"} {
				if _, err := exec.LookPath(tool); err != nil && strings.Contains(tt.script, tool) {
					t.Skipf("needs %s", tool)
				}
			}
			if strings.Contains(tt.script, "mknod") && os.Getenv(inUserNamespace) != "" {
				t.Skip("devices can not be made in a user namespace")
			}
			if strings.Contains(tt.script, "trusted.") && os.Getenv(inUserNamespace) != "" {
				t.Skip("there are no trusted attributes in a user namespace")
			}
			l := newLab(t)
			l.base(sh(t, baseScript))
			got := strings.Join(paths(l.step(sh(t, tt.script))), " ")
			if got != tt.want {
				t.Errorf("changes:\n got %q\nwant %q", got, tt.want)
			}
			// The next step sees the same files and changes nothing.
			if next := paths(l.step(sh(t, `true`))); len(next) > 0 {
				t.Errorf("the step after that changed %q", next)
			}
		})
	}
}

func TestOverlaySockets(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.base(sh(t, baseScript))
	socket := func(path string) {
		ln, err := net.Listen("unix", path)
		check(t, err)
		ln.(*net.UnixListener).SetUnlinkOnClose(false)
		check(t, ln.Close())
	}
	upper, work := l.upper()
	unmount := l.mount(l.lowers(), upper, work)
	socket(l.merged + "/etc/s")
	check(t, os.Remove(l.merged+"/etc/passwd"))
	socket(l.merged + "/etc/passwd")
	want := snapshot(t, l.merged)
	unmount()
	got := paths(l.finish(upper))
	if d := cmp.Diff([]string{"+etc", "-etc/passwd"}, got); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
	l.verify(upper, want)
}

func TestOverlayEpoch(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.base(sh(t, baseScript))
	epoch := int64(1_400_000_000)
	l.o.Epoch = &epoch
	upper, work := l.upper()
	unmount := l.mount(l.lowers(), upper, work)
	sh(t, `echo n > etc/new; chmod 644 etc/passwd; ln -s x link; touch -d @1300000000.5 old; mkdir d; chmod 700 d; chmod 755 usr/lib`)(l.merged)
	unmount()
	before := snapshot(t, upper)
	changes := l.finish(upper)
	if d := cmp.Diff([]string{"+d", "+etc", "+etc/new", "+link", "+old"}, paths(changes)); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
	after := snapshot(t, upper)
	for _, c := range changes {
		want := epoch
		if c.Path == "old" {
			want = 1_300_000_000
		}
		if c.MTime != want {
			t.Errorf("%s: mtime %d in the layer, want %d", c.Path, c.MTime, want)
		}
		if was, is := mtime.FindString(before[c.Path]), mtime.FindString(after[c.Path]); was != is {
			t.Errorf("%s had%s and has%s: a tree keeps the times", c.Path, was, is)
		}
	}
}

// TestOverlayTouch checks that a file whose time is the only change and equal in the layer
// is left out of the layer, but not out of the tree: the next step sees the time.
func TestOverlayTouch(t *testing.T) {
	t.Parallel()
	for _, epoch := range []*int64{nil, new(int64)} {
		l := newLab(t)
		if epoch != nil {
			*epoch = 1_500_000_000
		}
		l.o.Epoch = epoch
		l.base(sh(t, `mkdir d; echo a > d/a; ln d/a d/b; echo same > same; touch -d @1500000000.25 d/a same d`))
		for _, tt := range []struct {
			script, path, want string
			kept               bool
		}{
			{`touch -d @1500000000.5 d/a`, "d/a", " mtime=1500000000.500000000 ", true},
			{`touch -d @1500000000.25 d/a`, "d/a", " mtime=1500000000.250000000 ", true},
			{`chmod 600 same; chmod 644 same`, "same", " mtime=1500000000.250000000 ", false},
			{`echo x > d/new; rm d/new; touch -d @1500000000.75 d`, "d", " mtime=1500000000.750000000 ", true},
			{`ln -s x l; rm l`, "same", " mtime=1500000000.250000000 ", false},
		} {
			upper, work := l.upper()
			unmount := l.mount(l.lowers(), upper, work)
			sh(t, tt.script)(l.merged)
			unmount()
			if got := paths(l.finish(upper)); len(got) > 0 || l.exact == tt.kept {
				t.Errorf("%s: changes %q, exact %v", tt.script, got, l.exact)
			}
			unmount = l.mount(l.lowers(), "", "")
			if got := snapshot(t, l.merged)[tt.path]; !strings.Contains(got, tt.want) {
				t.Errorf("%s: %s is %q, want%s", tt.script, tt.path, got, tt.want)
			}
			unmount()
		}
	}
}

// TestOverlaySameDigest runs the same steps twice; with an epoch the tars are
// the same.
func TestOverlaySameDigest(t *testing.T) {
	t.Parallel()
	var tars [2][]byte
	for i := range tars {
		l := newLab(t)
		epoch := int64(1_600_000_000)
		l.o.Epoch = &epoch
		l.base(sh(t, baseScript))
		if i == 1 {
			time.Sleep(1100 * time.Millisecond)
		}
		l.step2(sh(t, `rm -r usr/lib; mkdir usr/lib; for i in 9 3 5 1; do echo $i > usr/lib/$i; done; ln usr/lib/9 usr/a; chmod 600 etc/passwd`))
		tars[i] = l.tars[1]
	}
	if string(tars[0]) != string(tars[1]) {
		t.Error("the tars differ")
	}
}

// step2 is step without comparing times with the mount's.
func (l *lab) step2(change func(root string)) {
	upper, work := l.upper()
	unmount := l.mount(l.lowers(), upper, work)
	change(l.merged)
	unmount()
	l.finish(upper)
}

func TestOverlayDeepPaths(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.base(sh(t, baseScript))
	name := strings.Repeat("d", 250)
	upper, work := l.upper()
	unmount := l.mount(l.lowers(), upper, work)
	root, err := os.OpenRoot(l.merged)
	check(t, err)
	var all []string
	for range 15 { // 3,765 bytes, which leaves space for the path of the test's directory
		all = append(all, name)
		check(t, root.Mkdir(name, 0o755))
		next, err := root.OpenRoot(name)
		check(t, err)
		root.Close()
		root = next
	}
	f, err := root.Create("file")
	check(t, err)
	fmt.Fprint(f, "deep")
	check(t, unix.Fsetxattr(int(f.Fd()), "user.deep", []byte("yes"), 0))
	check(t, f.Close())
	root.Close()
	unmount()
	changes := l.finish(upper)
	last := changes[len(changes)-1]
	if len(changes) != 16 || last.Path != strings.Join(all, "/")+"/file" || last.XAttrs["user.deep"] != "yes" {
		t.Fatalf("%d changes, the last %s %v", len(changes), last.Path, last.XAttrs)
	}
	if last := l.index.Entries[len(l.index.Entries)-1]; last.Digest == "" || last.Size != 4 {
		t.Errorf("the deep file was not read: %+v", last)
	}
	// A path longer than the limit is refused by name.
	upper, work = l.upper()
	deep, err := os.OpenRoot(upper)
	check(t, err)
	for range 17 {
		check(t, deep.Mkdir(name, 0o755))
		next, err := deep.OpenRoot(name)
		check(t, err)
		deep.Close()
		deep = next
	}
	deep.Close()
	_, err = Overlay(t.Context(), upper, l.lowers(), l.o)
	if err == nil || !strings.Contains(err.Error(), "longer than 4095 bytes") {
		t.Errorf("error %v", err)
	}
	_ = work
}

// TestOverlayManyLowers changes many paths of a long chain of layers.
func TestOverlayManyLowers(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.base(sh(t, baseScript))
	for i := range 150 {
		l.step2(sh(t, fmt.Sprintf(`echo %d > etc/f%d; echo %d > etc/passwd; mkdir -p d/%d; : > d/%d/x; rm -f etc/f%d`, i, i, i, i%20, i%20, i-3)))
	}
	got := paths(l.step(sh(t, `rm -r d/7 d/8; mkdir d/8; rm etc/f149; echo 149 > etc/f148; echo x > usr/bin/new
		rm -r usr/lib; echo y > usr/lib`)))
	want := []string{"+d", "-d/7", "+d/8", "-d/8/x", "+etc", "+etc/f148", "-etc/f149", "+usr", "+usr/bin", "+usr/bin/new", "+usr/lib"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
	// These are enough for listing the lower directories instead of looking up each
	// path.
	changes := l.step(sh(t, `for i in $(seq 100); do echo $i > etc/g$i; echo $i > etc/f$i; done; rm -rf d; mkdir d; : > d/7`))
	if n := len(changes); n != 1+200+1+19+1 { // etc, its files, d, its whiteouts and file
		t.Errorf("%d changes: %q", n, paths(changes))
	}
}

// TestOverlayRealTree changes a copy of this machine's /etc and a part of its
// /usr in the ways that package managers do.
func TestOverlayRealTree(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.loose = true
	l.base(func(root string) {
		for _, dir := range []string{"/etc", "/usr/share/perl5", "/usr/lib/python3.11/email"} {
			if _, err := os.Stat(dir); err == nil {
				sh(t, `mkdir -p .`+filepath.Dir(dir)+`; cp -a `+dir+` .`+filepath.Dir(dir))(root)
			}
		}
	})
	l.step(sh(t, `find . -type f -name '*.conf' -exec sed -i 's/a/b/' {} +; find . -type f -name '*.py' | head -50 | xargs -r rm -f`))
	l.step(sh(t, `find . -type f | head -100 | xargs touch -c -r /; chmod -R u+w etc`))
	l.step(sh(t, `chown -R 1000:1000 usr/share; find . -mindepth 3 -type d -name '*e*' -prune | head -20 | xargs -r rm -rf`))
	l.step(sh(t, `cp -al usr/share usr/links; rm -rf usr/share; mkdir usr/share; mv usr/links usr/share/links`))
	l.step(sh(t, `cp -a etc etc.new; rm -rf etc; mv etc.new etc`))
}

func TestOverlayStopsWhenCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Overlay(ctx, t.TempDir(), nil, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestOverlayNamesWhatFails(t *testing.T) {
	t.Parallel()
	missing := t.TempDir() + "/missing"
	if _, err := Overlay(t.Context(), missing, nil, Options{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("error %v", err)
	}
}

// TestOverlayHostileLower has a lower tree with symlinks that lead out of it.
func TestOverlayHostileLower(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	outside := l.mkdir("outside")
	check(t, os.WriteFile(outside+"/secret", []byte("s"), 0o644))
	l.base(func(root string) { check(t, os.Symlink(outside, root+"/d")) })
	upper, _ := l.upper()
	check(t, os.Mkdir(upper+"/d", 0o755))
	check(t, unix.Mknod(upper+"/d/secret", unix.S_IFCHR, 0))
	check(t, unix.Lsetxattr(upper+"/d", opaqueName, []byte("y"), 0))
	got := paths(l.finish(upper))
	if !slices.Equal(got, []string{"+d"}) {
		t.Errorf("changes %q", got)
	}
	if _, err := os.Stat(outside + "/secret"); err != nil {
		t.Error(err)
	}
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.base(func(root string) { check(t, os.Chown(root, 3, 4)) })
	if n, _ := l.view.Lookup("."); n.Mode != RootMode || n.UID != 3 {
		t.Fatalf("the root's entry is %+v", n.Entry)
	}
	got := paths(l.step(sh(t, `[ "$(stat -c %a:%u:%g .)" = 755:3:4 ]; : > f`)))
	if !slices.Equal(got, []string{"+f"}) {
		t.Errorf("changes %q", got)
	}
}

func TestSameBytes(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 3*compareBuffer)
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"", "", true}, {"a", "a", true}, {"a", "b", false}, {"a", "", false}, {"a", "ab", false},
		{big, big, true}, {big, big + "x", false}, {big + "x", big + "y", false},
		{big[:compareBuffer], big[:compareBuffer], true}, {big[:compareBuffer], big[:compareBuffer] + "x", false},
	} {
		if got, err := sameBytes(strings.NewReader(tt.a), strings.NewReader(tt.b)); got != tt.want || err != nil {
			t.Errorf("%d and %d bytes: %v, %v", len(tt.a), len(tt.b), got, err)
		}
	}
}

// TestRootMode checks that a change of the root directory's mode ends with the step.
func TestRootMode(t *testing.T) {
	t.Parallel()
	for _, plain := range []bool{false, true} {
		dir := t.TempDir()
		for _, name := range []string{"lower", "upper", "tree"} {
			check(t, os.Mkdir(dir+"/"+name, 0o755))
			check(t, Prepare(dir+"/"+name, Options{}.root()))
		}
		var r Result
		var err error
		if plain {
			before, lookErr := Look(t.Context(), dir+"/tree")
			check(t, lookErr)
			check(t, os.Chmod(dir+"/tree", 0o711))
			r, _, err = Plain(t.Context(), dir+"/tree", before, dir+"/upper", []string{dir + "/lower"}, Options{})
		} else {
			check(t, os.Chmod(dir+"/upper", 0o711))
			r, err = Overlay(t.Context(), dir+"/upper", []string{dir + "/lower"}, Options{})
		}
		if err != nil || len(r.Changes) != 0 {
			t.Errorf("plain %v: %+v, %v", plain, r.Changes, err)
		}
		for _, name := range []string{"upper", "tree"} {
			if info, err := os.Stat(dir + "/" + name); err != nil || info.Mode().Perm() != RootMode {
				t.Errorf("plain %v: %s: %v, %v", plain, name, info.Mode(), err)
			}
		}
	}
}

// TestListRoot checks that List leaves the mode of a directory, such as that of a cache
// mount, and returns it.
func TestListRoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check(t, os.Chmod(dir, 0o711))
	list, err := List(t.Context(), dir)
	if err != nil || len(list) != 1 || list[0].Mode != 0o711 {
		t.Errorf("got %+v, %v", list, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("the mode is %v now, %v", info.Mode(), err)
	}
}
