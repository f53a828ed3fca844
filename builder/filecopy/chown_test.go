package filecopy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

// withAccounts returns a tree with the files passwd and group.
func withAccounts(passwd, group string) *listing.View {
	file := func(path, text string) listing.Entry {
		return listing.Entry{Path: path, Type: listing.TypeFile, Size: int64(len(text)), Digest: layer.FromBytes([]byte(text)), Content: []byte(text)}
	}
	return listing.Empty().WithLayer(&listing.Listing{Entries: []listing.Entry{
		{Path: "etc", Type: listing.TypeDir, Mode: 0o755}, file("etc/group", group), file("etc/passwd", passwd),
	}})
}

// TestOwner checks the ids of users and groups by name and by number.
func TestOwner(t *testing.T) {
	t.Parallel()
	below := withAccounts(
		"root:x:0:0:root:/root:/bin/sh\napp:x:10:20::/:/bin/sh\napp:x:11:21::/:/bin/sh\n-5:x:7:8::/:\nhuge:x:4294967295:1::/:\nbelow:x:-1:1::/:\n",
		"wheel:x:30:app\nwheel:x:31:\nhuge:x:4294967295:\n",
	)
	const (
		noUser  = `user %q not found in the image's /etc/passwd; using root`
		noGroup = `group %q not found in the image's /etc/group; using %d`
	)
	user := func(name string) string { return fmt.Sprintf(noUser, name) }
	group := func(name string, id int) string { return fmt.Sprintf(noGroup, name, id) }
	for spec, want := range map[string]string{
		"":                "0:0",
		":":               "0:0",
		"root":            "0:0",
		"root:root":       "0:0",
		"0":               "0:0",
		"5":               "5:5",
		"5:":              "5:5",
		"5:6":             "5:6",
		":6":              "0:6",
		":wheel":          "0:30",
		"5:wheel":         "5:30",
		"5:root":          "5:0",
		"app":             "10:20", // the first entry counts
		"app:":            "10:20",
		"app:7":           "10:7",
		"app:wheel":       "10:30",
		"007":             "7:7",
		"2147483647":      "2147483647:2147483647",
		"2147483648":      "0:0 " + user("2147483648"), // a name: BuildKit parses 32 bits
		"5:2147483648":    "5:5 " + group("2147483648", 5),
		"me":              "0:0 " + user("me"),
		"App":             "0:0 " + user("App"),
		"me:wheel":        "0:30 " + user("me"),
		"app:we":          "10:20 " + group("we", 20),
		"me:we":           "0:0 " + user("me") + ", " + group("we", 0),
		"app:wheel:x":     "10:20 " + group("wheel:x", 20),
		"huge":            `owner "huge" is 4294967295:1, but ids are between 0 and 4294967294`,
		"app:huge":        `owner "app:huge" is 10:4294967295, but ids are between 0 and 4294967294`,
		"below":           `owner "below" is -1:1, but ids are between 0 and 4294967294`,
		"-5":              `owner "-5" is -5:-5, but ids are between 0 and 4294967294`,
		"1:-1":            `owner "1:-1" is 1:-1, but ids are between 0 and 4294967294`,
		"10 ":             "0:0 " + user("10 "),
		"0x10":            "0:0 " + user("0x10"),
		"5:0x10":          "5:5 " + group("0x10", 5),
		"4294967294:1":    "0:1 " + user("4294967294"),
		"root:4294967294": "0:0 " + group("4294967294", 0),
	} {
		var warnings []string
		uid, gid, err := Owner(below, spec, func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) })
		got := strings.TrimSpace(fmt.Sprintf("%d:%d %s", uid, gid, strings.Join(warnings, ", ")))
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", spec, got, want)
		}
	}
}

