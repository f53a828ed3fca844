package filecopy

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

// treeOf returns a tree with the given paths, one of
//
//	d MODE UID:GID PATH
//	f MODE UID:GID PATH TEXT
//	l PATH TARGET (a symlink)
//	h PATH TARGET (a hard link)
func treeOf(t *testing.T, lines ...string) Tree {
	t.Helper()
	var entries []listing.Entry
	content := map[string]string{}
	for _, line := range lines {
		fields := strings.Fields(line)
		e := listing.Entry{MTime: 5}
		switch fields[0] {
		case "l":
			e.Type, e.Mode, e.Path, e.Link = listing.TypeSymlink, 0o777, fields[1], fields[2]
		case "h":
			e.Type, e.Path, e.Link = listing.TypeHardlink, fields[1], fields[2]
		default:
			if _, err := fmt.Sscanf(fields[1]+" "+fields[2], "%o %d:%d", &e.Mode, &e.UID, &e.GID); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			e.Type, e.Path = listing.TypeDir, fields[3]
			if fields[0] == "f" {
				text := strings.Join(fields[4:], " ")
				e.Type, e.Size, e.Digest = listing.TypeFile, int64(len(text)), layer.FromBytes([]byte(text))
				content[e.Path] = text
				if listing.CarriesContent(e.Path) {
					e.Content = []byte(text)
				}
			}
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, listing.Compare)
	open := func(n listing.Node) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(content[n.TreePath])), nil
	}
	return Tree{View: listing.Empty().WithLayer(&listing.Listing{Entries: entries}), Open: open}
}

// copyInto carries out op, whose sources are all in src, and returns its changes as
// lines like those of treeOf, with the content of files.
func copyInto(t *testing.T, below Tree, src Source, o op.Copy) (string, error) {
	t.Helper()
	sel := op.Selection{Exclude: o.Exclude}
	for i := range o.Sources {
		s := &o.Sources[i]
		if s.Data != "" {
			continue
		}
		s.Input = 1
		sel.Paths = append(sel.Paths, op.SelPath{Path: s.Path, Parents: s.Parents, Include: s.Include, Required: s.Required, Literal: s.Literal})
	}
	var warnings strings.Builder
	c := Copier{
		Op: o, Below: below, Now: time.Unix(100, 0),
		Warn:    func(format string, args ...any) { fmt.Fprintf(&warnings, "warning: "+format+"\n", args...) },
		TempDir: func(string) (string, error) { return t.TempDir(), nil },
		Select: func(ctx context.Context, _ int) (*Selected, func(), error) {
			s, err := Select(ctx, src, sel)
			return s, func() {}, err
		},
	}
	changes, err := c.Copy(t.Context())
	if err != nil {
		return "", err
	}
	defer changes.Close()
	return warnings.String() + describe(t, changes), nil
}

func describe(t *testing.T, changes *Changes) string {
	t.Helper()
	var b strings.Builder
	for c := range changes.All() {
		switch c.Type {
		case listing.TypeDir:
			fmt.Fprintf(&b, "d %04o %d:%d %s\n", c.Mode, c.UID, c.GID, c.Path)
		case listing.TypeFile:
			r, err := c.Open()
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(r)
			r.Close()
			fmt.Fprintf(&b, "f %04o %d:%d %s %s\n", c.Mode, c.UID, c.GID, c.Path, text)
		case listing.TypeSymlink:
			fmt.Fprintf(&b, "l %s %s\n", c.Path, c.Link)
		case listing.TypeHardlink:
			fmt.Fprintf(&b, "h %s %s\n", c.Path, c.Link)
		case listing.TypeWhiteout:
			fmt.Fprintf(&b, "w %s\n", c.Path)
		default:
			t.Errorf("%s has type %v", c.Path, c.Type)
		}
	}
	return b.String()
}

// paths returns sources that are searched with wildcards.
func paths(list ...string) (sources []op.CopySource) {
	for _, p := range list {
		sources = append(sources, op.CopySource{Path: p})
	}
	return sources
}

