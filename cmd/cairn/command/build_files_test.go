package command

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/layer/atomicfile"
)

// Destinations that cannot be written are refused before the build.
func TestCheckDest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	archive := option.Output{Type: "oci", Dest: filepath.Join(dir, "no/oci.tar")}
	checkError(t, "an archive in a missing directory", checkDest(archive), "--output "+archive.Dest+": the directory "+dir+"/no does not exist: create it or choose another file")
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	below := option.Output{Type: "local", Dest: file + "/a/b"}
	checkError(t, "files below a file", checkDest(below), "--output "+below.Dest+": "+file+" is no directory: choose another destination")
	for _, out := range []option.Output{{Type: "tar", Dest: "-"}, {Type: "image"}, {Type: "local", Dest: filepath.Join(dir, "new/a")}, {Type: "tar", Dest: file}} {
		checkError(t, out.Type, checkDest(out), "")
	}
}

// Old files are removed before a build, but not devices, directories and links.
func TestRemoveOld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{link, filepath.Join(dir, "missing"), dir} {
		if err := atomicfile.Remove(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := writeFile(link, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, []byte("new")) {
		t.Errorf("written to the link: %q, %v", got, err)
	}
	if err := atomicfile.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the file is left: %v", err)
	}
	if _, err := os.Lstat(link); err != nil {
		t.Errorf("the link: %v", err)
	}
}
