package tarball

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tree"
)

const readBuffer = 256 << 10

// Scan reads a tar to the end of r and returns its listing without unpacking it. The
// listing has the files that extracting the tar would leave: the last entry of a
// path counts, symlinks of the layer in parent paths are followed, and of the names
// of a file the bytewise first is a regular file and the others are hard links to
// it.
func Scan(r io.Reader, l Limits) (*listing.Listing, error) { return ScanFiles(r, l, nil) }

// Files receives the contents of the regular files of a tar.
type Files interface {
	// Begin returns a writer of the contents of a file, or nil.
	Begin(path string, size int64) io.Writer
	// End ends the file that began last with a writer, and has its digest now.
	End(*listing.Entry) error
}

// ScanFiles is Scan, and passes the contents of regular files to f.
func ScanFiles(r io.Reader, l Limits, f Files) (*listing.Listing, error) {
	s := newScanner(r, l)
	s.files = f
	if err := s.run(); err != nil {
		return nil, err
	}
	return s.model.listing(), nil
}

// A scanner reads a tar into a model.
type scanner struct {
	src    *bufio.Reader
	tar    *tar.Reader
	copier *copier
	model  *model
	disk   *unpacker    // nil for Scan
	times  *timesReader // of disk; nil: those of the tar
	files  Files        // of ScanFiles; may be nil
	plain  bool         // names like those of whiteouts are ordinary ones
	meter  *Meter
	keep   int // remaining bytes of attributes and link targets
}

func newScanner(r io.Reader, l Limits) *scanner {
	l = l.withDefaults()
	src := bufio.NewReaderSize(r, readBuffer)
	return &scanner{
		src: src, tar: tar.NewReader(src), copier: newCopier(),
		model: newModel(nil, l), meter: l.Meter(), keep: l.maxMeta,
	}
}

func (s *scanner) run() error {
	for entries := 0; ; entries++ {
		h, err := s.tar.Next()
		if err == io.EOF {
			return s.drain()
		}
		if err != nil {
			return fmt.Errorf("tar entry %d: %w", entries, err)
		}
		if err := s.meter.entry(); err != nil {
			return fmt.Errorf("tar: %w", err)
		}
		if err := s.header(h); err != nil {
			return fmt.Errorf("tar entry %.300q: %w", h.Name, err)
		}
	}
}

// mostAfter is the maximum number of bytes after the end of an archive. Programs
// that write archives add zeros up to the size of a record.
const mostAfter = 64 << 20

// drain reads the bytes after the archive, which are part of the layer's digest.
func (s *scanner) drain() error {
	n, err := io.CopyN(io.Discard, s.src, mostAfter)
	if err == io.EOF {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("more than %d bytes after the archive", n)
	}
	return fmt.Errorf("tar: %w", err)
}

func (s *scanner) header(h *tar.Header) error {
	if err := s.meter.size(body(h)); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	var at time.Time
	if s.times != nil {
		at = s.times.next()
	}
	e, err := readHeader(h, s.plain)
	if err != nil || e == nil {
		return err
	}
	if s.keep -= kept(e); s.keep < 0 {
		return errTooMany
	}
	switch e.Type {
	case listing.TypeWhiteout, listing.TypeOpaque:
		return s.hide(e)
	case listing.TypeHardlink:
		return s.link(e)
	}
	n, _, err := s.model.put(e.Path, e)
	if err != nil {
		return err
	}
	e.Path = n.path
	if s.disk != nil {
		if s.times != nil {
			s.disk.times[e] = at
		}
		return s.disk.putTimed(n.path, e, s.copyContent)
	}
	if e.Type == listing.TypeFile {
		return s.readFile(e)
	}
	return nil
}

func (s *scanner) readFile(e *listing.Entry) error {
	if s.files == nil {
		return s.copyContent(io.Discard, e)
	}
	w := s.files.Begin(e.Path, e.Size)
	if w == nil {
		return s.copyContent(io.Discard, e)
	}
	if err := s.copyContent(w, e); err != nil {
		return err
	}
	return s.files.End(e)
}

// body returns the number of bytes after an entry's header, whether or not they are
// kept.
func body(h *tar.Header) int64 {
	switch h.Typeflag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
		return 0 // regardless of the size field
	}
	return h.Size
}

func (s *scanner) copyContent(w io.Writer, e *listing.Entry) error {
	return s.copier.file(w, s.tar, e)
}

func (s *scanner) hide(e *listing.Entry) error {
	n, _, err := s.model.hide(e.Path, e.Type == listing.TypeOpaque)
	if err != nil || s.disk == nil {
		return err
	}
	return s.disk.hide(n.path, e.Type == listing.TypeOpaque)
}

// link adds a hard link. As in containerd, the file gets the attributes of the link, if the
// tar is a layer.
func (s *scanner) link(e *listing.Entry) error {
	n, to, _, err := s.model.link(e.Path, e.Link)
	if err != nil {
		return err
	}
	changed := false
	if n != to && !s.plain {
		changed = adopt(to.inode, e)
	}
	if s.disk == nil {
		return nil
	}
	if err := s.disk.link(n.path, to.path); err != nil || !changed {
		return err
	}
	return s.disk.adopt(n.path, to.inode)
}

