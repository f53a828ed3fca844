package source

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestFiles checks that files of the compact list are unchanged and can be read.
func TestFiles(t *testing.T) {
	root := t.TempDir()
	for i := range 3000 { // more than a chunk of a listing
		must(t, os.MkdirAll(fmt.Sprintf("%s/d%d", root, i%40), 0o755))
		must(t, os.WriteFile(fmt.Sprintf("%s/d%d/f%d", root, i%40, i), fmt.Append(nil, i), 0o644))
	}
	must(t, os.Link(root+"/d1/f1", root+"/d1/hard"))
	must(t, os.Symlink("f1", root+"/d1/soft"))
	d, err := OpenDir(root, nil, nil)
	must(t, err)
	defer d.Close()
	var want []File
	var l Files
	must(t, d.Scan(context.Background(), ".", WalkOptions{Exclude: []string{"d2/*", "!d2/f2"}}, func(found []File) {
		for i := range found {
			l.Add(&found[i])
		}
		want = append(want, found...)
	}))
	var got []File
	for f := range l.All() {
		got = append(got, f)
	}
	if l.Len() != len(want) {
		t.Errorf("%d files of %d", l.Len(), len(want))
	}
	for i := range want {
		if want[i].regular() != nil && want[i].Ident == (Ident{}) {
			at := want[i].stamp.mtime
			if want[i].stamp = (stamp{}); at%1e9 != 0 { // the rest is not stored
				want[i].stamp.mtime = at
			}
		}
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(File{}, content{}, stamp{}), cmpopts.IgnoreFields(content{}, "dir")); diff != "" {
		t.Error(diff)
	}
	for _, f := range got[len(got)-100:] {
		if f.regular() != nil {
			continue
		}
		r, err := f.Open()
		must(t, err)
		b, err := io.ReadAll(r)
		must(t, err)
		r.Close()
		if f.Size != int64(len(b)) {
			t.Errorf("%s has %q", f.Path, b)
		}
	}
}
