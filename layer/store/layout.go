package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/cairn-build/cairn/layer/atomicfile"
)

const (
	layoutName    = "cairn store "
	layoutVersion = layoutName + "1\n"
)

// prepare makes the directories of a new store and checks the stamp of an existing
// one.
func (s *disk) prepare() error {
	want, err := stamp()
	if err != nil {
		return err
	}
	have, err := os.ReadFile(s.path(stampFile))
	if errors.Is(err, fs.ErrNotExist) {
		have, err = s.create(want)
	}
	if err != nil {
		return err
	}
	if err := checkStamp(s.root, string(have), want); err != nil {
		return err
	}
	return s.makeFolders() // a copy of a store may lack the empty ones
}

func checkStamp(root, have, want string) error {
	if have == want {
		return nil
	}
	if !strings.HasPrefix(have, layoutName) {
		return fmt.Errorf("%s/%s is damaged: choose another directory with --root, or remove this one", root, stampFile)
	}
	if !strings.HasPrefix(have, layoutVersion) {
		return fmt.Errorf("%s holds a store of another version of cairn: choose another directory with --root, or remove it", root)
	}
	return fmt.Errorf("%s belongs to another user or user namespace (its id map is %s, this process's is %s): choose another directory with --root", root, idMapLine(have), idMapLine(want))
}

func idMapLine(stamp string) string {
	_, ids, _ := strings.Cut(strings.TrimSpace(stamp), "\n")
	return `"` + strings.ReplaceAll(ids, "\n", ", ") + `"`
}

// create makes a new store and returns its stamp, which is another process's if that
// one was faster. The stamp is written last: directories without one are left from a
// process that was killed here.
func (s *disk) create(stamp string) ([]byte, error) {
	if err := os.MkdirAll(s.root, 0o700); err != nil {
		return nil, err
	}
	if err := s.checkForeign(); err != nil {
		return nil, err
	}
	if err := s.makeFolders(); err != nil {
		return nil, err
	}
	if err := s.writeStamp(stamp); err != nil {
		return nil, err
	}
	return os.ReadFile(s.path(stampFile))
}

// makeFolders creates the directories that do not exist.
func (s *disk) makeFolders() error {
	for _, dir := range []string{blobsDir, layersDir, indexesDir, recordsDir, hintsDir, tagsDir, pinsDir, buildsDir, treesDir, tmpDir, trashDir} {
		err := os.Mkdir(s.path(dir), 0o700)
		if errors.Is(err, fs.ErrNotExist) {
			err = os.MkdirAll(s.path(dir), 0o700)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// checkForeign returns an error if a directory without a stamp has other contents
// than the store's own. It was probably given by mistake.
func (s *disk) checkForeign() error {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch name := e.Name(); name {
		case "blobs", layersDir, indexesDir, recordsDir, hintsDir, tagsDir, historyDir, pinsDir, buildsDir, treesDir, tmpDir, trashDir, stampFile, "lost+found":
		default:
			return fmt.Errorf("%s is not empty and not a cairn store (it contains %q): choose another directory with --root", s.root, name)
		}
	}
	return nil
}

// writeStamp writes the stamp atomically.
func (s *disk) writeStamp(stamp string) error {
	err := atomicfile.File(s.path(stampFile), 0o600, func(f *os.File) error {
		if _, err := f.WriteString(stamp); err != nil {
			return err
		}
		return f.Sync()
	})
	if err != nil {
		return err
	}
	return syncFolder(s.root)
}

// stamp returns the version of the layout and the id map of this process. Under
// another map the files have other owners. Users other than root cannot give files
// to others, so other users cannot use their trees.
func stamp() (string, error) {
	text := layoutVersion
	for _, kind := range []string{"uid", "gid"} {
		b, err := os.ReadFile("/proc/self/" + kind + "_map")
		if err != nil {
			return "", fmt.Errorf("read the id map: %w", err)
		}
		for line := range bytes.Lines(b) {
			text += kind + " " + strings.Join(strings.Fields(string(line)), " ") + "\n"
		}
	}
	if uid := os.Geteuid(); uid != 0 {
		text += fmt.Sprintf("user %d alone\n", uid)
	}
	return text, nil
}

// BootID returns the kernel's ID of the current boot, or "" if it cannot be read.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	id := strings.TrimSpace(string(b))
	if err != nil || strings.ContainsAny(id, "/.") {
		return ""
	}
	return id
}
