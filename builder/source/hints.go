package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// hints caches the digests of a context's files, from earlier builds and this one.
//
// It is stored as one value per context: a magic string, then for each directory its path
// and block, sorted by path, then a CRC-32C of everything (the storage need not sync). A
// block has the day of its last use and one record per file. Only the blocks of walked
// directories are decoded. The other blocks are kept until they have not been used for a
// month.
type hints struct {
	storage Hints
	key     string
	opened  time.Time

	load sync.Once
	mu   sync.Mutex
	dirs map[string]*hintDir
}

// hintDir is the cache of one directory. It consists of encoded records, which have half
// the size of decoded ones.
type hintDir struct {
	mu    sync.Mutex
	known []byte // sorted by name
	added []byte // in the order in which they were added
	dirty bool
	day   uint32
}

// hint is the cached digest of one file.
type hint struct {
	name  string
	stamp stamp
	attrs bool
	sum   [32]byte
}

const (
	hintMagic = "cairn context 1\n"
	hintDays  = 30
	// A file that was written within this time before it was read could be written again
	// without a change of its times: file systems have a resolution of up to two seconds.
	racyWindow = 2 * time.Second
)

func (h *hints) open(storage Hints, path string, now time.Time) {
	h.storage, h.key, h.opened = storage, "context "+path, now
}

func (h *hints) today() uint32 { return uint32(h.opened.Unix() / 86400) }

// dir returns the cache of a directory.
func (h *hints) dir(path string) *hintDir {
	h.load.Do(func() {
		h.dirs = map[string]*hintDir{}
		if h.storage == nil {
			return
		}
		if b, err := h.storage.Hint(h.key); err == nil {
			h.dirs = decodeHints(b)
		}
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.dirs[path]
	if d == nil {
		d = &hintDir{}
		h.dirs[path] = d
	}
	return d
}

// hintList has the hints for the files of a directory, sorted by name.
type hintList []hint

// enter returns the hints for a directory whose names were just listed. It drops hints for
// files that do not exist any more.
func (h *hints) enter(path string, items []item) hintList {
	d := h.dir(path)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.use(h.today())
	all := d.decode()
	if all.missing(items) {
		d.dirty = true
		all = slices.DeleteFunc(all, func(h hint) bool {
			_, found := slices.BinarySearchFunc(items, h.name, func(it item, name string) int {
				return strings.Compare(it.name, name)
			})
			return !found
		})
		d.known, d.added = all.encode(), nil
	}
	return all
}

// missing reports whether a file of the list is not among items. Both are sorted.
func (l hintList) missing(items []item) bool {
	i := 0
	for _, h := range l {
		for i < len(items) && items[i].name < h.name {
			i++
		}
		if i == len(items) || items[i].name != h.name {
			return true
		}
	}
	return false
}

func (l hintList) find(name string) (hint, bool) {
	i, ok := slices.BinarySearchFunc(l, name, func(h hint, name string) int {
		return strings.Compare(h.name, name)
	})
	if !ok {
		return hint{}, false
	}
	return l[i], true
}

// find returns the hint for a single file.
func (h *hints) find(path, name string) (hint, bool) {
	d := h.dir(path)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.use(h.today())
	return d.decode().find(name)
}

// learn adds the digest of a file that was just read, unless the file may be racily clean.
func (h *hints) learn(f *File, sum [32]byte) {
	newest := max(f.stamp.mtime, f.stamp.ctime)
	if newest > h.opened.Add(-racyWindow).UnixNano() {
		return
	}
	dir, name := ".", f.path
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		dir, name = name[:i], name[i+1:]
	}
	d := h.dir(dir)
	d.mu.Lock()
	defer d.mu.Unlock()
	added := hint{name: name, stamp: f.stamp, attrs: f.attrs, sum: sum}
	d.added = added.appendTo(d.added)
	d.dirty = true
}

// SaveHints stores the digests for the next build, if there are new ones.
func (d *Dir) SaveHints() error { return d.hints.save() }

func (h *hints) save() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.storage == nil || !slices.ContainsFunc(slices.Collect(maps.Values(h.dirs)), (*hintDir).changed) {
		return nil
	}
	if err := h.storage.PutHint(h.key, h.encode()); err != nil {
		return err
	}
	for _, d := range h.dirs {
		d.mu.Lock()
		d.dirty = false
		d.mu.Unlock()
	}
	return nil
}

func (d *hintDir) changed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dirty
}

