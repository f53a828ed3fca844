package main

import (
	"archive/tar"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdPack makes a tar of entries that no file system holds. LIST is a file with
// a line for each: a kind, a name and, after another space, the text of a file
// or the target of a link. Owners are 1234:4321, times one second apart.
func cmdPack(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: pack ARCHIVE LIST")
	}
	out, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	w := tar.NewWriter(out)
	at := time.Unix(1e9, 0)
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		h, text, err := packed(strings.TrimSuffix(line, "\n"))
		ts.Check(err)
		at = at.Add(time.Second)
		h.ModTime, h.Uid, h.Gid = at, 1234, 4321
		ts.Check(w.WriteHeader(h))
		_, err = w.Write([]byte(text))
		ts.Check(err)
	}
	ts.Check(w.Close())
	ts.Check(out.Close())
}

func packed(line string) (h *tar.Header, text string, err error) {
	kind, rest, _ := strings.Cut(line, " ")
	name, value, _ := strings.Cut(rest, " ")
	h = &tar.Header{Name: name, Mode: 0o640}
	switch kind {
	case "file":
		h.Typeflag, h.Size, text = tar.TypeReg, int64(len(value)+1), value+"\n"
	case "dir":
		h.Typeflag, h.Mode = tar.TypeDir, 0o750
	case "symlink":
		h.Typeflag, h.Linkname = tar.TypeSymlink, value
	case "hardlink":
		h.Typeflag, h.Linkname = tar.TypeLink, value
	case "device":
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, 1, 3
	case "fifo":
		h.Typeflag = tar.TypeFifo
	default:
		return nil, "", fmt.Errorf("pack: %q", line)
	}
	return h, text, nil
}
