package filecopy

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// given is the exact time of all sources of TestCopyTimes.
var given = time.Unix(50, 123_456_789)

// copied returns the changes of a copy of path from src to /app/to, by path. The
// directory app exists.
func copied(t *testing.T, src Source, o op.Copy) map[string]tarball.Change {
	t.Helper()
	below := treeOf(t, "d 0755 0:0 app", "d 0755 0:0 app/old")
	below.Time = func(listing.Node) (time.Time, bool) { return time.Unix(5, 7), true }
	c := Copier{
		Op: o, Below: below, Now: time.Unix(40, 4),
		TempDir: func(string) (string, error) { return t.TempDir(), nil },
		Select: func(ctx context.Context, _ int) (*Selected, func(), error) {
			s, err := Select(ctx, src, op.Selection{Paths: []op.SelPath{{Path: o.Sources[0].Path}}})
			return s, func() {}, err
		},
	}
	changes, err := c.Copy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(changes.Close)
	all := map[string]tarball.Change{}
	for ch := range changes.All() {
		all[ch.Path] = ch
	}
	return all
}

// TestCopyTimes checks that files get their exact times on disk, while the layer has
// whole seconds that are not later than the epoch.
func TestCopyTimes(t *testing.T) {
	root := t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(root, "d"), 0o755), os.WriteFile(filepath.Join(root, "d/f"), []byte("x"), 0o644),
		os.Chtimes(filepath.Join(root, "d/f"), given, given), os.Chtimes(filepath.Join(root, "d"), given, given),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, err := source.OpenDir(root, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	stage := treeOf(t, "d 0755 0:0 d", "l d/f x")
	stage.Time = func(listing.Node) (time.Time, bool) { return given, true }
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, ModTime: given, Format: tar.FormatPAX}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	archive := File{Entry: listing.Entry{Path: "f", Type: listing.TypeFile, Size: int64(b.Len())}, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	}}
	began, epoch := time.Now(), int64(3)
	for name, c := range map[string]struct {
		src  Source
		copy op.CopySource
		want time.Time
	}{
		"context": {FromContext(dir), op.CopySource{Path: "/d", Input: 1}, given},
		"stage":   {FromTree(stage), op.CopySource{Path: "/d", Input: 1}, given},
		"archive": {FromFile(archive), op.CopySource{Path: "/f", Input: 1, Unpack: true}, given},
		"heredoc": {nil, op.CopySource{Name: "f", Data: "text"}, time.Unix(40, 4)},
	} {
		for _, e := range []*int64{nil, &epoch} {
			all := copied(t, c.src, op.Copy{Sources: []op.CopySource{c.copy}, Dest: "/app/to/", DestDir: true, Epoch: e})
			for p, ch := range all {
				if e != nil && ch.MTime > epoch {
					t.Errorf("%s: %s has the time %d in the layer", name, p, ch.MTime)
				}
			}
			if ch, ok := all["app/to/f"]; !ok || !ch.Time().Equal(c.want) {
				t.Errorf("%s, epoch %v: %+v has the time %v on disk", name, e, ch.Entry, ch.Time())
			}
			// A name was added to app, as by mkdir(2).
			if at := all["app"].Time(); at.Before(began) {
				t.Errorf("%s, epoch %v: app has the time %v", name, e, at)
			}
		}
	}
	// A copy over an existing file adds no name to app.
	all := copied(t, FromContext(dir), op.Copy{Sources: []op.CopySource{{Path: "/d", Input: 1}}, Dest: "/app/old"})
	if at := all["app"].Time(); !at.Equal(time.Unix(5, 7)) {
		t.Errorf("app has the time %v", at)
	}
	if at := all["app/old"].Time(); !at.Equal(given) {
		t.Errorf("app/old has the time %v", at)
	}
}

// TestWorkdirTimes checks that only the last directory has the time of the epoch on disk.
func TestWorkdirTimes(t *testing.T) {
	epoch := int64(3)
	for _, e := range []*int64{nil, &epoch} {
		began := time.Now()
		changes, err := Workdir(treeOf(t), op.Workdir{Path: "/a/b", Epoch: e}, time.Unix(40, 0), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for ch := range changes.All() {
			at := time.Unix(ch.MTime, 0)
			if ch.Time != nil {
				at = ch.Time()
			}
			kind := " now"
			if at.Before(began) {
				kind = " " + at.UTC().Format("05")
			}
			got = append(got, ch.Path+kind)
		}
		want := "a now, a/b now"
		if e != nil {
			want = "a now, a/b 03"
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
