package worker

import (
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer/listing"
)

// TestRecord writes the attributes of a cache mount beside its directory and reads them.
func TestRecord(t *testing.T) {
	data := t.TempDir() + "/data"
	must(t, os.Mkdir(data, 0o755))
	if changes, err := readRecord(data); changes != nil || err != nil {
		t.Errorf("%v, %v", changes, err)
	}
	must(t, os.WriteFile(data+"/f", []byte("text"), 0o600))
	must(t, os.Symlink("/etc", data+"/l"))
	x := &listing.Listing{Entries: []listing.Entry{
		{Path: ".", Type: listing.TypeDir, Mode: 0o700, UID: 1, GID: 2},
		{Path: "f", Type: listing.TypeFile, Mode: 0o640, UID: 3, GID: 4, Size: 4},
		{Path: "l", Type: listing.TypeSymlink, Mode: 0o777, Link: "/etc"},
	}}
	must(t, writeRecord(data, x))
	if _, err := os.Lstat(data + "/l"); !os.IsNotExist(err) {
		t.Errorf("the symlink: %v", err)
	}
	changes, err := readRecord(data)
	must(t, err)
	var got []listing.Entry
	for _, c := range changes {
		got = append(got, c.Entry)
		if c.Type != listing.TypeFile {
			continue
		}
		f, err := c.Open()
		must(t, err)
		text, err := io.ReadAll(f)
		f.Close()
		if err != nil || string(text) != "text" {
			t.Errorf("%q, %v", text, err)
		}
	}
	if d := cmp.Diff(x.Entries, got); d != "" {
		t.Error(d)
	}
	must(t, os.WriteFile(recordOf(data), []byte("damaged"), 0o600))
	if _, err := readRecord(data); err == nil {
		t.Error("a damaged record was read")
	}
}

func TestGuestScripts(t *testing.T) {
	got := guestScripts([]op.RunFile{{Name: "EOF", Data: "#!/bin/sh\n"}})
	want := []sandbox.Mount{{Type: "file", Target: "/dev/pipes/EOF", ReadOnly: true, Data: "#!/bin/sh\n", Mode: 0o755}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
