package main

import (
	"archive/tar"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdPack creates a tar archive with entries that filesystems do not have. Each line of
// LIST has a kind, a name and, after another space, the text of a file or the target of
// a link, in which $WORK is expanded. The kind zeros is a file of that many zeros, pax a
// key and a value for the next entry's extended header. Owners are 1234:4321 or those of
// the line before, times are one second apart.
func cmdPack(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: pack ARCHIVE LIST")
	}
	out, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	w := tar.NewWriter(out)
	at := time.Unix(1e9, 0)
	var records map[string]string
	uid := 1234
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		line = strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "$WORK", ts.Getenv("WORK"))
		if pax, ok := strings.CutPrefix(line, "pax "); ok {
			k, v, _ := strings.Cut(pax, " ")
			records = map[string]string{k: v}
			continue
		}
		if owner, ok := strings.CutPrefix(line, "owner "); ok {
			uid, err = strconv.Atoi(owner)
			ts.Check(err)
			continue
		}
		h, text, err := packed(line)
		ts.Check(err)
		h.PAXRecords, records = records, nil
		at = at.Add(time.Second)
		h.ModTime, h.Uid, h.Gid = at, uid, 4321
		uid = 1234
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
	case "zeros":
		var err error
		if h.Size, err = strconv.ParseInt(value, 10, 64); err != nil {
			return nil, "", err
		}
		h.Typeflag, text = tar.TypeReg, strings.Repeat("\x00", int(h.Size))
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
