package runtime

import (
	"errors"
	"fmt"
	"os"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"golang.org/x/sys/unix"
)

// probe tries on the file system of a folder the operations of a step on an overlay: it
// changes a file of a lower layer, removes one, and replaces a directory. The status is
// 1 if these were tried.
func (s *server) probe(req *wire.Request) (unix.WaitStatus, error) {
	defer s.leaveMountNamespace()
	dir, err := os.MkdirTemp(req.Probe, "probe")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"lower", "upper", "work", "lower/dir"} {
		err = errors.Join(err, os.Mkdir(dir+"/"+name, 0o755))
	}
	for _, name := range []string{"change", "remove", "dir/file"} {
		err = errors.Join(err, os.WriteFile(dir+"/lower/"+name, []byte("x"), 0o644))
	}
	if err != nil {
		return 0, err
	}
	return 1, s.probeIn(dir, req)
}

func (s *server) probeIn(dir string, req *wire.Request) error {
	t := s.newTree(req)
	root, attached, err := t.overlay([]string{dir + "/lower"}, dir+"/upper", dir+"/work").Mount(scratchRoot)
	if err != nil {
		return err
	}
	t.root = root
	if !attached {
		err = t.attachRoot()
	}
	unix.Close(root)
	if err != nil {
		return err
	}
	err = errors.Join(changeFiles(scratchRoot), verifyUpper(dir+"/upper"))
	return errors.Join(err, unix.Unmount(scratchRoot, unix.MNT_DETACH))
}

func changeFiles(root string) error {
	f, err := os.OpenFile(root+"/change", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("change a file: %w", err)
	}
	_, err = f.WriteString("y")
	return errors.Join(err, f.Close(), os.Remove(root+"/remove"), os.RemoveAll(root+"/dir"), os.Mkdir(root+"/dir", 0o755))
}

// verifyUpper checks that an upper directory has the changes of changeFiles in the form
// from which the diff of a step is computed.
func verifyUpper(upper string) error {
	if text, err := os.ReadFile(upper + "/change"); err != nil || string(text) != "xy" {
		return fmt.Errorf("a changed file reads %q (error %v)", text, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(upper+"/remove", &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		return fmt.Errorf("a removed file leaves mode %o, device %d (error %v)", st.Mode, st.Rdev, err)
	}
	value := make([]byte, 8)
	if n, err := unix.Lgetxattr(upper+"/dir", "user.overlay.opaque", value); err != nil || string(value[:n]) != "y" {
		return fmt.Errorf("a replaced directory is marked %q (error %v)", value[:max(n, 0)], err)
	}
	return nil
}