// adopt gives a file the attributes of a hard link to it, and reports whether they differ.
func adopt(file, link *listing.Entry) bool {
	old := *file
	if inheritLink(file, link); file.Type == listing.TypeSymlink {
		file.Mode = old.Mode
	}
	changed := file.Mode != old.Mode || file.UID != old.UID || file.GID != old.GID || file.MTime != old.MTime
	for name, value := range link.XAttrs {
		if have, ok := file.XAttrs[name]; ok && have == value {
			continue
		}
		if changed = true; file.XAttrs == nil {
			file.XAttrs = map[string]string{}
		}
		file.XAttrs[name] = value
	}
	return changed
}

// kept returns the number of bytes in an entry besides its path.
func kept(e *listing.Entry) int {
	n := len(e.Link)
	for name, value := range e.XAttrs {
		n += len(name) + len(value)
	}
	return n
}

// readHeader converts a header to an entry, or returns nil if it is to be skipped.
func readHeader(h *tar.Header, plain bool) (*listing.Entry, error) {
	path, err := cleanName(h.Name)
	if err != nil {
		return nil, err
	}
	if path == "." && strings.Contains(h.Name, "..") {
		return nil, nil // containerd leaves the root as it is
	}
	e := &listing.Entry{Path: path}
	if !plain && strings.Contains(path, whiteoutPrefix) {
		e.Path, e.Type, err = whiteout(path)
		if err != nil || e.Path == "" {
			return nil, err
		}
	}
	if e.Type != 0 {
		if h.Typeflag == tar.TypeDir {
			return nil, errors.New("a whiteout can't be a directory")
		}
		return e, nil
	}
	if e.Type, err = entryType(h); err != nil {
		return nil, err
	}
	return e, readFields(e, h)
}

// areIDs reports whether the ids are valid for the owner of a file.
func areIDs(uid, gid int) bool { return uint64(uid) <= listing.MaxID && uint64(gid) <= listing.MaxID }

func readFields(e *listing.Entry, h *tar.Header) error {
	if e.Path == "." && e.Type != listing.TypeDir {
		return errors.New("the root must be a directory")
	}
	if !areIDs(h.Uid, h.Gid) {
		return fmt.Errorf("owner %d:%d", h.Uid, h.Gid)
	}
	if h.Devmajor < 0 || h.Devminor < 0 || h.Devmajor > math.MaxUint32 || h.Devminor > math.MaxUint32 {
		return fmt.Errorf("device %d:%d", h.Devmajor, h.Devminor)
	}
	e.Mode, e.UID, e.GID = uint32(h.Mode&0o7777), h.Uid, h.Gid
	e.MTime, e.Size, e.Link = h.ModTime.Unix(), h.Size, h.Linkname
	e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, paxXAttr); ok && tree.KeepXAttr(name) {
			if e.XAttrs == nil {
				e.XAttrs = map[string]string{}
			}
			e.XAttrs[name] = value
		}
	}
	xattrs := e.XAttrs
	canonical(e)
	if e.Type == listing.TypeHardlink && xattrs != nil {
		e.XAttrs = keptXAttrs(xattrs)
	}
	return checkLink(e)
}

func checkLink(e *listing.Entry) (err error) {
	switch e.Type {
	case listing.TypeHardlink:
		e.Link, err = cleanName(e.Link)
		if err != nil {
			return fmt.Errorf("hard link: %w", err)
		}
	case listing.TypeSymlink:
		if e.Link == "" || len(e.Link) > listing.MaxPath || strings.Contains(e.Link, "\x00") {
			return fmt.Errorf("symlink to %.100q", e.Link)
		}
	}
	return nil
}

func entryType(h *tar.Header) (listing.Type, error) {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return listing.TypeFile, nil
	case tar.TypeDir:
		return listing.TypeDir, nil
	case tar.TypeSymlink:
		return listing.TypeSymlink, nil
	case tar.TypeLink:
		return listing.TypeHardlink, nil
	case tar.TypeChar:
		return listing.TypeChar, nil
	case tar.TypeBlock:
		return listing.TypeBlock, nil
	case tar.TypeFifo:
		return listing.TypeFifo, nil
	}
	return 0, fmt.Errorf("type %q is not supported", h.Typeflag)
}

// cleanName converts a name in a tar to a path relative to the root. A leading slash
// means the root. As in containerd, ".." takes away the element before it, whatever
// that is, and stops at the root.
func cleanName(name string) (string, error) {
	short := strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	if listing.ValidPath(short) {
		return short, nil
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			parts = parts[:max(len(parts)-1, 0)]
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return ".", nil
	}
	p := strings.Join(parts, "/")
	if !listing.ValidPath(p) {
		return "", fmt.Errorf("path %.300q is too long or malformed", name)
	}
	return p, nil
}

// whiteout parses a path that contains ".wh.". It returns type 0 for an ordinary
// path, and path "" for the bookkeeping of aufs in old images.
func whiteout(path string) (string, listing.Type, error) {
	last := listing.Base(path)
	for name := range strings.SplitSeq(listing.Dir(path), "/") {
		if strings.HasPrefix(name, metaPrefix) {
			return "", 0, nil
		}
		if strings.HasPrefix(name, whiteoutPrefix) {
			return "", 0, fmt.Errorf("%q is a whiteout, not a directory", name)
		}
	}
	hidden, ok := strings.CutPrefix(last, whiteoutPrefix)
	switch {
	case !ok:
		return path, 0, nil
	case last == opaqueName:
		return listing.Dir(path), listing.TypeOpaque, nil
	case strings.HasPrefix(last, metaPrefix):
		return "", 0, nil
	case hidden == "" || hidden == "." || hidden == "..":
		return "", 0, fmt.Errorf("whiteout of %q", hidden)
	}
	return listing.Join(listing.Dir(path), hidden), listing.TypeWhiteout, nil
}