// TestOwnerFiles checks owners in images whose passwd and group files are missing or are
// not files.
func TestOwnerFiles(t *testing.T) {
	t.Parallel()
	for _, tree := range [][]string{
		{},
		{"d 0755 0:0 etc"},
		{"d 0755 0:0 etc", "d 0755 0:0 etc/passwd", "d 0755 0:0 etc/group"},
		{"d 0755 0:0 etc", "f 0644 0:0 etc/passwd", "f 0644 0:0 etc/group"},
		{"f 0644 0:0 etc text"},
		{"d 0755 0:0 etc", "l etc/passwd /gone", "l etc/group group"},
	} {
		warnings := 0
		uid, gid, err := Owner(treeOf(t, tree...).View, "app:wheel", func(string, ...any) { warnings++ })
		if uid != 0 || gid != 0 || err != nil || warnings != 2 {
			t.Errorf("%q: %d:%d, %v, %d warnings", tree, uid, gid, err, warnings)
		}
		uid, gid, err = Owner(treeOf(t, tree...).View, "3:4", func(string, ...any) { t.Errorf("%q: a warning about a number", tree) })
		if uid != 3 || gid != 4 || err != nil {
			t.Errorf("%q: %d:%d, %v", tree, uid, gid, err)
		}
	}
}

// TestCopyAttributes checks which files and directories --chown and --chmod apply to.
func TestCopyAttributes(t *testing.T) {
	t.Parallel()
	src := FromTree(treeOf(t,
		"d 0750 7:8 dir", "f 4640 7:8 dir/a one", "d 1700 7:8 dir/sub", "f 0600 7:8 dir/sub/c three", "l dir/link a", "f 0644 7:8 file hello",
	))
	below := treeOf(t, "d 0711 1:1 app", "d 0711 1:1 app/sub")
	for name, test := range map[string]struct {
		op   op.Copy
		want string // or the error
	}{
		"chown of all files": {
			op.Copy{Sources: paths("/dir"), Dest: "/new", Chown: "5:6"},
			"d 0755 5:6 new\nf 4640 5:6 new/a one\nl new/link a\nd 1700 5:6 new/sub\nf 0600 5:6 new/sub/c three\n",
		},
		"chown of existing directories": {
			op.Copy{Sources: paths("/dir"), Dest: "/app", Chown: "5:6"},
			"d 0711 1:1 app\nf 4640 5:6 app/a one\nl app/link a\nd 1700 5:6 app/sub\nf 0600 5:6 app/sub/c three\n",
		},
		"octal chmod": {
			op.Copy{Sources: paths("/dir"), Dest: "/new", Chmod: "2751"},
			"d 0751 0:0 new\nf 2751 7:8 new/a one\nl new/link a\nd 2751 7:8 new/sub\nf 2751 7:8 new/sub/c three\n",
		},
		"octal chmod of directories on the way": {
			op.Copy{Sources: paths("/file"), Dest: "/x/y/z", Chmod: "1777"},
			"d 0777 0:0 x\nd 0777 0:0 x/y\nf 1777 7:8 x/y/z hello\n",
		},
		"symbolic chmod": {
			op.Copy{Sources: paths("/dir"), Dest: "/new", Chmod: "go=u,a+X"},
			"d 0755 0:0 new\nf 4666 7:8 new/a one\nl new/link a\nd 1777 7:8 new/sub\nf 0666 7:8 new/sub/c three\n",
		},
		"inline file": {
			op.Copy{Sources: []op.CopySource{{Name: "f", Data: "text"}}, Dest: "/app", DestDir: true, Chown: "5:6", Chmod: "u=rwx,go="},
			"d 0711 1:1 app\nf 0700 5:6 app/f text\n",
		},
		"an id out of range": {op.Copy{Sources: paths("/file"), Dest: "/f", Chown: "-1"}, `--chown=-1: owner "-1" is -1:-1, but ids are between 0 and 4294967294`},
		"an octal mode out of range": {
			op.Copy{Sources: paths("/file"), Dest: "/f", Chmod: "10000"},
			"--chmod=10000: invalid chmod parameter: '10000'. it should be octal string and between 0 and 07777",
		},
		"a malformed mode": {
			op.Copy{Sources: paths("/file"), Dest: "/f", Chmod: "u+r,u?x"},
			`--chmod=u+r,u?x: invalid chmod parameter: 'u+r,u?x'. "u?x" is not of the form u+rwX`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := copyInto(t, below, src, test.op)
			if err != nil {
				got = err.Error()
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
