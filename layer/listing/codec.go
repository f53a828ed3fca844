package listing

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/layer"
)

// An encoded listing is magic, the CRC-32C of the body in 4 little-endian bytes, and
// the body: the number of entries, then each entry as
//
//	shared    1 byte: length of the prefix shared with the previous path
//	rest      length and bytes
//	type      1 byte
//	fields    1 byte: which of the following are present
//	mode      uvarint
//	...       the fields, in the order of the constants below
//
// Lengths are uvarints, numbers zig-zag varints; an absent owner or time is that of
// the previous entry. As shared is one byte, a hostile body cannot expand by more
// than a factor of about fifty.
const magic = "cairn index 1\n"

const (
	hasOwner   = 1 << iota // varint uid, varint gid
	hasTime                // varint, less the previous
	hasSize                // varint
	hasLink                // length, bytes
	hasDevice              // uvarint major, uvarint minor
	hasXAttrs              // number, then length, bytes, length, bytes, sorted
	hasDigest              // 32 bytes
	hasContent             // length, bytes
)

const (
	maxShared = 255
	minEntry  = 5 // bytes of the smallest entry

	digestBytes  = 32
	digestPrefix = "sha256:"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode returns the listing as bytes for Decode.
func (x *Listing) Encode() []byte {
	return encode(len(x.Entries), 64*len(x.Entries), func(yield func(*Entry) bool) {
		for i := range x.Entries {
			if !yield(&x.Entries[i]) {
				return
			}
		}
	})
}

func appendEntry(b []byte, e, previous *Entry) []byte {
	shared := sharedPrefix(previous.Path, e.Path)
	b = append(b, byte(shared))
	b = appendString(b, e.Path[shared:])
	fields := e.fields(previous)
	sum, known := rawDigest(e.Digest)
	if known {
		fields |= hasDigest
	}
	b = append(b, byte(e.Type), fields)
	b = binary.AppendUvarint(b, uint64(e.Mode))
	if fields&hasOwner != 0 {
		b = binary.AppendVarint(b, int64(e.UID))
		b = binary.AppendVarint(b, int64(e.GID))
	}
	if fields&hasTime != 0 {
		b = binary.AppendVarint(b, e.MTime-previous.MTime)
	}
	if fields&hasSize != 0 {
		b = binary.AppendVarint(b, e.Size)
	}
	if fields&hasLink != 0 {
		b = appendString(b, e.Link)
	}
	if fields&hasDevice != 0 {
		b = binary.AppendUvarint(b, uint64(e.Major))
		b = binary.AppendUvarint(b, uint64(e.Minor))
	}
	if fields&hasXAttrs != 0 {
		b = appendXAttrs(b, e.XAttrs)
	}
	if fields&hasDigest != 0 {
		b = append(b, sum[:]...)
	}
	if fields&hasContent != 0 {
		b = binary.AppendUvarint(b, uint64(len(e.Content)))
		b = append(b, e.Content...)
	}
	return b
}

// fields returns the fields of e to write, except for the digest.
func (e *Entry) fields(previous *Entry) byte {
	var f byte
	set := func(bit byte, present bool) {
		if present {
			f |= bit
		}
	}
	set(hasOwner, e.UID != previous.UID || e.GID != previous.GID)
	set(hasTime, e.MTime != previous.MTime)
	set(hasSize, e.Size != 0)
	set(hasLink, e.Link != "")
	set(hasDevice, e.Major != 0 || e.Minor != 0)
	set(hasXAttrs, len(e.XAttrs) > 0)
	set(hasContent, len(e.Content) > 0)
	return f
}

// rawDigest returns the 32 bytes of a digest, or nil if it is malformed.
func rawDigest(d layer.Digest) (sum [digestBytes]byte, ok bool) {
	if len(d) != len(digestPrefix)+2*digestBytes || d[:len(digestPrefix)] != digestPrefix {
		return sum, false
	}
	n, err := hex.Decode(sum[:], []byte(d[len(digestPrefix):]))
	return sum, err == nil && n == digestBytes
}

func sharedPrefix(a, b string) int {
	n := min(len(a), len(b), maxShared)
	i := 0
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendXAttrs(b []byte, attrs map[string]string) []byte {
	names := make([]string, 0, len(attrs))
	for name := range attrs {
		names = append(names, name)
	}
	slices.Sort(names)
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, name := range names {
		b = appendString(b, name)
		b = appendString(b, attrs[name])
	}
	return b
}

// Decode decodes the result of Encode. It fails if the bytes are damaged, the
// entries out of order, or their form invalid.
func Decode(b []byte) (*Listing, error) {
	if len(b) < len(magic)+4 || string(b[:len(magic)]) != magic {
		return nil, errors.New("listing: unknown format or version")
	}
	body := b[len(magic)+4:]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[len(magic):]) {
		return nil, errors.New("listing: wrong checksum, the bytes are damaged")
	}
	x, err := decodeBody(body)
	if err != nil {
		return nil, fmt.Errorf("listing: %w", err)
	}
	return x, nil
}

var errShort = errors.New("ends too early")

func decodeBody(body []byte) (*Listing, error) {
	d := decoder{rest: body}
	count := d.uvarint()
	if d.err != nil || count > uint64(len(d.rest)/minEntry) {
		return nil, errShort
	}
	x := &Listing{Entries: make([]Entry, count)}
	previous := &Entry{}
	for i := range x.Entries {
		e := &x.Entries[i]
		d.entry(e, previous)
		if d.err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, d.err)
		}
		if i > 0 && Compare(*previous, *e) >= 0 {
			return nil, fmt.Errorf("entry %d: %q is not after %q", i, e.Path, previous.Path)
		}
		if err := e.validate(); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		previous = e
	}
	if len(d.rest) > 0 {
		return nil, errors.New("bytes after the last entry")
	}
	return x, nil
}