func TestCopy(t *testing.T) {
	src := FromTree(treeOf(t,
		"d 0750 7:8 dir", "f 0640 7:8 dir/a one", "f 0755 7:8 dir/b.go two", "d 0700 7:8 dir/sub", "f 0600 7:8 dir/sub/c.go three", "l dir/link a",
		"f 0644 0:0 file hello", "l to-dir dir", "l to-file file", "l loop loop", "l lost gone", "f 0644 0:0 x/one 1", "f 0644 0:0 x/two 2", "h x/uno x/one",
	))
	below := treeOf(t,
		"d 0755 0:0 etc", "f 0644 0:0 etc/passwd app:x:10:20::/:/bin/sh", "f 0644 0:0 etc/group wheel:x:30:",
		"d 0711 1:1 app", "f 0644 0:0 app/old text", "l current app", "l away /nowhere/else", "l round round", "f 0644 0:0 plain text",
	)
	mode := func(s string) op.Copy { return op.Copy{Sources: paths("/file"), Dest: "/new/f", Chmod: s} }
	for name, test := range map[string]struct {
		op   op.Copy
		want string // or the error
	}{
		"a file to a new name":           {op.Copy{Sources: paths("/file"), Dest: "/new/name"}, "d 0755 0:0 new\nf 0644 0:0 new/name hello\n"},
		"a file into an existing dir":    {op.Copy{Sources: paths("/file"), Dest: "/app"}, "d 0711 1:1 app\nf 0644 0:0 app/file hello\n"},
		"a file into a slash":            {op.Copy{Sources: paths("/file"), Dest: "/new", DestDir: true}, "d 0755 0:0 new\nf 0644 0:0 new/file hello\n"},
		"a destination that is a link":   {op.Copy{Sources: paths("/file"), Dest: "/current/f"}, "d 0711 1:1 app\nf 0644 0:0 app/f hello\n"},
		"a destination behind a link":    {op.Copy{Sources: paths("/file"), Dest: "/away"}, "d 0755 0:0 nowhere\nf 0644 0:0 nowhere/else hello\n"},
		"a link as the source":           {op.Copy{Sources: paths("/to-file"), Dest: "/new", DestDir: true}, "d 0755 0:0 new\nf 0644 0:0 new/to-file hello\n"},
		"the content of a directory":     {op.Copy{Sources: paths("/dir"), Dest: "/app"}, "d 0711 1:1 app\nf 0640 7:8 app/a one\nf 0755 7:8 app/b.go two\nl app/link a\nd 0700 7:8 app/sub\nf 0600 7:8 app/sub/c.go three\n"},
		"a directory that is a link":     {op.Copy{Sources: paths("/to-dir"), Dest: "/app", Exclude: []string{"**/*.go", "link"}}, "d 0711 1:1 app\nf 0640 7:8 app/a one\nd 0700 7:8 app/sub\n"},
		"a wildcard":                     {op.Copy{Sources: paths("/dir/*.go"), Dest: "/app", DestDir: true}, "d 0711 1:1 app\nf 0755 7:8 app/b.go two\n"},
		"a wildcard in the middle":       {op.Copy{Sources: paths("/d*/s?b/[a-c].go"), Dest: "/app", DestDir: true}, "d 0711 1:1 app\nf 0600 7:8 app/c.go three\n"},
		"a wildcard without a match":     {op.Copy{Sources: paths("/dir/*.c"), Dest: "/app", DestDir: true}, ""},
		"a wildcard in no directory":     {op.Copy{Sources: paths("/gone/*.c"), Dest: "/app"}, `"/gone": not found in the image or stage that it is copied from`},
		"an escaped wildcard":            {op.Copy{Sources: paths(`/dir/\*`), Dest: "/app"}, `"/dir/\\*": not found in the image or stage that it is copied from`},
		"exclude":                        {op.Copy{Sources: paths("/dir"), Dest: "/app", Exclude: []string{"*", "!sub"}}, "d 0711 1:1 app\nd 0700 7:8 app/sub\nf 0600 7:8 app/sub/c.go three\n"},
		"parents":                        {op.Copy{Sources: []op.CopySource{{Path: "/", Parents: true, Include: "dir/sub/*.go"}}, Dest: "/app", DestDir: true}, "d 0711 1:1 app\nd 0750 7:8 app/dir\nd 0700 7:8 app/dir/sub\nf 0600 7:8 app/dir/sub/c.go three\n"},
		"parents below a pivot":          {op.Copy{Sources: []op.CopySource{{Path: "/dir", Parents: true, Include: "sub/c.go", Required: true}}, Dest: "/app", DestDir: true}, "d 0711 1:1 app\nd 0700 7:8 app/sub\nf 0600 7:8 app/sub/c.go three\n"},
		"parents through a link":         {op.Copy{Sources: []op.CopySource{{Path: "/", Parents: true, Include: "to-dir/a", Required: true}}, Dest: "/app"}, `"/to-dir/a": not found in the image or stage that it is copied from`},
		"parents that are missing":       {op.Copy{Sources: []op.CopySource{{Path: "/", Parents: true, Include: "dir/d", Required: true}}, Dest: "/app"}, `"/dir/d": not found in the image or stage that it is copied from`},
		"parents of a link to nothing":   {op.Copy{Sources: []op.CopySource{{Path: "/", Parents: true, Include: "lost", Required: true}}, Dest: "/app"}, "d 0711 1:1 app\nl app/lost gone\n"},
		"parents below a missing pivot":  {op.Copy{Sources: []op.CopySource{{Path: "/gone", Parents: true, Include: "d", Required: true}}, Dest: "/app"}, `"/gone/d": not found in the image or stage that it is copied from`},
		"a later source wins":            {op.Copy{Sources: paths("/file", "/dir/a"), Dest: "/plain"}, "f 0640 7:8 plain one\n"},
		"hard links stay links":          {op.Copy{Sources: paths("/x"), Dest: "/app"}, "d 0711 1:1 app\nf 0644 0:0 app/one 1\nf 0644 0:0 app/two 2\nh app/uno app/one\n"},
		"links of two sources are apart": {op.Copy{Sources: paths("/x/one", "/x/uno"), Dest: "/app", DestDir: true}, "d 0711 1:1 app\nf 0644 0:0 app/one 1\nf 0644 0:0 app/uno 1\n"},
		"inline":                         {op.Copy{Sources: []op.CopySource{{Name: "f", Data: "text"}}, Dest: "/app", DestDir: true}, "d 0711 1:1 app\nf 0644 0:0 app/f text\n"},
		"chown by name":                  {op.Copy{Sources: paths("/file"), Dest: "/new/f", Chown: "app"}, "d 0755 10:20 new\nf 0644 10:20 new/f hello\n"},
		"chown by name and group":        {op.Copy{Sources: paths("/file"), Dest: "/new/f", Chown: "app:wheel"}, "d 0755 10:30 new\nf 0644 10:30 new/f hello\n"},
		"chown by number":                {op.Copy{Sources: paths("/file"), Dest: "/new/f", Chown: "5"}, "d 0755 5:5 new\nf 0644 5:5 new/f hello\n"},
		"chown by an unknown name":       {op.Copy{Sources: paths("/file"), Dest: "/f", Chown: "me:we"}, "warning: user \"me\" not found in the image's /etc/passwd; using root\nwarning: group \"we\" not found in the image's /etc/group; using 0\nf 0644 0:0 f hello\n"},
		"chmod octal":                    {mode("4701"), "d 0701 0:0 new\nf 4701 0:0 new/f hello\n"},
		"chmod symbolic":                 {mode("u=rwx,go-r"), "d 0755 0:0 new\nf 0700 0:0 new/f hello\n"},
		"a directory over a file":        {op.Copy{Sources: paths("/dir"), Dest: "/plain"}, "cannot copy to non-directory: /plain"},
		"a directory below a file":       {op.Copy{Sources: paths("/file"), Dest: "/plain/f"}, "mkdir /plain: not a directory: it is a file in the image"},
		"two directories":                {op.Copy{Sources: paths("/x", "/dir"), Dest: "/y"}, "d 0755 0:0 y\nf 0640 7:8 y/a one\nf 0755 7:8 y/b.go two\nl y/link a\nf 0644 0:0 y/one 1\nd 0700 7:8 y/sub\nf 0600 7:8 y/sub/c.go three\nf 0644 0:0 y/two 2\nh y/uno y/one\n"},
		"a loop in the destination":      {op.Copy{Sources: paths("/file"), Dest: "/round/f"}, "/round: too many levels of symbolic links"},
		"a missing source":               {op.Copy{Sources: paths("/fil"), Dest: "/app"}, `"/fil": not found in the image or stage that it is copied from (did you mean /file?)`},
		"a missing source below":         {op.Copy{Sources: paths("/dri/sub/c.go"), Dest: "/app"}, `"/dri/sub/c.go": not found in the image or stage that it is copied from (did you mean /dir/sub/c.go?)`},
	} {
		t.Run(name, func(t *testing.T) {
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

// TestCopyConflicts checks BuildKit's errors for files over directories.
func TestCopyConflicts(t *testing.T) {
	src := FromTree(treeOf(t, "d 0755 0:0 a", "f 0644 0:0 a/x text", "d 0755 0:0 b", "d 0755 0:0 b/x", "f 0644 0:0 b/x/y text"))
	for _, c := range []struct{ below, from, want string }{
		{"d 0755 0:0 to/x", "/a", "cannot replace to directory /to/x with file"},
		{"f 0644 0:0 to/x text", "/b", "cannot copy to non-directory: /to/x"},
		{"l to/x /elsewhere", "/b", "cannot copy to non-directory: /to/x"},
	} {
		_, err := copyInto(t, treeOf(t, "d 0755 0:0 to", c.below), src, op.Copy{Sources: paths(c.from), Dest: "/to"})
		if err == nil || err.Error() != c.want {
			t.Errorf("%s over %s: %v, want %s", c.from, c.below, err, c.want)
		}
	}
}

// TestCopyEpoch checks that no time is later than the epoch, and that directories in
// which names change have the epoch's.
func TestCopyEpoch(t *testing.T) {
	epoch := int64(3)
	for _, e := range []*int64{nil, &epoch} {
		o := op.Copy{Sources: []op.CopySource{{Name: "f", Data: "text"}}, Dest: "/app/new/f", Epoch: e}
		c := Copier{Op: o, Below: treeOf(t, "d 0755 0:0 app"), Now: time.Unix(100, 0)}
		changes, err := c.Copy(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int64{"app": 5, "app/new": 100, "app/new/f": 100}
		for ch := range changes.All() {
			if e != nil {
				want[ch.Path] = epoch
			}
			if ch.MTime != want[ch.Path] {
				t.Errorf("epoch %v: %s has time %d, want %d", e, ch.Path, ch.MTime, want[ch.Path])
			}
		}
	}
}

// TestSelectDigest checks which differences of a source change the digest.
func TestSelectDigest(t *testing.T) {
	base := []string{"d 0755 0:0 d", "f 0644 1:2 d/a text", "h d/b d/a"}
	digest := func(sel op.Selection, lines ...string) string {
		sel.Paths = []op.SelPath{{Path: "/d"}}
		s, err := Select(t.Context(), FromTree(treeOf(t, lines...)), sel)
		if err != nil {
			t.Fatal(err)
		}
		if s.Len() == 0 || s.First().Root().Path != "d" {
			t.Errorf("%d files, first %s", s.Len(), s.First().Root().Path)
		}
		return s.Digest
	}
	with := func(i int, line string) []string {
		lines := slices.Clone(base)
		lines[i] = line
		return lines
	}
	all, owner, mode := op.Selection{}, op.Selection{AnyOwner: true}, op.Selection{AnyMode: true}
	for _, c := range []struct {
		sel   op.Selection
		lines []string
		same  bool
	}{
		{all, base, true},
		{all, append(slices.Clone(base), "f 0644 0:0 beside x"), true},
		{all, with(1, "f 0644 1:2 d/a tex"), false},
		{all, with(1, "f 0600 1:2 d/a text"), false},
		{mode, with(1, "f 0600 1:2 d/a text"), true},
		{all, with(1, "f 0644 1:1 d/a text"), false},
		{owner, with(1, "f 0644 1:1 d/a text"), true},
		{all, with(2, "f 0644 1:2 d/b text"), false}, // no longer a link
		{all, with(2, "h d/c d/a"), false},
		{op.Selection{Exclude: []string{"b"}}, with(2, "h d/c d/a"), false},
	} {
		if same := digest(c.sel, base...) == digest(c.sel, c.lines...); same != c.same {
			t.Errorf("%q with %+v: same digest: %v", c.lines, c.sel, same)
		}
	}
}

// TestMatchChanges checks the copy of a match into an empty tree.
func TestMatchChanges(t *testing.T) {
	src := FromTree(treeOf(t, "d 0750 0:0 d", "f 0644 1:2 d/a text", "h d/b d/a"))
	for p, want := range map[string]string{
		"/d":   "at 0; at/a 4 ; at/b 0 at/a; ",
		"/d/b": "at 4 ; ",
	} {
		s, err := Select(t.Context(), src, op.Selection{Paths: []op.SelPath{{Path: p}}})
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for c, err := range s.First().Changes("at") {
			if err != nil {
				t.Fatal(err)
			}
			if c.Type == listing.TypeDir {
				fmt.Fprintf(&got, "%s %d; ", c.Path, c.Size)
				continue
			}
			fmt.Fprintf(&got, "%s %d %s; ", c.Path, c.Size, c.Link)
		}
		if got.String() != want {
			t.Errorf("%s: %q, want %q", p, got.String(), want)
		}
	}
}

func TestWorkdir(t *testing.T) {
	below := treeOf(t, "d 0700 1:1 a", "l link /a/b", "f 0644 0:0 file x")
	warn := func(format string, args ...any) { t.Errorf(format, args...) }
	for dir, want := range map[string]string{
		"/a":        "",
		"/a/b/c":    "d 0700 1:1 a\nd 0755 5:6 a/b\nd 0755 5:6 a/b/c\n",
		"/link/c":   "d 0700 1:1 a\nd 0755 5:6 a/b\nd 0755 5:6 a/b/c\n",
		"/file/sub": "mkdir /file: not a directory: it is a file in the image",
	} {
		var got string
		changes, err := Workdir(below, op.Workdir{Path: dir, User: "5:6"}, time.Unix(1, 0), warn)
		if err != nil {
			got = err.Error()
		} else {
			got = describe(t, changes)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", dir, got, want)
		}
	}
}

// TestUnpack checks archives that ADD unpacks.
func TestUnpack(t *testing.T) {
	archive := func(headers ...tar.Header) File {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			h.Format = tar.FormatPAX
			if h.Typeflag == tar.TypeReg {
				h.Size = int64(len(h.Name))
			}
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if h.Typeflag == tar.TypeReg {
				_, _ = io.WriteString(w, h.Name)
			}
		}
		w.Close()
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
		return File{Entry: listing.Entry{Path: "a.tar", Type: listing.TypeFile, Mode: 0o600, Size: int64(b.Len())}, Open: open}
	}
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o640} }
	link := func(kind byte, name, to string) tar.Header {
		return tar.Header{Typeflag: kind, Name: name, Linkname: to, Mode: 0o600}
	}
	below := treeOf(t, "d 0711 1:1 app", "l app/up ../..", "l app/gone nothing", "f 0644 2:2 app/old text")
	for name, test := range map[string]struct {
		headers []tar.Header
		want    string
	}{
		"files":                                {[]tar.Header{file("d/x"), file("y")}, "d 0711 1:1 app\nd 0755 0:0 app/d\nf 0640 0:0 app/d/x d/x\nf 0640 0:0 app/y y\n"},
		"names that lead out":                  {[]tar.Header{file("../x"), file("up/y"), file("/z")}, "d 0711 1:1 app\nf 0640 0:0 app/x ../x\nf 0640 0:0 app/y up/y\nf 0640 0:0 app/z /z\n"},
		"a dangling link":                      {[]tar.Header{file("gone/x")}, "unpacking a.tar: gone/x: /app/gone: its link to nothing leads nowhere"},
		"a hard link":                          {[]tar.Header{file("x"), link(tar.TypeLink, "y", "x")}, "d 0711 1:1 app\nf 0600 0:0 app/x x\nh app/y app/x\n"},
		"a hard link to below":                 {[]tar.Header{link(tar.TypeLink, "y", "old")}, "d 0711 1:1 app\nf 0600 0:0 app/old text\nh app/y app/old\n"},
		"a hard link to none":                  {[]tar.Header{file("x"), link(tar.TypeLink, "y", "z")}, "unpacking a.tar: y: hard link to z: the archive and the destination have no such file"},
		"a hard link to a dir":                 {[]tar.Header{{Typeflag: tar.TypeDir, Name: "d", Mode: 0o700}, link(tar.TypeLink, "y", "d")}, "unpacking a.tar: y: hard link to d: it is a directory"},
		"a hard link to a symlink":             {[]tar.Header{link(tar.TypeSymlink, "s", "x"), {Typeflag: tar.TypeLink, Name: "y", Linkname: "s", Uid: 3, Gid: 4}}, "d 0711 1:1 app\nl app/s x\nl app/y x\n"},
		"a hard link to a link below":          {[]tar.Header{link(tar.TypeLink, "y", "up")}, "d 0711 1:1 app\nl app/up ../..\nl app/y ../..\n"},
		"a file over a hard link to a symlink": {[]tar.Header{link(tar.TypeSymlink, "s", "x"), link(tar.TypeLink, "y", "s"), file("y")}, "d 0711 1:1 app\nl app/s x\nf 0640 0:0 app/y y\n"},
		"a whiteout":                           {[]tar.Header{file("d/.wh.x")}, "unpacking a.tar: d/.wh.x: names that begin with .wh. can't be in a layer"},
		"a file over a dir":                    {[]tar.Header{file("d/x"), file("d")}, "d 0711 1:1 app\nf 0640 0:0 app/d d\n"},
		"a symlink":                            {[]tar.Header{link(tar.TypeSymlink, "s", "/etc")}, "d 0711 1:1 app\nl app/s /etc\n"},
		"a symlink then a file":                {[]tar.Header{link(tar.TypeSymlink, "s", "/"), file("s/x")}, "d 0711 1:1 app\nl app/s /\nf 0640 0:0 app/x s/x\n"},
	} {
		t.Run(name, func(t *testing.T) {
			src := FromFile(archive(test.headers...))
			got, err := copyInto(t, below, src, op.Copy{Sources: []op.CopySource{{Path: "/a.tar", Unpack: true}}, Dest: "/app", DestDir: true})
			if err != nil {
				got = err.Error()
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// BenchmarkCopy copies a directory of 300,000 files as a bulk, and one by one over an
// existing file.
func BenchmarkCopy(b *testing.B) {
	list := []File{{Entry: listing.Entry{Path: ".", Type: listing.TypeDir, Mode: 0o755}}}
	for i := range 300_000 {
		if i%1000 == 0 {
			list = append(list, File{Entry: listing.Entry{Path: fmt.Sprintf("d%03d", i/1000), Type: listing.TypeDir, Mode: 0o755}})
		}
		list = append(list, File{Entry: listing.Entry{Path: fmt.Sprintf("d%03d/f%03d", i/1000, i%1000), Type: listing.TypeFile, Mode: 0o644, Size: 9}})
	}
	slices.SortFunc(list, func(a, b File) int { return listing.Compare(a.Entry, b.Entry) })
	m := Match{name: path.Base("/"), files: listOf(list...)}
	for name, view := range map[string]*listing.View{
		"bulk": listing.Empty(),
		"each": listing.Empty().WithLayer(&listing.Listing{Entries: []listing.Entry{{Path: "to", Type: listing.TypeDir, Mode: 0o755}, {Path: "to/x", Type: listing.TypeFile}}}),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c := Copier{Op: op.Copy{Sources: []op.CopySource{{Input: 1}}, Dest: "/to"}, Below: Tree{View: view}, Now: time.Unix(1, 0),
					Select: func(context.Context, int) (*Selected, func(), error) {
						return &Selected{paths: [][]Match{{m}}}, func() {}, nil
					}}
				made, err := c.Copy(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				n := 0
				for range made.All() {
					n++
				}
				if n < 300_000 {
					b.Fatal(n)
				}
			}
		})
	}
}
