package diff

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lab is a stack of layers, made by running steps in real overlay mounts.
type lab struct {
	t      testing.TB
	dir    string
	trees  []string // bottom first
	tars   [][]byte
	plain  string // all layers extracted on top of each other by a second implementation
	o      Options
	index  *listing.Listing // of the last layer
	view   *listing.View
	merged string
	last   []tarball.Change
	exact  bool // the last tree has the paths of its layer only
	loose  bool // hard links between equal files that the overlay broke may be kept
}

func newLab(t testing.TB) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting an overlay needs root")
	}
	unix.Umask(0o022)
	// In a user namespace the names of a file that was just copied up have several
	// inode numbers.
	l := &lab{t: t, dir: t.TempDir(), view: listing.Empty(), loose: os.Getenv(inUserNamespace) != ""}
	l.plain = l.mkdir("plain")
	l.merged = l.mkdir("merged")
	t.Cleanup(func() { _ = unix.Unmount(l.merged, unix.MNT_DETACH) }) // if a step failed
	return l
}

func (l *lab) mkdir(name string) string {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	check(l.t, os.MkdirAll(path, 0o755))
	return path
}

// lowers returns the trees, topmost first.
func (l *lab) lowers() []string {
	all := slices.Clone(l.trees)
	slices.Reverse(all)
	return all
}

// mount mounts an overlay at l.merged. Without an upper directory it shows the lower
// ones.
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
		lowers = append(lowers, l.mkdir("empty")) // an overlay needs two
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
	return func() { check(l.t, unmountOverlay(l.merged)) }
}

// unmountOverlay unmounts an overlay. A process that another test starts has copies
// of this process's open files until it executes its program, which keeps the
// overlay busy.
func unmountOverlay(path string) (err error) {
	for range 500 {
		if err = unix.Unmount(path, 0); err != unix.EBUSY {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
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

// step runs change in an overlay over all trees and verifies the result.
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
	l.o.Time = l.timeBelow
	listed := l.listed(upper)
	found, err := Overlay(l.t.Context(), upper, l.lowers(), l.o)
	check(l.t, err)
	l.sameAsListed(listed, found)
	return l.add(found, upper)
}

// timeBelow returns the time that the layers have for a path.
func (l *lab) timeBelow(path string) (int64, bool) {
	n, ok := l.view.Lookup(path)
	return n.MTime, ok
}

// add writes the tar of changes and adds their tree.
func (l *lab) add(found Result, upper string) []tarball.Change {
	l.t.Helper()
	changes := found.Changes
	l.last, l.exact = changes, found.Exact
	var b bytes.Buffer
	x, err := tarball.Write(&b, func(yield func(tarball.Change, error) bool) {
		for _, c := range changes {
			if !yield(c, nil) {
				return
			}
		}
	})
	check(l.t, err)
	l.index = x.Unpack()
	l.view = l.view.WithLayer(l.index)
	l.trees = append(l.trees, upper)
	l.tars = append(l.tars, b.Bytes())
	extract(l.t, l.plain, b.Bytes())
	return changes
}

// verify compares three things with the mount after the step: the tar extracted on
// top of the layers below, the upper directory as a lower one, and the tree that
// unpacking the tar makes.
func (l *lab) verify(upper string, want map[string]string) {
	l.t.Helper()
	if d := cmp.Diff(limited(want, nil), limited(l.relink(want, snapshot(l.t, l.plain)), nil)); d != "" {
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
	ours, theirs := limited(snapshot(l.t, upper), nil), limited(snapshot(l.t, applied), nil)
	delete(ours, ".")
	delete(theirs, ".")
	if !l.exact { // files with another fraction of a second than those below
		maps.DeleteFunc(ours, func(path, _ string) bool { _, ok := theirs[path]; return !ok })
	}
	if d := cmp.Diff(theirs, ours); d != "" {
		l.t.Errorf("the upper directory is not what its tar says (-tar +upper):\n%s", d)
	}
}

// relink removes hard links from got that want does not have. The overlay broke them
// when it copied up a file that stayed equal, and such a file is not in the layer.
// Links that are missing in got stay missing.
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

var mtime = regexp.MustCompile(` mtime=(-?\d+)\.\d+`)

// limited returns a snapshot with the times that a layer has: in whole seconds and not
// later than the epoch.
func limited(snapshot map[string]string, epoch *int64) map[string]string {
	all := map[string]string{}
	for path, text := range snapshot {
		all[path] = mtime.ReplaceAllStringFunc(text, func(s string) string {
			sec, _ := strconv.ParseInt(mtime.FindStringSubmatch(s)[1], 10, 64)
			if epoch != nil {
				sec = min(sec, *epoch)
			}
			return fmt.Sprint(" mtime=", sec)
		})
	}
	return all
}

// paths formats changes: "+path", "-path" for a whiteout, "+path = target" for a
// hard link.
func paths(changes []tarball.Change) []string {
	all := []string{}
	for _, c := range changes {
		switch c.Type {
		case listing.TypeWhiteout:
			all = append(all, "-"+c.Path)
		case listing.TypeHardlink:
			all = append(all, "+"+c.Path+" = "+c.Link)
		default:
			all = append(all, "+"+c.Path)
		}
	}
	return all
}

// snapshot describes each path below root except for sockets.
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
		text += fmt.Sprintf(" mtime=%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
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

// extract is a second, simple implementation of unpacking, following the image
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
		check(t, setTime(unix.AT_FDCWD, path, unix.Timespec{Sec: h.ModTime.Unix()}))
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
	check(t, setTime(unix.AT_FDCWD, path, unix.Timespec{Sec: h.ModTime.Unix()}))
}

func removeAllXAttrs(t testing.TB, path string) {
	t.Helper()
	attrs, _, err := place{unix.AT_FDCWD, path}.xattrs()
	check(t, err)
	for name := range attrs {
		check(t, unix.Lremovexattr(path, name))
	}
}