func (e *Entry) validate() error {
	switch {
	case !ValidPath(e.Path):
		return fmt.Errorf("path %q is not clean and relative", e.Path)
	case e.Type < TypeFile || e.Type > TypeOpaque:
		return fmt.Errorf("%s: type %d", e.Path, e.Type)
	case e.Mode&^07777 != 0:
		return fmt.Errorf("%s: mode %o", e.Path, e.Mode)
	case e.Size < 0:
		return fmt.Errorf("%s: size %d", e.Path, e.Size)
	case e.Type == TypeHardlink && !ValidPath(e.Link):
		return fmt.Errorf("%s: hard link to %q", e.Path, e.Link)
	case e.Type == TypeSymlink && (e.Link == "" || len(e.Link) > MaxPath || strings.Contains(e.Link, "\x00")):
		return fmt.Errorf("%s: symlink to %q", e.Path, e.Link)
	case e.Content != nil && (!CarriesContent(e.Path) || len(e.Content) > MaxContent):
		return fmt.Errorf("%s: carries content", e.Path)
	case e.Path == "." && e.Type != TypeDir && e.Type != TypeOpaque:
		return errors.New("the root is not a directory")
	}
	return nil
}

// A decoder takes values off the front of rest. After an error all values are zero.
type decoder struct {
	rest  []byte
	err   error
	arena strings.Builder
}

func (d *decoder) entry(e, previous *Entry) {
	d.path(e, previous.Path)
	e.Type = Type(d.byte())
	fields := d.byte()
	e.Mode = d.uint32()
	e.UID, e.GID, e.MTime = previous.UID, previous.GID, previous.MTime
	if fields&hasOwner != 0 {
		e.UID, e.GID = int(d.varint()), int(d.varint())
	}
	if fields&hasTime != 0 {
		e.MTime += d.varint()
	}
	if fields&hasSize != 0 {
		e.Size = d.varint()
	}
	if fields&hasLink != 0 {
		e.Link = d.string()
	}
	if fields&hasDevice != 0 {
		e.Major, e.Minor = d.uint32(), d.uint32()
	}
	if fields&hasXAttrs != 0 {
		e.XAttrs = d.xattrs()
	}
	if fields&hasDigest != 0 {
		e.Digest = d.digest()
	}
	if fields&hasContent != 0 {
		e.Content = slices.Clone(d.bytes())
	}
}

func (d *decoder) path(e *Entry, previous string) {
	shared := int(d.byte())
	suffix := d.bytes()
	if shared > len(previous) {
		d.fail(errors.New("shared prefix is longer than the previous path"))
		return
	}
	if len(suffix) > MaxPath {
		d.fail(errors.New("path too long"))
		return
	}
	start := d.grow(shared + len(suffix))
	d.arena.WriteString(previous[:shared])
	d.arena.Write(suffix)
	e.Path = d.arena.String()[start:]
}

// grow makes space for n bytes in the arena and returns the offset of the first.
// Strings taken from the arena share few allocations.
func (d *decoder) grow(n int) int {
	const chunk = 32 << 10
	if d.arena.Cap()-d.arena.Len() < n {
		d.arena = strings.Builder{}
		d.arena.Grow(max(n, chunk))
	}
	return d.arena.Len()
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err, d.rest = err, nil
	}
}

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.fail(errShort)
		return 0
	}
	c := d.rest[0]
	d.rest = d.rest[1:]
	return c
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > 1<<32-1 {
		d.fail(errors.New("number too large"))
		return 0
	}
	return uint32(v)
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.fail(errShort)
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) string() string {
	b := d.bytes()
	start := d.grow(len(b))
	d.arena.Write(b)
	return d.arena.String()[start:]
}

func (d *decoder) digest() layer.Digest {
	if len(d.rest) < digestBytes {
		d.fail(errShort)
		return ""
	}
	var text [len(digestPrefix) + 2*digestBytes]byte
	copy(text[:], digestPrefix)
	hex.Encode(text[len(digestPrefix):], d.rest[:digestBytes])
	d.rest = d.rest[digestBytes:]
	start := d.grow(len(text))
	d.arena.Write(text[:])
	return layer.Digest(d.arena.String()[start:])
}

func (d *decoder) xattrs() map[string]string {
	count := d.uvarint()
	if count == 0 || count > uint64(len(d.rest)/2) {
		d.fail(errShort)
		return nil
	}
	attrs := make(map[string]string)
	last := ""
	for range count {
		name, value := d.string(), d.string()
		if d.err == nil && name <= last {
			d.fail(fmt.Errorf("attribute %q is not after %q", name, last))
		}
		if d.err != nil {
			return nil
		}
		attrs[name] = value
		last = name
	}
	return attrs
}
