// Package store keeps what builds make on disk: blobs, what layers say of
// their paths, unpacked trees, results of steps, images and their tags.
//
// There is no daemon, no database and no global lock. Whatever is in the store
// appeared there by a rename, so a reader sees all of it or nothing; any
// number of processes may use one store at once, and any of them may be killed
// at any time. Below the root are:
//
//	stamp            the version of this layout and the id map it belongs to
//	blobs/sha256/H   raw bytes whose SHA-256 is H, as in an OCI layout
//	layers/H         diff ID -> the blobs known for it (sealed JSON)
//	indexes/H        diff ID -> index of the layer
//	records/K        key -> bytes of the caller (sealed)
//	hints/K          key -> bytes of the caller (sealed), worth nothing much
//	tags/K           reference -> image (sealed JSON; its bytes are blobs)
//	pins/K           reference and platform -> image, as last resolved
//	trees/B/N/tree   an unpacked directory, for as long as the machine is up:
//	                 B is the boot ID, N a name that is never used again
//	trees/B/N/work   its overlay work directory; it is there until N is filed
//	trees/B/keys/K   a symlink to ../N
//	caches/K/N/data  a folder that steps keep files in; N counts those of one key,
//	                 and is flocked by who uses it
//	locks            empty; a byte of it is locked while somebody works on a key
//	tmp/L            a process's lease and its temporary files
//	trash/           what is being removed
//	gc               locked shared to say "in use", exclusively to remove
//
// H is hex, K a hashed key. A sealed file begins with a checksum: a torn one,
// as a power cut may leave, reads as missing.
//
// # Durability
//
// A blob is synced before it gets its name, because nobody reads it again to
// see whether it is whole. Small files notice damage themselves, so they get
// their names at once and are synced (file, then folder) by one goroutine
// behind the build; Close waits for it. So nothing waits for the disk, and
// when a process ends well all that it filed is durable. After a power cut in
// the middle a record may name a blob that is not there: look before use.
// Hints and trees are never synced: trees do not outlive the boot.
//
// # Leases
//
// A process's lease is a folder tmp/L, flocked, whose name begins with the
// time it was taken. When the flock is free the owner is dead, and the next
// Open removes what it left. Whoever looks something up marks it as used by
// setting its mtime, once a lease; Prune keeps what was used since the oldest
// live lease was taken. No mtime is set to a time before the lease, nor back,
// so that holds when somebody sets the clock back meanwhile.
package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/appear"
)

const (
	blobsDir   = "blobs/sha256"
	layersDir  = "layers"
	indexesDir = "indexes"
	recordsDir = "records"
	hintsDir   = "hints"
	tagsDir    = "tags"
	pinsDir    = "pins"
	treesDir   = "trees"
	locksFile  = "locks"
	tmpDir     = "tmp"
	trashDir   = "trash"
	gcFile     = "gc"
	stampFile  = "stamp"
)

const layoutVersion = "cairn store 1\n"

// Store is an open store. Its methods may be called concurrently.
type Store struct {
	root   string
	boot   string // folder of this boot's trees
	lease  *lease
	sync   *syncer
	broom  *broom
	gcMu   sync.Mutex // one goroutine at a time holds gc
	gc     *os.File
	layers sync.Mutex // AddLayer reads, then writes
	treeMu sync.Mutex
	kept   map[string]bool // unfiled trees to remove at Close
	whole  sync.Map        // digests of blobs that were read again, and found whole
	closed sync.Once
}

// Open opens the store in the folder root, which it makes when missing. It
// sweeps what dead processes left and takes a lease. A folder that holds
// something else, or a store made under another id map, is refused.
func Open(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s := &Store{root: root, kept: map[string]bool{}, sync: newSyncer()}
	if err := s.open(); err != nil {
		return nil, s.explain("open the store", err)
	}
	return s, nil
}

