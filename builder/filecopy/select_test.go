package filecopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

// selected formats matches: the name of each with the paths of its files. Directories
// that only lead to files have a slash.
func selected(s *Selected) string {
	var b strings.Builder
	for _, ms := range s.paths {
		for _, m := range ms {
			fmt.Fprintf(&b, "%s:", m.name)
			for _, f := range m.files.all() {
				lead := ""
				if f.lead {
					lead = "/"
				}
				fmt.Fprintf(&b, " %s%s", m.rel(f), lead)
			}
			b.WriteString("; ")
		}
		b.WriteString("| ")
	}
	return strings.TrimSuffix(b.String(), "| ")
}

// TestSelect checks the matches of paths and patterns in a tree.
func TestSelect(t *testing.T) {
	t.Parallel()
	src := FromTree(treeOf(t,
		"d 0755 0:0 a", "f 0644 0:0 a/x.go 1", "f 0644 0:0 a/y.c 2", "d 0755 0:0 a/sub", "f 0644 0:0 a/sub/z.go 3", "d 0755 0:0 a/sub/deep", "f 0644 0:0 a/sub/deep/w.go 4",
		"d 0755 0:0 b", "f 0644 0:0 b/x.go 5", "l la a", "l b/lx x.go", "l out /gone", "f 0644 0:0 [x] 6", "d 0755 0:0 empty",
	))
	const where = " in the image or stage that it is copied from"
	for name, test := range map[string]struct {
		sel  op.Selection
		want string // or the error
	}{
		"no path":                               {op.Selection{}, ""},
		"a file":                                {op.Selection{Paths: []op.SelPath{{Path: "/a/x.go"}}}, "x.go: .; "},
		"two paths":                             {op.Selection{Paths: []op.SelPath{{Path: "/b"}, {Path: "/empty"}}}, "b: . lx x.go; | empty: .; "},
		"a link has its name":                   {op.Selection{Paths: []op.SelPath{{Path: "/b/lx"}}}, "lx: .; "},
		"below a link":                          {op.Selection{Paths: []op.SelPath{{Path: "/la/sub"}}}, "sub: . deep deep/w.go z.go; "},
		"dots":                                  {op.Selection{Paths: []op.SelPath{{Path: "/b/../b/./x.go"}}}, "x.go: .; "},
		"a wildcard":                            {op.Selection{Paths: []op.SelPath{{Path: "/?/x.*"}}}, "x.go: .; x.go: .; "},
		"a wildcard below a link":               {op.Selection{Paths: []op.SelPath{{Path: "/la/*.go"}}}, "x.go: .; "},
		"wildcards match no dirs through links": {op.Selection{Paths: []op.SelPath{{Path: "/l*/x.go"}}}, ""},
		"a malformed pattern":                   {op.Selection{Paths: []op.SelPath{{Path: "/a/[x"}}}, `pattern "[x": syntax error in pattern`},
		"a class":                               {op.Selection{Paths: []op.SelPath{{Path: "/a/[^x].c"}}}, "y.c: .; "},
		"an escaped bracket":                    {op.Selection{Paths: []op.SelPath{{Path: `/[[]x]`}}}, "[x]: .; "},
		"literal":                               {op.Selection{Paths: []op.SelPath{{Path: "/[x]", Literal: true}}}, "[x]: .; "},
		"a literal path that is missing":        {op.Selection{Paths: []op.SelPath{{Path: "/*", Literal: true}}}, `"/*": not found` + where},
		"no match":                              {op.Selection{Paths: []op.SelPath{{Path: "/a/*.h"}, {Path: "/b/x.go"}}}, "| x.go: .; "},
		"a wildcard below a file":               {op.Selection{Paths: []op.SelPath{{Path: "/a/y.c/*"}}}, ""},
		"a match without a target":              {op.Selection{Paths: []op.SelPath{{Path: "/o*"}}}, `"/out": not found` + where},
		"exclude a file":                        {op.Selection{Paths: []op.SelPath{{Path: "/b"}}, Exclude: []string{"*.go"}}, "b: . lx; "},
		"exclude at any depth":                  {op.Selection{Paths: []op.SelPath{{Path: "/a"}}, Exclude: []string{"**/*.go"}}, "a: . sub sub/deep y.c; "},
		"exclude a directory":                   {op.Selection{Paths: []op.SelPath{{Path: "/a"}}, Exclude: []string{"sub"}}, "a: . x.go y.c; "},
		"exclude with an exception":             {op.Selection{Paths: []op.SelPath{{Path: "/a"}}, Exclude: []string{"**", "!sub/deep/w.go"}}, "a: . sub/ sub/deep/ sub/deep/w.go; "},
		"exclude does not apply to the path":    {op.Selection{Paths: []op.SelPath{{Path: "/a/x.go"}}, Exclude: []string{"*"}}, "x.go: .; "},
		"exclude with a malformed pattern":      {op.Selection{Paths: []op.SelPath{{Path: "/a"}}, Exclude: []string{"["}}, `pattern ["["]: syntax error in pattern`},
		"parents":                               {op.Selection{Paths: []op.SelPath{{Path: "/", Parents: true, Include: "a/**/*.go"}}}, ".: . a/ a/sub/ a/sub/deep/ a/sub/deep/w.go a/sub/z.go a/x.go; "},
		"parents of a directory":                {op.Selection{Paths: []op.SelPath{{Path: "/a", Parents: true, Include: "sub/deep", Required: true}}}, "a: . sub/ sub/deep sub/deep/w.go; "},
		"parents and exclude":                   {op.Selection{Paths: []op.SelPath{{Path: "/", Parents: true, Include: "a/sub"}}, Exclude: []string{"**/deep"}}, ".: . a/ a/sub a/sub/z.go; "},
		"parents that are required":             {op.Selection{Paths: []op.SelPath{{Path: "/a", Parents: true, Include: "sub/nothing", Required: true}}}, `"/a/sub/nothing": not found` + where},
		"a similar name":                        {op.Selection{Paths: []op.SelPath{{Path: "/a/sab/z.go"}}}, `"/a/sab/z.go": not found` + where + " (did you mean /a/sub/z.go?)"},
		"a similar directory without the file":  {op.Selection{Paths: []op.SelPath{{Path: "/emtpy/file"}}}, `"/emtpy/file": not found` + where + " (did you mean /empty?)"},
		"no similar name":                       {op.Selection{Paths: []op.SelPath{{Path: "/a/quite/different"}}}, `"/a/quite/different": not found` + where},
		"a pattern in a similar directory":      {op.Selection{Paths: []op.SelPath{{Path: "/emtpy/*.c"}}}, `"/emtpy": not found` + where + " (did you mean /empty?)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got string
			s, err := Select(t.Context(), src, test.sel)
			if err != nil {
				got = err.Error()
			} else {
				got = selected(s)
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestSelectCanceled checks that a canceled selection fails.
func TestSelectCanceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Select(ctx, FromTree(treeOf(t, "d 0755 0:0 a")), op.Selection{Paths: []op.SelPath{{Path: "/a"}}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestSelectLarge(t *testing.T) {
	t.Parallel()
	list := []File{{Entry: listing.Entry{Path: ".", Type: listing.TypeDir}}}
	for i := range bulkSize - 1 {
		list = append(list, File{Entry: listing.Entry{Path: fmt.Sprintf("f%05d", i), Type: listing.TypeFile, Size: 2}})
	}
	s := &Selected{paths: [][]Match{{{files: listOf(list...)}}}}
	if s.Len() != bulkSize || s.IsLarge() {
		t.Errorf("%d files, large: %v", s.Len(), s.IsLarge())
	}
	if size := s.First().files.size; size != 2*(bulkSize-1) {
		t.Errorf("%d bytes", size)
	}
	s.paths = append(s.paths, []Match{{files: listOf(list[0])}})
	if s.Len() != bulkSize+1 || !s.IsLarge() {
		t.Errorf("%d files, large: %v", s.Len(), s.IsLarge())
	}
}

func TestFixedPrefix(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"/":        "/",
		"/a/b":     "/a/b",
		"/a/*/b":   "/a",
		"*/a":      "/",
		"/a/b?/c":  "/a",
		"/a/[b]":   "/a",
		"/a/../*":  "/",
		"a/./b/**": "/a/b",
	} {
		if got := fixedPrefix(pattern); got != want {
			t.Errorf("%s: got %s, want %s", pattern, got, want)
		}
	}
}

// TestFromFile checks the source of a download, which has one path.
func TestFromFile(t *testing.T) {
	t.Parallel()
	f := File{
		Entry: listing.Entry{Path: "page", Type: listing.TypeFile, Mode: 0o600, Size: 4, Digest: layer.FromBytes([]byte("text"))},
		Open:  func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("text")), nil },
	}
	got, err := copyInto(t, treeOf(t), FromFile(f), op.Copy{Sources: []op.CopySource{{Path: "/page", Literal: true}}, Dest: "/to", DestDir: true, Chmod: "640"})
	if want := "d 0640 0:0 to\nf 0640 0:0 to/page text\n"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	_, err = copyInto(t, treeOf(t), FromFile(f), op.Copy{Sources: []op.CopySource{{Path: "/other", Literal: true}}, Dest: "/to"})
	if err == nil || !strings.HasPrefix(err.Error(), `"/other": not found`) {
		t.Errorf("another path: %v", err)
	}
}
