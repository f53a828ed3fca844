package source

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/tarball"
)

// ArchiveHead is how many of a file's first bytes IsArchive looks at.
const ArchiveHead = 1024

// IsArchive says whether a file that begins with head is a tar archive or a
// compressed file, as docker tells those from Dockerfiles.
func IsArchive(head []byte) bool {
	if compress.Detect(head) != "" || bytes.HasPrefix(head, []byte("BZh")) {
		return true
	}
	if _, err := tar.NewReader(bytes.NewReader(head)).Next(); err != nil {
		return describes(head) && (err == io.EOF || err == io.ErrUnexpectedEOF)
	}
	return true
}

// describes tells whether the first header of a tar is one that tells of the next,
// as PAX and GNU tar have them for long names and the like: with what it tells, that
// one may be further away than any head.
func describes(head []byte) bool {
	const block, flag = 512, 156
	return len(head) >= block && strings.IndexByte("xgLK", head[flag]) >= 0
}

// Unpacked is what an archive said of its files. The disk says less: owners
// may be foreign to the machine, and attributes to the file system.
type Unpacked struct {
	entries map[string]*index.Entry // by path
	newest  int64                   // time of the youngest regular file
}

// Unpack unpacks a tar archive, in whatever compression, into dir, which must
// be empty, and reads r to its end. Nothing is written outside of dir, whatever
// paths and links the archive holds. On an error what was made stays in dir; that
// there is more than l allows is a [tarball.LimitError].
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
	u := &Unpacked{entries: make(map[string]*index.Entry, len(x.Entries)), newest: math.MinInt64}
	for i := range x.Entries {
		u.add(&x.Entries[i])
	}
	return u, nil
}

func (u *Unpacked) add(e *index.Entry) {
	u.entries[e.Path] = e
	if e.Type == index.TypeHardlink {
		u.entries[e.Path] = u.entries[e.Link] // the first of a file's names holds it
	}
	if e.Type == index.TypeFile {
		u.newest = max(u.newest, e.MTime)
	}
}

// Newest is the time of the youngest regular file, in Unix seconds; false means
// that there is none.
func (u *Unpacked) Newest() (int64, bool) { return u.newest, u.newest != math.MinInt64 }

// NewestIn tells that of an archive without unpacking it; false also for what is
// no archive.
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

// complete adds what the archive said of a file.
func (u *Unpacked) complete(f *File) {
	e := u.entries[f.path]
	if e == nil { // a directory that the archive did not name
		if at, ok := u.Newest(); ok {
			f.MTime = at
		}
		return
	}
	f.UID, f.GID, f.Mode = e.UID, e.GID, e.Mode
	if f.Type == index.TypeFile {
		f.Digest = e.Digest
	}
	for name, value := range e.XAttrs {
		if f.Type == index.TypeSymlink || !strings.HasPrefix(name, "user.") && name != "security.capability" {
			continue
		}
		if f.XAttrs == nil {
			f.XAttrs = map[string]string{}
		}
		f.XAttrs[name] = value
	}
	f.attrs = f.XAttrs != nil
}

// OpenUnpacked opens the directory that an archive was unpacked into, as a
// context without an ignore file. Owners are those of the archive.
func OpenUnpacked(path string, u *Unpacked) (*Dir, error) {
	d, err := OpenDir(path, nil, nil)
	if err != nil {
		return nil, err
	}
	d.tar = u
	return d, nil
}
