package corpus_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// listFiles lists the files of an output, a directory or a tar archive.
func listFiles(t *testing.T, output string) string {
	t.Helper()
	fi, err := os.Stat(output)
	if err != nil {
		t.Fatal(err)
	}
	if fi.IsDir() {
		return listDir(t, output)
	}
	return listTar(t, output)
}

// listDir lists the files of a directory with their modes, owners, user attributes and
// contents. The time of files is that of SOURCE_DATE_EPOCH or another one.
func listDir(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		st, _ := fi.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%v %d:%d %s", fi.Mode(), st.Uid, st.Gid, name)
		if fi.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			value := make([]byte, 100)
			n, _ := unix.Lgetxattr(path, "user.note", value)
			fmt.Fprintf(&b, " %.30q links %d old %v user.note %q", text, st.Nlink, fi.ModTime().Unix() <= epoch, value[:max(n, 0)])
		} else if fi.Mode().Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %s", target)
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// listTar lists the entries of a tar archive.
func listTar(t *testing.T, archive string) string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b strings.Builder
	for in := tar.NewReader(f); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%v %d:%d %s %s %.30q\n", h.FileInfo().Mode(), h.Uid, h.Gid, strings.TrimSuffix(h.Name, "/"), h.Linkname, text)
	}
}
