package snapshot

import (
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
)

func newGuestManager(t *testing.T, s *store.Store) *Manager {
	t.Helper()
	return New(t.Context(), Options{Store: s, Registry: newBlobs(), Isolation: sandbox.Isolation{Mode: sandbox.Gvisor, SingleID: true}})
}

// TestGuestRoot runs a stand-in for a command in a kernel of its own: it changes a file,
// replaces a directory, and touches another file.
func TestGuestRoot(t *testing.T) {
	m := newGuestManager(t, openStore(t))
	owned := file("d/f", "old")
	owned.UID, owned.GID = 33, 44
	stack := m.Empty().Add(NewLayer{Changes: DiffChanges{dir("d"), owned, dir("e"), file("e/gone", "x"), file("e/kept", "y"), file("t", "same")}})
	root, err := stack.NewRoot(t.Context())
	must(t, err)
	var spec sandbox.Spec
	must(t, root.Attach(&spec))
	if len(spec.Layers) != 2 || spec.Layers[0].Tree == "" || spec.Layers[1].Tree != "" {
		t.Errorf("layers %+v", spec.Layers)
	}
	must(t, os.Mkdir(spec.Upper+"/d", 0o700))
	must(t, os.Mkdir(spec.Upper+"/e", 0o700))
	for path, text := range map[string]string{"d/f": "new text", "e/kept": "y", "t": "same"} {
		must(t, os.WriteFile(spec.Upper+"/"+path, []byte(text), 0o600))
	}
	const now, nsec = 1_700_000_000, 123_456_789
	epoch := int64(1_600_000_000)
	entry := func(path string, mode int64, sec, nsec int64) sandbox.Change {
		return sandbox.Change{Path: path, Mode: mode, Sec: sec, Nsec: nsec}
	}
	changed := entry("d/f", unix.S_IFREG|0o4711, now, nsec)
	changed.UID, changed.GID, changed.Size, changed.Links, changed.Inode = 33, 44, 8, 1, 2
	replaced := entry("e", unix.S_IFDIR|0o700, now, 0)
	replaced.Opaque = true
	kept, touched := entry("e/kept", unix.S_IFREG|0o644, 0, 0), entry("t", unix.S_IFREG|0o644, 0, 5)
	kept.Size, kept.Links, kept.Inode, touched.Size, touched.Links, touched.Inode = 1, 1, 3, 4, 1, 4
	list := []sandbox.Change{
		entry(".", unix.S_IFDIR|0o777, now, 0), entry("d", unix.S_IFDIR|0o755, 0, 0), changed, replaced, kept,
		entry("new", unix.S_IFDIR|0o2755, now, 1), entry("socket", unix.S_IFSOCK|0o755, now, 1), touched,
	}
	changes, err := root.Changes(t.Context(), sandbox.Result{Changes: list}, &epoch)
	must(t, err)
	var got []string
	for c, err := range changes.All() {
		must(t, err)
		text := c.Path
		if c.Type == listing.TypeWhiteout {
			text = "-" + text
		} else if c.MTime > epoch {
			t.Errorf("%s has the time %d", c.Path, c.MTime)
		}
		if c.Open != nil {
			f, err := c.Open()
			must(t, err)
			content, err := io.ReadAll(f)
			f.Close()
			must(t, err)
			text += "=" + string(content)
		}
		got = append(got, text)
	}
	if want := []string{"d", "d/f=new text", "e", "-e/gone", "new"}; !slices.Equal(got, want) {
		t.Errorf("changes %q, want %q", got, want)
	}
	// The next step sees the exact times, also of the file that was only touched.
	next := stack.Add(NewLayer{Changes: changes, Root: root})
	layers, err := next.GuestLayers(t.Context())
	must(t, err)
	_, times, err := layers[1].Describe()
	must(t, err)
	exact := map[string]int64{}
	for _, at := range times {
		exact[at.Path] = time.Unix(at.Sec, at.Nsec).UnixNano()
	}
	if exact["d/f"] != now*1_000_000_000+nsec || exact["t"] != 5 || exact["new"] != now*1_000_000_000+1 {
		t.Errorf("times %v", exact)
	}
	view, err := next.View(t.Context())
	must(t, err)
	if n, _ := view.Lookup("d/f"); n.UID != 33 || n.GID != 44 || n.Mode != 0o4711 {
		t.Errorf("d/f is %+v", n.Entry)
	}
	must(t, m.Wait())
}

// TestGuestRootMissingContent checks that a kernel that has not delivered the contents of a
// file is an error.
func TestGuestRootMissingContent(t *testing.T) {
	m := newGuestManager(t, openStore(t))
	for name, prepare := range map[string]func(dir string) error{
		"missing": func(string) error { return nil },
		"shorter": func(dir string) error { return os.WriteFile(dir+"/f", []byte("x"), 0o600) },
		"a link":  func(dir string) error { return os.Symlink("/etc/passwd", dir+"/f") },
	} {
		root, err := m.Empty().NewRoot(t.Context())
		must(t, err)
		var spec sandbox.Spec
		must(t, root.Attach(&spec))
		must(t, prepare(spec.Upper))
		list := []sandbox.Change{{Path: ".", Mode: unix.S_IFDIR | 0o755}, {Path: "f", Mode: unix.S_IFREG | 0o644, Size: 5, Links: 1, Inode: 1}}
		if _, err := root.Changes(t.Context(), sandbox.Result{Changes: list}, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
		root.Close()
	}
}

// TestGuestLayer describes a directory that is not a layer.
func TestGuestLayer(t *testing.T) {
	m := newGuestManager(t, openStore(t))
	at := time.Unix(1_700_000_000, 9)
	text := exact(file("f", "text"), at)
	tree := t.TempDir()
	must(t, tarball.MaterializeOver(tree, DiffChanges{text}.All(), m.ApplyOptions(tarball.ApplyOptions{})))
	l, err := m.GuestLayer(t.Context(), tree, &listing.Listing{Entries: []listing.Entry{{Path: ".", Type: listing.TypeDir}, text.Entry}})
	must(t, err)
	x, times, err := l.Describe()
	must(t, err)
	if len(x.Entries) != 2 || len(times) != 1 || times[0].Path != "f" || times[0].Nsec != 9 || l.Tree != tree {
		t.Errorf("%+v, %+v", x, times)
	}
}
