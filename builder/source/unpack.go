package source

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// ArchiveHead is the number of bytes that IsArchive needs.
const ArchiveHead = 1024

// IsArchive reports whether a file that begins with head is a tar archive or a compressed
// file. Docker distinguishes archives from Dockerfiles in the same way.
func IsArchive(head []byte) bool {
	if compress.Detect(head) != "" || bytes.HasPrefix(head, []byte("BZh")) {
		return true
	}
	if _, err := tar.NewReader(bytes.NewReader(head)).Next(); err != nil {
		return isExtendedHeader(head) && (err == io.EOF || err == io.ErrUnexpectedEOF)
	}
	return true
}

// isExtendedHeader reports whether the first header of a tar archive is an extension of
// the next one, as PAX and GNU tar use for long names. The next header can be at any
// distance.
func isExtendedHeader(head []byte) bool {
	const block, flag = 512, 156
	return len(head) >= block && strings.IndexByte("xgLK", head[flag]) >= 0
}

// Unpacked has the attributes of an archive's files. Not all of them can be stored on
// disk, such as owners that the user may not set, and some extended attributes.
type Unpacked struct {
	entries map[string]*listing.Entry // by path
	newest  int64                     // modification time of the newest regular file
}

// Unpack unpacks a possibly compressed tar archive into the empty directory dir, and reads
// r to its end. No path or link in the archive can make it write outside of dir. If the
// archive exceeds l, the error is a [tarball.LimitError]. After an error, dir contains
// some of the files.
func Unpack(dir string, r io.Reader, l tarball.Limits) (*Unpacked, error) {
	plain, err := compress.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("unpack build context: %w", err)
	}
	defer plain.Close()
	x, err := tarball.Apply(dir, plain, tarball.ApplyOptions{NoChown: true, Readable: true, Plain: true, Limits: l})
	if err != nil {
		return nil, fmt.Errorf("unpack build context: %w", err)
	}
	u := &Unpacked{entries: make(map[string]*listing.Entry, len(x.Entries)), newest: math.MinInt64}
	for i := range x.Entries {
		u.add(&x.Entries[i])
	}
	return u, nil
}

func (u *Unpacked) add(e *listing.Entry) {
	u.entries[e.Path] = e
	if e.Type == listing.TypeHardlink {
		u.entries[e.Path] = u.entries[e.Link] // the entry of the first name
	}
	if e.Type == listing.TypeFile {
		u.newest = max(u.newest, e.MTime)
	}
}

// Below returns the attributes of the files in a directory of the archive.
func (u *Unpacked) Below(dir string) *Unpacked {
	below := &Unpacked{entries: map[string]*listing.Entry{}, newest: u.newest}
	for p, e := range u.entries {
		if p == dir {
			below.entries["."] = e
		} else if rest, ok := strings.CutPrefix(p, dir+"/"); ok {
			below.entries[rest] = e
		}
	}
	return below
}

// Newest returns the modification time of the newest regular file in Unix seconds, and
// false if there is no regular file.
func (u *Unpacked) Newest() (int64, bool) { return u.newest, u.newest != math.MinInt64 }

// NewestIn is like Newest for an archive that is not unpacked. It returns false if r is not
// an archive.
func NewestIn(r io.Reader) (int64, bool) {
	newest := int64(math.MinInt64)
	plain, err := compress.NewReader(r)
	if err != nil {
		return 0, false
	}
	defer plain.Close()
	for in := tar.NewReader(plain); ; {
		h, err := in.Next()
		if err == io.EOF {
			return newest, newest != math.MinInt64
		}
		if err != nil {
			return 0, false
		}
		if h.FileInfo().Mode().IsRegular() && h.Typeflag != tar.TypeLink {
			newest = max(newest, h.ModTime.Unix())
		}
	}
}

// complete sets the attributes that a file has in the archive.
func (u *Unpacked) complete(f *File) {
	e := u.entries[f.path]
	if e == nil { // a directory without an entry
		if at, ok := u.Newest(); ok {
			f.MTime = at
		}
		return
	}
	f.UID, f.GID, f.Mode = e.UID, e.GID, e.Mode
	if f.Type == listing.TypeFile {
		f.Digest = e.Digest
	}
	for name, value := range e.XAttrs {
		if f.Type == listing.TypeSymlink || !KeepXAttr(name) {
			continue
		}
		if f.XAttrs == nil {
			f.XAttrs = map[string]string{}
		}
		f.XAttrs[name] = value
	}
	f.attrs = f.XAttrs != nil
}

// OpenUnpacked opens the directory of an unpacked archive as a context without an ignore
// file. Files have the attributes of the archive.
func OpenUnpacked(path string, u *Unpacked) (*Dir, error) {
	d, err := OpenDir(path, nil, nil)
	if err != nil {
		return nil, err
	}
	d.tar = u
	return d, nil
}