func (h *hints) encode() []byte {
	size := len(hintMagic)
	for path, d := range h.dirs {
		size += len(path) + d.size()
	}
	b := append(make([]byte, 0, size), hintMagic...)
	for _, path := range slices.Sorted(maps.Keys(h.dirs)) {
		block := h.dirs[path].encode(h.today())
		if len(block) == 0 {
			continue
		}
		b = appendString(b, path)
		b = binary.AppendUvarint(b, uint64(len(block)))
		b = append(b, block...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// size returns the approximate encoded size in bytes.
func (d *hintDir) size() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.known) + len(d.added) + 16
}

// encode returns the block of a directory, nil if there is nothing to store.
func (d *hintDir) encode(today uint32) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dirty {
		d.day = today
		d.known, d.added = d.decode().encode(), nil
	}
	if len(d.known) == 0 || d.day+hintDays < today {
		return nil
	}
	return append(binary.LittleEndian.AppendUint32(nil, d.day), d.known...)
}

func (l hintList) encode() []byte {
	var b []byte
	for i := range l {
		b = l[i].appendTo(b)
	}
	return slices.Clip(b)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (h *hint) appendTo(b []byte) []byte {
	b = appendString(b, h.name)
	b = binary.AppendUvarint(b, uint64(h.stamp.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.stamp.mtime))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.stamp.ctime))
	b = binary.AppendUvarint(b, h.stamp.ino)
	b = binary.AppendUvarint(b, h.stamp.dev)
	attrs := byte(0)
	if h.attrs {
		attrs = 1
	}
	return append(append(b, attrs), h.sum[:]...)
}

var errHints = errors.New("damaged hints")

// decodeHints splits a value into blocks. A damaged value has none.
func decodeHints(b []byte) map[string]*hintDir {
	dirs := map[string]*hintDir{}
	if !bytes.HasPrefix(b, []byte(hintMagic)) || len(b) < len(hintMagic)+4 {
		return dirs
	}
	sum := b[len(b)-4:]
	if crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)) != binary.LittleEndian.Uint32(sum) {
		return dirs
	}
	d := decoder{b: b[len(hintMagic) : len(b)-4]}
	for len(d.b) > 0 {
		path, block := string(d.bytes(d.uvarint())), d.bytes(d.uvarint())
		if d.err != nil || len(block) < 4 {
			return map[string]*hintDir{}
		}
		dirs[path] = &hintDir{known: block[4:], day: binary.LittleEndian.Uint32(block)}
	}
	return dirs
}

// use records that a directory is used today.
func (d *hintDir) use(today uint32) {
	if d.day != today && len(d.known) > 0 {
		d.dirty = true
	}
	d.day = today
}

// decode decodes the records. For files with several records it uses the last. Damaged
// records are dropped.
func (d *hintDir) decode() hintList {
	all, ok := decodeRecords(nil, d.known)
	if !ok {
		all, d.known, d.dirty = nil, nil, true
	}
	if len(d.added) == 0 {
		return all
	}
	all, _ = decodeRecords(all, d.added)
	slices.SortStableFunc(all, func(a, b hint) int { return strings.Compare(a.name, b.name) })
	last := all[:0]
	for i, h := range all {
		if i+1 == len(all) || all[i+1].name != h.name {
			last = append(last, h)
		}
	}
	return last
}

// decodeRecords appends decoded records, up to the first damaged one.
func decodeRecords(to hintList, records []byte) (all hintList, ok bool) {
	in := decoder{b: records, names: string(records)}
	for len(in.b) > 0 {
		h := in.hint()
		if in.err != nil {
			return to, false
		}
		to = append(to, h)
	}
	return to, true
}

// decoder takes values from the front of b until one of them is damaged.
type decoder struct {
	b     []byte
	names string // a copy of b, whose substrings need no copies
	err   error
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.err, d.b = errHints, nil
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.err, d.b = errHints, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint64() uint64 {
	if b := d.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) string() string {
	b := d.bytes(d.uvarint())
	end := len(d.names) - len(d.b)
	return d.names[end-len(b) : end]
}

func (d *decoder) hint() (h hint) {
	h.name = d.string()
	h.stamp.size = int64(d.uvarint())
	h.stamp.mtime = int64(d.uint64())
	h.stamp.ctime = int64(d.uint64())
	h.stamp.ino = d.uvarint()
	h.stamp.dev = d.uvarint()
	if attrs := d.bytes(1); attrs != nil {
		h.attrs = attrs[0] != 0
	}
	copy(h.sum[:], d.bytes(32))
	return h
}
