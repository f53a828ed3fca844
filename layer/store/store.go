// Package store keeps the data of builds on disk: blobs, path listings of layers,
// unpacked trees, results of steps, images and their tags.
//
// There is no daemon, no database and no global lock. Entries are renamed into
// place, so a reader sees either all of an entry or nothing. Any number of processes
// may use a store at the same time, and any of them may be killed at any time. The
// root directory contains:
//
//	stamp            the version of this layout and the id map it belongs to
//	blobs/sha256/H   raw bytes whose SHA-256 is H, as in an OCI layout
//	layers/H         diff ID -> descriptors of its blobs (sealed JSON)
//	indexes/H        diff ID -> path listing of the layer (sealed)
//	records/K        key -> bytes of the caller (sealed)
//	hints/K          key -> bytes of the caller that can be lost (sealed)
//	history/K        reference -> its earlier images (sealed JSON)
//	tags/K           reference -> image (sealed JSON; its bytes are blobs); a
//	                 reference <failed>@ID is the tree of a failed step
//	pins/K           reference and platform -> image, as last resolved
//	builds/T-I       the record of a build of the time T and the ID I (sealed)
//	trees/B/N/tree   an unpacked directory, until the machine restarts:
//	                 B is the boot ID, N a name that is never reused
//	trees/B/N/work   its overlay work directory; removed when N gets a key
//	trees/B/keys/K   a symlink to ../N
//	caches/K/N/data  the directory of a cache mount; N numbers those of one key
//	                 and is flocked by the users
//	locks            empty; a byte of it is locked by the process that holds a key
//	tmp/L            the lease of a process and its temporary files
//	trash/           entries that are being removed
//	gc               locked shared to mark entries as used, exclusively to remove them
//
// H is a hash in hex, K a hashed key. A sealed file begins with a checksum; one that
// is torn, as after a power failure, counts as missing.
//
// # Durability
//
// A blob is synced before it is renamed into place, because not all reads verify
// it. [BlobStore.PutBlob] verifies the digest of the bytes; callers of
// [BlobWriter.Commit] have computed it from the bytes. [BlobStore.OpenVerified]
// verifies a blob again while it is read, and [Store.Check] all blobs;
// [BlobStore.OpenBlob] verifies nothing. Small files are verified on each read, so
// they are renamed at once and a goroutine syncs them (the file, then the
// directory) in the background; Close waits for it. So a build does not wait for
// the disk, and all entries are durable when a process ends normally. After a
// power failure a record may refer to a missing blob: users must check. Hints and
// trees are never synced: trees do not survive a restart.
//
// # Leases
//
// The lease of a process is a flocked directory tmp/L whose name begins with the
// time of taking it. If the flock is free, the process is dead and the next Open
// removes its files. A lookup marks an entry as used, once per lease, by setting its
// mtime; Prune keeps the entries that were used since the oldest live lease was
// taken. The mtime is never set back or to a time before the lease, so this holds
// even if the clock is set back.
//
// # Size
//
// The package is larger than others of this module because all of its parts depend
// on the same rules of renaming, syncing, marking and locking. Each kind of entry
// has a type of its own, and checks and garbage collection are types that read all
// kinds.
package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

const (
	blobsDir   = "blobs/sha256"
	layersDir  = "layers"
	indexesDir = "indexes"
	recordsDir = "records"
	hintsDir   = "hints"
	tagsDir    = "tags"
	historyDir = "history"
	pinsDir    = "pins"
	buildsDir  = "builds"
	treesDir   = "trees"
	locksFile  = "locks"
	tmpDir     = "tmp"
	trashDir   = "trash"
	gcFile     = "gc"
	stampFile  = "stamp"
)

// Store is an open store. Its methods may be called concurrently.
type Store struct {
	*disk
	*BlobStore
	*LayerStore
	*RecordStore
	*ImageStore
	*TreeStore
	*CacheStore
	*BuildStore
	*sweeper
	closed sync.Once
}

// Open opens the store in the directory root, making it if necessary. It removes the
// files of dead processes and takes a lease. It fails if the directory has other
// contents, or if the store was made under another id map.
func Open(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s := newStore(root)
	if err := s.open(); err != nil {
		return nil, s.explain("open the store", err)
	}
	return s, nil
}

func newStore(root string) *Store {
	d := &disk{root: root, sync: newSyncer()}
	blobs := &BlobStore{disk: d}
	return &Store{
		disk: d, BlobStore: blobs, LayerStore: &LayerStore{disk: d}, RecordStore: &RecordStore{d},
		ImageStore: &ImageStore{disk: d, blobs: blobs}, TreeStore: &TreeStore{disk: d, kept: map[string]bool{}},
		CacheStore: &CacheStore{d}, BuildStore: &BuildStore{d}, sweeper: &sweeper{disk: d},
	}
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
	boot := BootID()
	if boot == "" {
		boot = "process-" + s.lease.name // no tree outlives the process
	}
	s.boot = s.path(treesDir, boot)
	s.trash = newTrash(s.path(trashDir))
	s.sweep()
	return nil
}

// Close removes the temporary files of this process and its trees without a key,
// waits until all stored entries are durable, and releases the lease.
func (s *Store) Close() error {
	var err error
	s.closed.Do(func() { err = s.close() })
	return err
}

func (s *Store) close() error {
	err := s.sync.close()
	err = errors.Join(err, s.TreeStore.close())
	s.trash.close()
	err = errors.Join(err, s.lease.close(), s.gc.Close())
	if err != nil {
		return s.explain("close the store", err)
	}
	return nil
}

// Root returns the absolute path of the store's directory.
func (s *Store) Root() string { return s.root }