func (s *Store) open() error {
	if err := s.prepare(); err != nil {
		return err
	}
	var err error
	if s.gc, err = os.OpenFile(s.path(gcFile), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if s.lease, err = takeLease(s.path(tmpDir)); err != nil {
		return errors.Join(err, s.gc.Close())
	}
	s.boot = s.path(treesDir, bootID(s.lease.name))
	s.broom = newBroom(s.path(trashDir))
	s.sweep()
	return nil
}

// prepare makes the folders of a new store and checks the stamp of an old one.
func (s *Store) prepare() error {
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
	return checkStamp(s.root, string(have), want)
}

func checkStamp(root, have, want string) error {
	if have == want {
		return nil
	}
	if !strings.HasPrefix(have, layoutVersion) {
		return fmt.Errorf("%s holds a store of another version of cairn: choose another folder with --root, or remove it", root)
	}
	return fmt.Errorf("%s belongs to another user or user namespace (its id map is %s, this process's is %s): choose another folder with --root", root, idMapLine(have), idMapLine(want))
}

func idMapLine(stamp string) string {
	_, ids, _ := strings.Cut(strings.TrimSpace(stamp), "\n")
	return `"` + strings.ReplaceAll(ids, "\n", ", ") + `"`
}

// create makes a new store and returns its stamp, which is another process's
// when that one was faster. The stamp comes last: folders without one are
// those of a process that was killed here.
func (s *Store) create(stamp string) ([]byte, error) {
	if err := os.MkdirAll(s.root, 0o700); err != nil {
		return nil, err
	}
	if err := s.checkForeign(); err != nil {
		return nil, err
	}
	for _, dir := range []string{blobsDir, layersDir, indexesDir, recordsDir, hintsDir, tagsDir, pinsDir, treesDir, tmpDir, trashDir} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return nil, err
		}
	}
	if err := s.writeStamp(stamp); err != nil {
		return nil, err
	}
	return os.ReadFile(s.path(stampFile))
}

// checkForeign refuses a folder without a stamp that holds anything but our
// own folders: it is somebody's home, given by mistake.
func (s *Store) checkForeign() error {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch name := e.Name(); name {
		case "blobs", layersDir, indexesDir, recordsDir, hintsDir, tagsDir, pinsDir, treesDir, tmpDir, trashDir, stampFile, "lost+found":
		default:
			return fmt.Errorf("%s is not empty and no cairn store (it holds %q): choose another folder with --root", s.root, name)
		}
	}
	return nil
}

// writeStamp puts the stamp into place, whole.
func (s *Store) writeStamp(stamp string) error {
	err := appear.File(s.path(stampFile), 0o600, func(f *os.File) error {
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

// stamp is the layout's version and the id map of this process: files made
// under another map have other owners. Whoever is not root, and so cannot give
// files to others, has trees that are of no use to anybody else.
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

// bootID names this boot of the machine. Without one no tree outlives its
// process.
func bootID(fallback string) string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	id := strings.TrimSpace(string(b))
	if err != nil || id == "" || strings.ContainsAny(id, "/.") {
		return "process-" + fallback
	}
	return id
}

// Close removes the process's temporary files and unfiled trees, waits until
// what was filed is durable, and gives up the lease.
func (s *Store) Close() error {
	var err error
	s.closed.Do(func() { err = s.close() })
	return err
}

func (s *Store) close() error {
	err := s.sync.close()
	s.treeMu.Lock()
	for dir := range s.kept {
		err = errors.Join(err, removeTree(dir, nil).err)
	}
	clear(s.kept)
	s.treeMu.Unlock()
	s.broom.close()
	err = errors.Join(err, s.lease.close(), s.gc.Close())
	if err != nil {
		return s.explain("close the store", err)
	}
	return nil
}

// Root is the store's folder, as an absolute path.
func (s *Store) Root() string { return s.root }

func (s *Store) path(elem ...string) string {
	return s.root + "/" + strings.Join(elem, "/")
}

// use says whether path is there, and marks it as used. An entry that was
// marked since this lease was taken is safe from Prune already; one of the
// future only while no Prune that began before the lease is at work.
func (s *Store) use(path string) (unix.Stat_t, bool) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return st, false
	}
	now, err := fileClock()
	if used := st.Mtim.Nano(); err == nil && used >= s.lease.start && used <= now {
		return st, true
	}
	s.gcMu.Lock()
	defer s.gcMu.Unlock()
	if err := flock(s.gc, unix.LOCK_SH); err != nil {
		return st, false
	}
	defer flock(s.gc, unix.LOCK_UN)
	if err := unix.Lstat(path, &st); err != nil {
		return st, false
	}
	return st, s.mark(path, max(now, s.lease.start)) == nil
}

// mark says that path was used then, unless it was later. An entry that is new
// needs that when the clock was set back since the lease was taken.
func (s *Store) mark(path string, then int64) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mtim.Nano() >= then {
		return err
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(then)}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW)
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			return err
		}
	}
}

func notExist(what string) error {
	return fmt.Errorf("%s is not in the store: %w", what, fs.ErrNotExist)
}
