package tarball

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/cairn-build/cairn/layer/index"
)

const readBuffer = 256 << 10

// Scan reads a tar to the end of r and returns its index; nothing is unpacked.
// The index says what extracting the tar alone would leave: of entries with
// the same path the last counts, a parent that is a symlink of the layer's own
// is resolved, and of the names of a file the bytewise first is the file and
// the others are hard links to it.
func Scan(r io.Reader, l Limits) (*index.Index, error) {
	s := newScanner(r, l)
	if err := s.run(); err != nil {
		return nil, err
	}
	return s.tree.index(), nil
}

// A scanner reads a tar into a tree.
type scanner struct {
	src    *bufio.Reader
	tar    *tar.Reader
	copier *copier
	tree   *tree
	disk   *unpacker // nil for Scan
	plain  bool      // there are no whiteouts
	meter  *Meter
	keep   int // bytes of attributes and link targets that may still be kept
}

func newScanner(r io.Reader, l Limits) *scanner {
	l = l.withDefaults()
	src := bufio.NewReaderSize(r, readBuffer)
	return &scanner{
		src: src, tar: tar.NewReader(src), copier: newCopier(),
		tree: newTree(nil, l), meter: l.Meter(), keep: l.maxMeta,
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

// mostAfter is how much may follow the end of an archive: zeros up to the size of a
// record, by all programs that write archives.
const mostAfter = 64 << 20

// drain reads what follows the end of the archive: the layer's digest covers
// it.
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
	e, err := readHeader(h, s.plain)
	if err != nil || e == nil {
		return err
	}
	if s.keep -= kept(e); s.keep < 0 {
		return errTooMany
	}
	switch e.Type {
	case index.TypeWhiteout, index.TypeOpaque:
		return s.hide(e)
	case index.TypeHardlink:
		return s.link(e)
	}
	n, _, err := s.tree.put(e.Path, e)
	if err != nil {
		return err
	}
	e.Path = n.path
	if s.disk != nil {
		return s.disk.put(n.path, e, s.copy)
	}
	if e.Type == index.TypeFile {
		return s.copy(io.Discard, e)
	}
	return nil
}

// body is how many bytes follow an entry's header, be it kept or read past.
func body(h *tar.Header) int64 {
	switch h.Typeflag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
		return 0 // whatever its size says
	}
	return h.Size
}

func (s *scanner) copy(w io.Writer, e *index.Entry) error {
	return s.copier.file(w, s.tar, e)
}

func (s *scanner) hide(e *index.Entry) error {
	n, _, err := s.tree.hide(e.Path, e.Type == index.TypeOpaque)
	if err != nil || s.disk == nil {
		return err
	}
	return s.disk.hide(n.path, e.Type == index.TypeOpaque)
}

func (s *scanner) link(e *index.Entry) error {
	n, to, _, err := s.tree.link(e.Path, e.Link)
	if err != nil || s.disk == nil {
		return err
	}
	return s.disk.link(n.path, to.path)
}

// kept is what an entry holds besides its path.
func kept(e *index.Entry) int {
	n := len(e.Link)
	for name, value := range e.XAttrs {
		n += len(name) + len(value)
	}
	return n
}

// readHeader turns a header into an entry; nil when it is to be passed over.
func readHeader(h *tar.Header, plain bool) (*index.Entry, error) {
	path, err := cleanName(h.Name)
	if err != nil {
		return nil, err
	}
	e := &index.Entry{Path: path}
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

// areIDs tells whether a file can have an owner.
func areIDs(uid, gid int) bool { return uint64(uid) <= index.MaxID && uint64(gid) <= index.MaxID }

func readFields(e *index.Entry, h *tar.Header) error {
	if e.Path == "." && e.Type != index.TypeDir {
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
		if name, ok := strings.CutPrefix(key, paxXAttr); ok && keepXAttr(name) {
			if e.XAttrs == nil {
				e.XAttrs = map[string]string{}
			}
			e.XAttrs[name] = value
		}
	}
	canonical(e)
	return checkLink(e)
}

func checkLink(e *index.Entry) (err error) {
	switch e.Type {
	case index.TypeHardlink:
		e.Link, err = cleanName(e.Link)
		if err != nil {
			return fmt.Errorf("hard link: %w", err)
		}
	case index.TypeSymlink:
		if e.Link == "" || len(e.Link) > index.MaxPath || strings.Contains(e.Link, "\x00") {
			return fmt.Errorf("symlink to %.100q", e.Link)
		}
	}
	return nil
}

func entryType(h *tar.Header) (index.Type, error) {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return index.TypeFile, nil
	case tar.TypeDir:
		return index.TypeDir, nil
	case tar.TypeSymlink:
		return index.TypeSymlink, nil
	case tar.TypeLink:
		return index.TypeHardlink, nil
	case tar.TypeChar:
		return index.TypeChar, nil
	case tar.TypeBlock:
		return index.TypeBlock, nil
	case tar.TypeFifo:
		return index.TypeFifo, nil
	}
	return 0, fmt.Errorf("type %q is not supported", h.Typeflag)
}

// cleanName makes a name in a tar a path relative to the root. A leading slash
// means the root; ".." could mean anything, and is refused.
func cleanName(name string) (string, error) {
	short := strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	if index.ValidPath(short) {
		return short, nil
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", fmt.Errorf("path %.300q leads out of its directory", name)
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return ".", nil
	}
	p := strings.Join(parts, "/")
	if !index.ValidPath(p) {
		return "", fmt.Errorf("path %.300q is too long or malformed", name)
	}
	return p, nil
}

// whiteout reads a path that has ".wh." in it. Type 0 means that it is an
// ordinary path, path "" that it is aufs's bookkeeping, which old images hold.
func whiteout(path string) (string, index.Type, error) {
	last := base(path)
	for name := range strings.SplitSeq(dirOf(path), "/") {
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
		return dirOf(path), index.TypeOpaque, nil
	case strings.HasPrefix(last, metaPrefix):
		return "", 0, nil
	case hidden == "" || hidden == "." || hidden == "..":
		return "", 0, fmt.Errorf("whiteout of %q", hidden)
	}
	return join(dirOf(path), hidden), index.TypeWhiteout, nil
}
