package diff

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/tarball"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lab is a chain of layers, made by running steps in real overlay mounts.
type lab struct {
	t      testing.TB
	dir    string
	trees  []string // bottom first
	tars   [][]byte
	plain  string // all layers extracted over each other by an independent reader
	o      Options
	index  *index.Index // of the last layer
	view   *index.View
	merged string
	last   []tarball.Change
	loose  bool // broken links of equal files may be whole again
}

func newLab(t testing.TB) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting an overlay needs root")
	}
	unix.Umask(0o022)
	// In a user namespace the names of a file that was copied up just now have
	// several inode numbers.
	l := &lab{t: t, dir: t.TempDir(), view: index.Empty(), loose: os.Getenv(inUserNamespace) != ""}
	l.plain = l.mkdir("plain")
	l.merged = l.mkdir("merged")
	t.Cleanup(func() { _ = unix.Unmount(l.merged, unix.MNT_DETACH) }) // when a step failed
	return l
}

func (l *lab) mkdir(name string) string {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	check(l.t, os.MkdirAll(path, 0o755))
	return path
}

// lowers are the trees, topmost first.
func (l *lab) lowers() []string {
	all := slices.Clone(l.trees)
	slices.Reverse(all)
	return all
}

// mount mounts an overlay at l.merged; without an upper directory it only
// shows the lower ones.
func (l *lab) mount(lowers []string, upper, work string) (unmount func()) {
	l.t.Helper()
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		l.t.Skipf("overlay mounts are not available: %v", err)
	}
	defer unix.Close(fsfd)
	set := func(key, value string) {
		l.t.Helper()
		if err := unix.FsconfigSetString(fsfd, key, value); err != nil {
			l.t.Fatalf("overlay option %s=%s: %v", key, value, err)
		}
	}
	if len(lowers) == 1 && upper == "" {
		lowers = append(lowers, l.mkdir("empty")) // overlay wants two
	}
	for _, lower := range lowers {
		set("lowerdir+", lower)
	}
	if upper != "" {
		set("upperdir", upper)
		set("workdir", work)
		check(l.t, unix.FsconfigSetFlag(fsfd, "volatile"))
	}
	check(l.t, unix.FsconfigSetFlag(fsfd, "userxattr"))
	for key, value := range map[string]string{"index": "off", "metacopy": "off", "redirect_dir": "nofollow", "xino": "off"} {
		set(key, value)
	}
	check(l.t, unix.FsconfigCreate(fsfd))
	mfd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, 0)
	check(l.t, err)
	defer unix.Close(mfd)
	check(l.t, unix.MoveMount(mfd, "", unix.AT_FDCWD, l.merged, unix.MOVE_MOUNT_F_EMPTY_PATH))
	return func() { check(l.t, unix.Unmount(l.merged, 0)) }
}

// base makes the first tree without an overlay.
func (l *lab) base(fill func(root string)) {
	l.t.Helper()
	upper := l.mkdir("upper-base")
	fill(upper)
	l.finish(upper)
}

// upper makes an upper directory ready for a step.
func (l *lab) upper() (upper, work string) {
	l.t.Helper()
	n := len(l.trees)
	upper, work = l.mkdir(fmt.Sprint("upper", n)), l.mkdir(fmt.Sprint("work", n))
	if root, ok := l.view.Lookup("."); ok {
		l.o.Root = &root.Entry
		check(l.t, Prepare(upper, root.Entry))
	}
	return upper, work
}

// step runs change in an overlay over all trees and checks what comes of it.
func (l *lab) step(change func(root string)) []tarball.Change {
	l.t.Helper()
	upper, work := l.upper()
	unmount := l.mount(l.lowers(), upper, work)
	change(l.merged)
	want := snapshot(l.t, l.merged)
	unmount()
	changes := l.finish(upper)
	l.verify(upper, want)
	return changes
}

// finish diffs the upper directory, writes the tar and adds the tree.
func (l *lab) finish(upper string) []tarball.Change {
	l.t.Helper()
	changes, err := Overlay(l.t.Context(), upper, l.lowers(), l.o)
	check(l.t, err)
	return l.add(changes, upper)
}

// add writes the tar of changes and adds their tree.
func (l *lab) add(changes []tarball.Change, upper string) []tarball.Change {
	l.t.Helper()
	l.last = changes
	var b bytes.Buffer
	x, err := tarball.Write(&b, func(yield func(tarball.Change, error) bool) {
		for _, c := range changes {
			if !yield(c, nil) {
				return
			}
		}
	})
	check(l.t, err)
	l.index = x.Index()
	l.view = l.view.With(l.index)
	l.trees = append(l.trees, upper)
	l.tars = append(l.tars, b.Bytes())
	extract(l.t, l.plain, b.Bytes())
	return changes
}

// verify compares what the step left in its mount with the tar laid over the
// layers below, with the upper directory as a lower one, and the upper
// directory with the tree that unpacking the tar makes.
func (l *lab) verify(upper string, want map[string]string) {
	l.t.Helper()
	if d := cmp.Diff(want, l.relink(want, snapshot(l.t, l.plain))); d != "" {
		l.t.Errorf("the tars over each other differ from the mount (-mount +tars):\n%s", d)
	}
	unmount := l.mount(l.lowers(), "", "")
	again := l.relink(want, snapshot(l.t, l.merged))
	unmount()
	if d := cmp.Diff(want, again); d != "" {
		l.t.Errorf("the trees over each other differ from the mount (-mount +trees):\n%s", d)
	}
	applied := l.mkdir(fmt.Sprint("applied", len(l.trees)))
	_, err := tarball.Apply(applied, bytes.NewReader(l.tars[len(l.tars)-1]), tarball.ApplyOptions{})
	check(l.t, err)
	ours, theirs := snapshot(l.t, upper), snapshot(l.t, applied)
	delete(ours, ".")
	delete(theirs, ".")
	if d := cmp.Diff(theirs, ours); d != "" {
		l.t.Errorf("the upper directory is not what its tar says (-tar +upper):\n%s", d)
	}
}

