package sandbox

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// tree makes a folder with files. A value that begins with -> is the target of a link.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	for name, text := range files {
		if i := strings.LastIndexByte(name, '/'); i > 0 {
			must(t, os.MkdirAll(dir+"/"+name[:i], 0o755))
		}
		if link, ok := strings.CutPrefix(text, "->"); ok {
			must(t, os.Symlink(link, dir+"/"+name))
			continue
		}
		must(t, os.WriteFile(dir+"/"+name, []byte(text), 0o644))
	}
	return dir
}

// TestOverlayMounts checks mounts of whole trees and of subpaths, and that changes go to the
// upper directory of the mount.
func TestOverlayMounts(t *testing.T) {
	t.Parallel()
	top := tree(t, map[string]string{"d/top": "top", "up": "->/", "link": "->d"})
	bottom := tree(t, map[string]string{"d/bottom": "bottom", "file": "file"})
	for _, text := range []bool{false, true} {
		t.Run(fmt.Sprintf("text %v", text), func(t *testing.T) {
			s := spec(t, image(t, nil), "cat /all/d/top /all/d/bottom /part/bottom /root/file /one; ! touch /all/x; "+
				"echo more >> /rw/bottom; touch /rw/new; rm /rw/top; cat /rw/bottom; ls -A /none")
			dir := t.TempDir()
			must(t, os.Mkdir(dir+"/upper", 0o755))
			must(t, os.Mkdir(dir+"/work", 0o755))
			lowers := []string{top, bottom}
			s.Mounts = []Mount{
				{Type: "overlay", Lowers: lowers, ReadOnly: true, Target: "/all"},
				{Type: "overlay", Lowers: lowers, ReadOnly: true, Target: "/part", Subpath: "/link"},
				{Type: "overlay", Lowers: lowers, ReadOnly: true, Target: "/root", Subpath: "/up/up"},
				{Type: "overlay", Lowers: lowers, ReadOnly: true, Target: "/one", Subpath: "../../file"},
				{Type: "overlay", Lowers: lowers, Upper: dir + "/upper", Work: dir + "/work", Target: "/rw", Subpath: "/d"},
				{Type: "overlay", ReadOnly: true, Target: "/none"},
			}
			o, err := trySpec(s, text)
			if want := "topbottombottomfilefilebottommore\n"; err != nil || o.out != want || o.ExitCode != 0 {
				t.Errorf("%+v, %v, want %q", o, err, want)
			}
			if left := entries(t, s.Upper); len(left) > 0 {
				t.Errorf("the step's upper has %q", left)
			}
			if got := entries(t, dir+"/upper"); !slices.Contains(got, "d/new") {
				t.Errorf("the mount's upper has %q", got)
			}
		})
	}
	if text, err := os.ReadFile(bottom + "/d/bottom"); string(text) != "bottom" || err != nil {
		t.Errorf("a lower tree was written to: %q, %v", text, err)
	}
}

// TestFileMounts checks that the files are in memory only and have the given owner and mode.
func TestFileMounts(t *testing.T) {
	t.Parallel()
	s := spec(t, image(t, nil), "stat -c '%a %u:%g' /run/secrets/one /two; cat /run/secrets/one; ! echo x > /two; mount | grep -c ' on /two type tmpfs'")
	s.Mounts = []Mount{
		{Type: "file", Target: "/run/secrets/one", ReadOnly: true, Data: "first\n", Mode: 0o400},
		{Type: "file", Target: "/two", ReadOnly: true, Data: "second", Mode: 0o440, UID: 3, GID: 4},
	}
	if o := run(t, s); o.out != "400 0:0\n440 3:4\nfirst\n1\n" {
		t.Errorf("got %+v", o)
	}
	if left := entries(t, s.Upper); len(left) > 0 {
		t.Errorf("upper has %q", left)
	}
	s = spec(t, s.Lowers[0], "ls /run")
	if o := run(t, s); o.ExitCode == 0 {
		t.Errorf("the next step has %q", o.out)
	}
}

func TestMountsThatCannotBe(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"up": "->../../..", "abs": "->/etc"})
	for want, m := range map[string]Mount{
		"/none: no such file":              {Type: "bind", Source: dir, Subpath: "/none", Target: "/x"},
		"/abs/passwd: no such file":        {Type: "bind", Source: dir, Subpath: "/abs/passwd", Target: "/x"},
		"/up/etc/passwd: no such file":     {Type: "bind", Source: dir, Subpath: "/up/etc/passwd", Target: "/x"},
		"/up/etc: no such file":            {Type: "overlay", Lowers: []string{dir}, ReadOnly: true, Subpath: "/up/etc", Target: "/x"},
		"writable overlay needs":           {Type: "overlay", Lowers: []string{dir}, Target: "/x"},
		"root directory cannot be a mount": {Type: "file", Target: "/"},
		"zero byte":                        {Type: "bind", Source: dir, Subpath: "/a\x00", Target: "/x"},
	} {
		s := spec(t, image(t, nil), "true")
		s.Mounts = []Mount{m}
		if _, err := try(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", m, err, want)
		}
	}
}

// TestSubpathRace checks that a folder which another command keeps replacing by a link
// never leads out of the source of a mount.
func TestSubpathRace(t *testing.T) {
	outside := tree(t, map[string]string{"outside": "x"})
	cache := tree(t, map[string]string{"sub/inside": "x"})
	must(t, os.Symlink(outside, cache+"/evil"))
	must(t, os.Symlink("/", cache+"/root"))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			for _, other := range []string{"evil", "root"} {
				select {
				case <-stop:
					return
				default:
				}
				os.Rename(cache+"/sub", cache+"/aside")
				os.Rename(cache+"/"+other, cache+"/sub")
				os.Rename(cache+"/sub", cache+"/"+other)
				os.Rename(cache+"/aside", cache+"/sub")
			}
		}
	}()
	root := image(t, nil)
	for range 50 {
		s := spec(t, root, "ls -A /x")
		s.Mounts = []Mount{{Type: "bind", Source: cache, Subpath: "/sub", Target: "/x"}}
		o, _ := try(s) // at times nothing is there
		if seen := strings.Fields(o.out); slices.Contains(seen, "outside") || slices.Contains(seen, "etc") {
			t.Fatalf("the step sees %q", seen)
		}
	}
	close(stop)
	<-done
}

func TestLimits(t *testing.T) {
	t.Parallel()
	s := spec(t, image(t, nil), "ulimit -n; ulimit -Hn; ulimit -c")
	s.Ulimits = []Ulimit{{"nofile", 50, 60}, {"core", 0, 0}}
	if o := run(t, s); o.out != "50\n60\n0\n" {
		t.Errorf("got %+v", o)
	}
	s.Ulimits = []Ulimit{{Name: "files"}}
	if _, err := try(s); err == nil || !strings.Contains(err.Error(), `unknown ulimit "files"`) {
		t.Errorf("an unknown limit: %v", err)
	}
}
