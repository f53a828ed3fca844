package filecopy

import (
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

// TestUnchanged checks which paths a copy leaves out because they are the same below.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	below := []string{
		"d 0755 0:0 d", "f 0644 0:0 d/a text", "d 0755 0:0 d/e", "f 0644 0:0 d/h x", "h d/i d/h", "l d/l a", "f 0600 0:0 d/z",
	}
	replaced := func(line, by string) []string {
		return strings.Split(strings.Replace(strings.Join(below, "\n"), line, by, 1), "\n")
	}
	all := func(dest string) op.Copy {
		return op.Copy{Sources: []op.CopySource{{Path: "/", Literal: true}}, Dest: dest}
	}
	for name, test := range map[string]struct {
		source []string
		copy   op.Copy
		want   string
	}{
		"everything":         {below, all("/"), ""},
		"elsewhere":          {below, op.Copy{Sources: []op.CopySource{{Path: "/d/e", Literal: true}}, Dest: "/n"}, "d 0755 0:0 n\n"},
		"one new":            {append(below, "f 0644 0:0 d/new y"), all("/"), "d 0755 0:0 d\nf 0644 0:0 d/new y\n"},
		"other content":      {replaced("d/a text", "d/a next"), all("/"), "d 0755 0:0 d\nf 0644 0:0 d/a next\n"},
		"other mode":         {replaced("f 0600 0:0 d/z", "f 0601 0:0 d/z"), all("/"), "d 0755 0:0 d\nf 0601 0:0 d/z \n"},
		"other owner":        {replaced("f 0600 0:0 d/z", "f 0600 0:1 d/z"), all("/"), "d 0755 0:0 d\nf 0600 0:1 d/z \n"},
		"a directory's mode": {replaced("d 0755 0:0 d/e", "d 0700 0:0 d/e"), all("/"), "d 0755 0:0 d\nd 0700 0:0 d/e\n"},
		"other target":       {replaced("l d/l a", "l d/l b"), all("/"), "d 0755 0:0 d\nl d/l b\n"},
		"other type":         {replaced("l d/l a", "f 0777 0:0 d/l a"), all("/"), "d 0755 0:0 d\nf 0777 0:0 d/l a\n"},
		"a name more":        {append(below, "h d/k d/h"), all("/"), "d 0755 0:0 d\nf 0644 0:0 d/h x\nh d/i d/h\nh d/k d/h\n"},
		"names linked":       {replaced("f 0600 0:0 d/z", "h d/z d/h"), all("/"), "d 0755 0:0 d\nf 0644 0:0 d/h x\nh d/i d/h\nh d/z d/h\n"},
		"names apart":        {replaced("h d/i d/h", "f 0644 0:0 d/i x"), all("/"), ""},
		"chown":              {below, op.Copy{Sources: []op.CopySource{{Path: "/d/a"}}, Dest: "/d/a", Chown: "1"}, "d 0755 0:0 d\nf 0644 1:1 d/a text\n"},
		"the same chmod":     {below, op.Copy{Sources: []op.CopySource{{Path: "/d/a"}}, Dest: "/d/a", Chmod: "644"}, ""},
		"two files in turn": {
			below, op.Copy{Sources: []op.CopySource{{Path: "/d/z"}, {Path: "/d/a"}}, Dest: "/d/a"}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := copyInto(t, treeOf(t, below...), FromTree(treeOf(t, test.source...)), test.copy)
			if err != nil || got != test.want {
				t.Errorf("%q, %v, want %q", got, err, test.want)
			}
		})
	}
}

// TestUnchangedWaits checks that the digest of a file in a layer that is still being
// written is asked for only if all else is equal.
func TestUnchangedWaits(t *testing.T) {
	t.Parallel()
	for size, want := range map[string]int{"text": 1, "more text": 0} {
		below, asked := treeOf(t, "f 0644 0:0 a text"), 0
		n, _ := below.View.Lookup("a")
		digest := n.Digest
		n.Digest = ""
		below.View = listing.Empty().WithLayer(&listing.Listing{Entries: []listing.Entry{n.Entry}})
		below.Digest = func(listing.Node) (layer.Digest, error) {
			asked++
			return digest, nil
		}
		src := FromTree(treeOf(t, "f 0644 0:0 a "+size))
		got, err := copyInto(t, below, src, op.Copy{Sources: []op.CopySource{{Path: "/a"}}, Dest: "/a"})
		if err != nil || asked != want || (got == "") != (want == 1) {
			t.Errorf("%s: %q, %v, asked %d times", size, got, err, asked)
		}
	}
}
