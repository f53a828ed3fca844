package export

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// target is a target of TestDestinations: an image with files, and its outputs.
type target struct {
	outputs []Output
	files   []tarball.Change
}

func local(dest string) []Output { return []Output{{Type: "local", Dest: dest}} }

func files(all ...tarball.Change) []tarball.Change { return all }

// together has targets, and the error of adding the second one.
var together = map[string]struct {
	a, b target
	err  string // "": none
}{
	"equal": {
		target{local("out"), someFiles()}, target{local("out"), someFiles()}, "",
	},
	"apart": {
		target{local("out"), files(regular("x", "1", 0o644))}, target{local("out2"), files(regular("x", "2", 0o644))}, "",
	},
	"merged": {
		target{local("out"), files(directory("d", 0o755), regular("d/x", "1", 0o644))},
		target{local("out/"), files(directory("d", 0o700), regular("d/y", "2", 0o644))}, "",
	},
	"content": {
		target{local("out"), files(directory("d", 0o755), regular("d/x", "1", 0o644))},
		target{local("out"), files(directory("d", 0o755), regular("d/x", "2", 0o644))},
		"DIR/out/d/x has other content in target a: choose another dest for one of them, or leave the file out of one",
	},
	"file and directory": {
		target{local("out"), files(regular("d", "1", 0o644))},
		target{local("out"), files(directory("d", 0o755), regular("d/x", "2", 0o644))},
		"DIR/out/d is a directory, and a file in target a: choose",
	},
	"symbolic links": {
		target{local("out"), files(link("l", listing.TypeSymlink, "x"), link("m", listing.TypeSymlink, "x"))},
		target{local("out"), files(link("l", listing.TypeSymlink, "x"), link("m", listing.TypeSymlink, "y"))},
		"DIR/out/m has other content in target a",
	},
	"file and symbolic link": {
		target{local("out"), files(regular("l", "1", 0o644))}, target{local("out"), files(link("l", listing.TypeSymlink, "x"))},
		"DIR/out/l is a symbolic link, and a file in target a: choose",
	},
	"hard link of equal content": {
		target{local("out"), files(regular("a", "1", 0o644), link("b", listing.TypeHardlink, "a"))},
		target{local("out"), files(regular("b", "1", 0o644))}, "",
	},
	"hard link of other content": {
		target{local("out"), files(regular("a", "1", 0o644), link("b", listing.TypeHardlink, "a"))},
		target{local("out"), files(regular("b", "2", 0o644))}, "DIR/out/b has other content in target a",
	},
	"inside": {
		target{local("out"), files(directory("bin", 0o755), regular("bin/x", "1", 0o644))},
		target{local("out/bin"), files(regular("x", "2", 0o644))}, "DIR/out/bin/x has other content in target a",
	},
	"file in place of the destination": {
		target{local("out"), files(regular("bin", "1", 0o644))}, target{local("out/bin/deep"), files(regular("x", "2", 0o644))},
		"DIR/out/bin is a directory, and a file in target a: choose",
	},
	"archive": {
		target{local("out"), files(regular("app.tar", "1", 0o644))},
		target{[]Output{{Type: "tar", Dest: "out/app.tar"}}, files(regular("x", "2", 0o644))}, "DIR/out/app.tar has other content in target a",
	},
	"platforms": {
		target{[]Output{{Type: "local", Dest: "out", Split: true}}, files(regular("x", "1", 0o644))},
		target{local("out"), files(directory("linux_amd64", 0o755), regular("linux_amd64/x", "2", 0o644))},
		"DIR/out/linux_amd64/x has other content in target a",
	},
	"devices": {
		target{local("out"), files(regular("null", "1", 0o644))},
		target{local("out"), files(tarball.Change{Entry: listing.Entry{Path: "null", Type: listing.TypeChar, Mode: 0o666, Major: 1, Minor: 3}})}, "",
	},
	"source": {
		target{local("out"), files(directory("s", 0o755), regular("s/x", "1", 0o644), regular("x", "3", 0o644))},
		target{[]Output{{Type: "local", Dest: "out", Source: "s"}}, files(directory("s", 0o755), regular("s/x", "3", 0o644), regular("x", "1", 0o644))}, "",
	},
	"two of one target": {
		target{local("out"), nil},
		target{[]Output{{Type: "local", Dest: "out2", Source: "s"}, {Type: "local", Dest: "out2"}},
			files(directory("s", 0o755), regular("s/x", "1", 0o644), regular("x", "3", 0o644))},
		"two outputs write DIR/out2/x with different content",
	},
	"two types of one target": {
		target{local("out"), nil},
		target{[]Output{{Type: "local", Dest: "out2", Source: "s"}, {Type: "local", Dest: "out2"}},
			files(directory("s", 0o755), regular("s/x", "1", 0o644), directory("x", 0o755))},
		"two outputs write DIR/out2/x, as a file and as a directory",
	},
}

// TestDestinations checks which outputs may write into one directory.
func TestDestinations(t *testing.T) {
	t.Parallel()
	for name, c := range together {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var g Group
			for _, tgt := range []target{c.a, c.b} {
				for i := range tgt.outputs {
					tgt.outputs[i].Dest = filepath.Join(dir, tgt.outputs[i].Dest)
				}
				g = append(g, &Exporter{Options: Options{Outputs: tgt.outputs}, images: []*Image{withFiles(t, "amd64", tgt.files...)}})
			}
			d := g.Destinations()
			if err := d.Add(t.Context(), "a", g[0]); err != nil {
				t.Fatal(err)
			}
			err := d.Add(t.Context(), "b", g[1])
			want := strings.ReplaceAll(c.err, "DIR", dir)
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		})
	}
}
