package sandbox

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHostileImages checks that links of an image, at paths where the sandbox mounts or
// reads, do not make it read, make, change or mount on files outside the tree.
func TestHostileImages(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		edit    func(root, outside string)
		wantErr string
	}{
		{"dev", func(root, outside string) { must(t, os.Symlink(outside, root+"/dev")) }, ""},
		{"dev by dots", func(root, outside string) { must(t, os.Symlink("../../../.."+outside, root+"/dev")) }, ""},
		{"proc", func(root, outside string) { must(t, os.Symlink(outside, root+"/proc")) }, "/proc of the image"},
		{"sys", func(root, outside string) { must(t, os.Symlink(outside, root+"/sys")) }, "/sys of the image is not a directory"},
		{"proc is a file", func(root, outside string) { must(t, os.WriteFile(root+"/proc", nil, 0o644)) }, "/proc"},
		{"etc", func(root, outside string) {
			must(t, os.RemoveAll(root+"/etc"))
			must(t, os.Symlink(outside, root+"/etc"))
		}, ""},
		{"hosts", func(root, outside string) { must(t, os.Symlink(outside+"/secret", root+"/etc/hosts")) }, ""},
		{"resolv.conf by dots", func(root, outside string) {
			must(t, os.Symlink("../../../../../.."+outside+"/secret", root+"/etc/resolv.conf"))
		}, ""},
		{"hosts through proc", func(root, outside string) {
			must(t, os.Symlink("/proc/self/cwd/secret", root+"/etc/hosts"))
		}, "prepare /etc/hosts"},
		{"hosts is a folder", func(root, outside string) { must(t, os.Mkdir(root+"/etc/hosts", 0o755)) }, "prepare /etc/hosts"},
		{"tmp", func(root, outside string) {
			must(t, os.RemoveAll(root+"/tmp"))
			must(t, os.Symlink(outside, root+"/tmp"))
		}, ""},
		{"passwd", func(root, outside string) {
			must(t, os.Remove(root+"/etc/passwd"))
			must(t, os.Symlink(outside+"/secret", root+"/etc/passwd"))
		}, ""},
		{"endless link", func(root, outside string) { must(t, os.Symlink("hosts", root+"/etc/hosts")) }, "too many levels"},
		{"endless folder", func(root, outside string) { must(t, os.Symlink("dev/x", root+"/dev")) }, "too many levels"},
	} {
		t.Run(test.name, func(t *testing.T) {
			outside := t.TempDir()
			must(t, os.WriteFile(outside+"/secret", []byte("secret:x:0:0:::\n"), 0o644))
			root := image(t, func(root string) { test.edit(root, outside) })
			s := spec(t, root, "cat "+outside+"/secret 2>/dev/null | grep secret; echo x > /tmp/made; echo done")
			o, err := try(s)
			if test.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), test.wantErr) {
					t.Errorf("error %v, want %s", err, test.wantErr)
				}
			} else if err != nil || o.out != "done\n" {
				t.Errorf("got %+v, %v", o, err)
			}
			text, err := os.ReadFile(outside + "/secret")
			if err != nil || string(text) != "secret:x:0:0:::\n" || !slices.Equal(entries(t, outside), []string{"secret"}) {
				t.Errorf("outside has %q, secret %q, %v", entries(t, outside), text, err)
			}
		})
	}
}

func TestUserFilesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, user, want string
		edit             func(file string)
	}{
		{"fifo", "eve", "unable to find user eve", func(p string) { must(t, unix.Mkfifo(p, 0o644)) }},
		{"fifo, number", "4:5", "", func(p string) { must(t, unix.Mkfifo(p, 0o644)) }},
		{"folder", "", "", func(p string) { must(t, os.Mkdir(p, 0o755)) }},
		{"huge", "eve", "larger than", func(p string) {
			must(t, os.WriteFile(p, nil, 0o644))
			must(t, os.Truncate(p, 1<<40))
		}},
		{"huge, number", "4:5", "", func(p string) {
			must(t, os.WriteFile(p, nil, 0o644))
			must(t, os.Truncate(p, 1<<40))
		}},
	} {
		for _, file := range []string{"passwd", "group"} {
			t.Run(test.name+", "+file, func(t *testing.T) {
				root := image(t, func(root string) {
					must(t, os.Remove(root+"/etc/"+file))
					test.edit(root + "/etc/" + file)
				})
				s := spec(t, root, "true")
				s.User = test.user
				_, err := try(s)
				if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
					t.Errorf("error %v, want %q", err, test.want)
				}
			})
		}
	}
}

// TestMountTargetsStayInside checks that the links in targets are followed in the tree.
func TestMountTargetsStayInside(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	must(t, os.Mkdir(outside+"/victim", 0o755))
	source := t.TempDir()
	must(t, os.WriteFile(source+"/f", []byte("here\n"), 0o644))
	root := image(t, func(root string) {
		must(t, os.Symlink(outside+"/victim", root+"/up"))
		must(t, os.Symlink("../../../../../.."+outside, root+"/dots"))
	})
	s := spec(t, root, "cat /up/f /dots/new/f")
	s.Mounts = []Mount{{Type: "bind", Source: source, Target: "/up"}, {Type: "bind", Source: source, Target: "/dots/new"}}
	if o := run(t, s); o.out != "here\nhere\n" {
		t.Errorf("got %+v", o)
	}
	if got := entries(t, outside); !slices.Equal(got, []string{"victim"}) {
		t.Errorf("outside has %q", got)
	}
}

// TestDaemonsEnd checks that processes left by a step end with it, even in their own
// sessions and ignoring signals, and do not delay the end of its output.
func TestDaemonsEnd(t *testing.T) {
	t.Parallel()
	s := spec(t, image(t, nil), "(trap '' TERM HUP INT; while :; do echo x; sleep 0.01; done >> /alive) & setsid nohup sleep 1000 & sleep 0.1; echo end")
	if o := run(t, s); o.ExitCode != 0 || !strings.Contains(o.out, "end") {
		t.Errorf("got %+v", o)
	}
	assertNoWriter(t, s.Upper+"/alive")
}

// TestUpperIsFree checks that the upper directory of a run can be a layer of the next,
// without a message of the kernel.
func TestUpperIsFree(t *testing.T) {
	t.Parallel()
	s := spec(t, image(t, nil), "echo 1 > /n")
	lowers := s.Lowers
	for range 5 {
		run(t, s)
		lowers = append([]string{s.Upper}, lowers...)
		s = spec(t, lowers[len(lowers)-1], "echo $(($(cat /n) + 1)) > /n")
		s.Lowers = lowers
	}
	s.Args[2] = "cat /n"
	if o := run(t, s); o.out != "5\n" {
		t.Errorf("got %+v", o)
	}
}