// relink takes links out of got that want does not have: the overlay broke
// them when it copied up a file that stayed equal, and such a file is left out
// of the layer. A link that is missing in got stays missing.
func (l *lab) relink(want, got map[string]string) map[string]string {
	if !l.loose {
		return got
	}
	first := func(path string) string {
		if _, target, ok := strings.Cut(got[path], linkMark); ok {
			return target
		}
		return path
	}
	all := map[string]string{}
	for path, text := range got {
		text, _, _ = strings.Cut(text, linkMark)
		if _, target, ok := strings.Cut(want[path], linkMark); ok && first(path) == first(target) {
			text += linkMark + target
		}
		all[path] = text
	}
	return all
}

const linkMark = " linked to "

// paths is the diff as text: "+path", "-path" for a whiteout, "+path = target"
// for a hard link.
func paths(changes []tarball.Change) []string {
	all := []string{}
	for _, c := range changes {
		switch c.Type {
		case index.TypeWhiteout:
			all = append(all, "-"+c.Path)
		case index.TypeHardlink:
			all = append(all, "+"+c.Path+" = "+c.Link)
		default:
			all = append(all, "+"+c.Path)
		}
	}
	return all
}

// snapshot describes each path below root, sockets left out.
func snapshot(t testing.TB, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	first := map[inode]string{}
	check(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			return err
		}
		text := describe(t, path, &st, rel == ".")
		if id := (inode{st.Dev, st.Ino}); st.Mode&unix.S_IFMT == unix.S_IFREG {
			if target, ok := first[id]; ok {
				text += linkMark + target
			} else {
				first[id] = rel
			}
		}
		all[rel] = text
		return nil
	}))
	return all
}

func describe(t testing.TB, path string, st *unix.Stat_t, isRoot bool) string {
	t.Helper()
	text := fmt.Sprintf("%o %d:%d rdev=%d", st.Mode, st.Uid, st.Gid, st.Rdev)
	if !isRoot && !isWhiteout(st) {
		text += fmt.Sprintf(" mtime=%d", st.Mtim.Sec)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		link, err := os.Readlink(path)
		check(t, err)
		text += " -> " + link
	case unix.S_IFREG:
		b, err := os.ReadFile(path)
		check(t, err)
		text += fmt.Sprintf(" %d bytes %.8x", len(b), sha256.Sum256(b))
	}
	attrs, overlay, err := place{unix.AT_FDCWD, path}.xattrs()
	check(t, err)
	return text + fmt.Sprintf(" %q %q", attrs, overlay)
}

// extract is a second, naive reader of layers, straight from the image
// specification.
func extract(t testing.TB, root string, b []byte) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(b))
	dirs := map[string]*tar.Header{}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, err)
		name := strings.TrimSuffix(h.Name, "/")
		path := filepath.Join(root, name)
		if hidden, ok := strings.CutPrefix(filepath.Base(name), ".wh."); ok {
			if hidden == ".wh..opq" {
				t.Errorf("the tar has an opaque whiteout: %s", name)
			}
			path = filepath.Join(root, filepath.Dir(name), hidden)
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("a whiteout of nothing: %s", name)
			}
			check(t, os.RemoveAll(path))
			continue
		}
		extractOne(t, root, path, h, r)
		if h.Typeflag == tar.TypeDir {
			dirs[path] = h
		}
	}
	for path, h := range dirs {
		check(t, setTime(unix.AT_FDCWD, path, h.ModTime.Unix()))
	}
}

func extractOne(t testing.TB, root, path string, h *tar.Header, r io.Reader) {
	t.Helper()
	old, err := os.Lstat(path)
	if err == nil && (!old.IsDir() || h.Typeflag != tar.TypeDir) {
		check(t, os.RemoveAll(path))
	}
	dev := int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	switch h.Typeflag {
	case tar.TypeLink:
		check(t, os.Link(filepath.Join(root, h.Linkname), path))
		return
	case tar.TypeDir:
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		removeAllXAttrs(t, path)
	case tar.TypeSymlink:
		check(t, os.Symlink(h.Linkname, path))
	case tar.TypeReg:
		content, err := io.ReadAll(r)
		check(t, err)
		check(t, os.WriteFile(path, content, 0o644))
	case tar.TypeChar:
		check(t, unix.Mknod(path, unix.S_IFCHR, dev))
	case tar.TypeBlock:
		check(t, unix.Mknod(path, unix.S_IFBLK, dev))
	case tar.TypeFifo:
		check(t, unix.Mkfifo(path, 0o644))
	}
	check(t, os.Lchown(path, h.Uid, h.Gid))
	if h.Typeflag != tar.TypeSymlink {
		check(t, unix.Chmod(path, uint32(h.Mode)))
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			check(t, unix.Lsetxattr(path, name, []byte(value), 0))
		}
	}
	check(t, setTime(unix.AT_FDCWD, path, h.ModTime.Unix()))
}

func removeAllXAttrs(t testing.TB, path string) {
	t.Helper()
	attrs, _, err := place{unix.AT_FDCWD, path}.xattrs()
	check(t, err)
	for name := range attrs {
		check(t, unix.Lremovexattr(path, name))
	}
}
