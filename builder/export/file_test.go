package export

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file appears when it is complete; an error leaves the old one.
func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	text := func(s string, err error) func(io.Writer) error {
		return func(w io.Writer) error {
			_, writeErr := io.WriteString(w, s)
			return errors.Join(writeErr, err)
		}
	}
	if err := WriteFile(path, nil, text("one", nil)); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if err := WriteFile(path, nil, text("two", broken)); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "one" {
		t.Errorf("%q, %v; want the first text", got, err)
	}
	if list, err := os.ReadDir(filepath.Dir(path)); err != nil || len(list) != 1 {
		t.Errorf("files %v, %v; want one", list, err)
	}
	if err := WriteFile(os.DevNull, nil, text("three", nil)); err != nil {
		t.Error(err)
	}
	if fi, err := os.Stat(os.DevNull); err != nil || fi.Mode().IsRegular() {
		t.Errorf("%s became a file: %v", os.DevNull, err)
	}
	var stdout strings.Builder
	if err := WriteFile("-", &stdout, text("four", nil)); err != nil || stdout.String() != "four" {
		t.Errorf("standard output has %q, %v", stdout.String(), err)
	}
}

// An output may name a writer in place of a file.
func TestWriters(t *testing.T) {
	var engine strings.Builder
	e := &Exporter{Environment: Environment{Writers: map[string]io.Writer{"engine": &engine}}}
	write := func(w io.Writer) error {
		_, err := io.WriteString(w, "text")
		return err
	}
	if err := e.writeArchive(Output{Writer: "engine"}, write); err != nil || engine.String() != "text" {
		t.Errorf("%q, %v", engine.String(), err)
	}
	if err := e.writeArchive(Output{Writer: "other"}, write); err == nil || err.Error() != `there is no writer "other"` {
		t.Errorf("error %v", err)
	}
}

func TestRepositoryOf(t *testing.T) {
	for ref, want := range map[string]string{"h:5000/a:1": "h:5000/a", "h:5000/a": "h:5000/a", "docker.io/library/a:latest": "docker.io/library/a"} {
		if got := repositoryOf(ref); got != want {
			t.Errorf("repositoryOf(%q) = %q, want %q", ref, got, want)
		}
	}
}
