package tarball

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/cairn-build/cairn/layer/listing"
)

// Linux's limits for extended attributes.
const (
	maxXAttrName  = 255
	maxXAttrValue = 64 << 10
)

// Write writes changes as a tar and returns the listing of it, with the digests of
// files. Changes must come in the order of listing.Compare; the root may also come
// in its bytewise position. The target of a hard link must come before it. PAX
// headers are written only for fields that need them. There are no user names, and
// no times except for mtime in seconds.
func Write(w io.Writer, changes iter.Seq2[Change, error]) (*listing.Packed, error) {
	return WriteTimes(w, changes, nil)
}

// WriteTimes is Write, and appends the exact mtime of each change to times unless that is
// nil.
func WriteTimes(w io.Writer, changes iter.Seq2[Change, error], times *Times) (*listing.Packed, error) {
	buffered := bufio.NewWriterSize(w, 128<<10)
	tw := &writer{tar: tar.NewWriter(buffered), copier: newCopier(), listing: &listing.Packed{}, times: times}
	for ch, err := range changes {
		if err != nil {
			return nil, err
		}
		if err := tw.add(&ch); err != nil {
			return nil, fmt.Errorf("%s: %w", ch.Path, err)
		}
	}
	if err := tw.tar.Close(); err != nil {
		return nil, fmt.Errorf("end of tar: %w", err)
	}
	if err := buffered.Flush(); err != nil {
		return nil, fmt.Errorf("end of tar: %w", err)
	}
	return tw.written(), nil
}

type writer struct {
	tar     *tar.Writer
	copier  *copier
	listing *listing.Packed
	times   *Times          // may be nil
	last    *listing.Entry  // last written
	root    []listing.Entry // entries of the root that came in its bytewise position
}

func (w *writer) add(ch *Change) error {
	if err := w.checkOrder(&ch.Entry); err != nil {
		return err
	}
	if err := Check(&ch.Entry); err != nil {
		return err
	}
	if ch.Type == listing.TypeHardlink {
		target := w.listing.Find(ch.Link, func(e *listing.Entry) bool { return e.Type == listing.TypeFile })
		if target == nil {
			return fmt.Errorf("hard link to %q, which is not a file before it", ch.Link)
		}
		inheritLink(&ch.Entry, target)
	}
	canonical(&ch.Entry)
	if err := w.tar.WriteHeader(header(&ch.Entry)); err != nil {
		return err
	}
	var mtime *time.Time
	if ch.Type == listing.TypeFile {
		var err error
		if mtime, err = w.copier.change(w.tar, ch); err != nil {
			return err
		}
	}
	if w.times != nil {
		w.times.add(ch.exact(mtime))
	}
	if ch.Path == "." && w.listing.Len() > 0 && w.listing.Last().Path != "." {
		w.root = append(w.root, ch.Entry)
	} else {
		w.listing.Add(&ch.Entry)
	}
	w.last = &ch.Entry
	return nil
}

func (w *writer) checkOrder(e *listing.Entry) error {
	if w.last == nil {
		return nil
	}
	bytewise := e.Path == "." && w.last.Path < e.Path || w.last.Path == "." && e.Path > w.last.Path
	if bytewise || listing.Compare(*w.last, *e) < 0 {
		return nil
	}
	return fmt.Errorf("out of order: comes after %s", w.last.Path)
}

// written returns the listing of the tar, with the root first.
func (w *writer) written() *listing.Packed {
	if len(w.root) == 0 {
		return w.listing
	}
	all := &listing.Packed{}
	for i := range w.root {
		all.Add(&w.root[i])
	}
	for e := range w.listing.All() {
		all.Add(e)
	}
	return all
}

// Check returns an error if e is not valid in a layer, so that Apply or a reader of
// the listing would refuse it. It does not check the target of a hard link.
func Check(e *listing.Entry) error {
	if err := checkName(e); err != nil {
		return err
	}
	switch e.Type {
	case listing.TypeWhiteout:
		return checkMark(len(e.Path) + len(whiteoutPrefix))
	case listing.TypeOpaque:
		return checkMark(len(e.Path) + len("/"+opaqueName))
	case listing.TypeSymlink:
		if err := checkTarget(e.Link); err != nil {
			return err
		}
	}
	if !areIDs(e.UID, e.GID) {
		return fmt.Errorf("invalid owner %d:%d", e.UID, e.GID)
	}
	for name, value := range e.XAttrs {
		if name == "" || len(name) > maxXAttrName || len(value) > maxXAttrValue {
			return fmt.Errorf("extended attribute %.40q with a value of %d bytes: names must have 1 to %d bytes, values at most %d", name, len(value), maxXAttrName, maxXAttrValue)
		}
	}
	return nil
}

func checkName(e *listing.Entry) error {
	if !listing.ValidPath(e.Path) {
		return errors.New("not a clean relative path")
	}
	for name := range strings.SplitSeq(e.Path, "/") {
		if len(name) > listing.MaxName {
			return fmt.Errorf("name of %d bytes, longer than Linux's limit of %d: shorten it", len(name), listing.MaxName)
		}
		if strings.HasPrefix(name, whiteoutPrefix) {
			return errors.New("names that begin with .wh. are reserved for whiteouts")
		}
	}
	if e.Path == "." && e.Type != listing.TypeDir && e.Type != listing.TypeOpaque {
		return errors.New("the root must be a directory")
	}
	return nil
}

// checkMark checks the length of the path of a whiteout or opaque mark in the tar,
// which is longer than the path that it hides.
func checkMark(bytes int) error {
	if bytes > listing.MaxPath {
		return fmt.Errorf("the path of its whiteout would have %d bytes, more than Linux's limit of %d", bytes, listing.MaxPath)
	}
	return nil
}

func checkTarget(link string) error {
	switch {
	case link == "":
		return errors.New("symbolic link with an empty target: leave it out or give it a target")
	case len(link) > listing.MaxPath:
		return fmt.Errorf("symbolic link with a target of %d bytes, longer than Linux's limit of %d", len(link), listing.MaxPath)
	case strings.IndexByte(link, 0) >= 0:
		return errors.New("symbolic link with a zero byte in its target")
	}
	return nil
}

// canonical clears the fields that an entry of its type does not have, so that
// writing and reading a tar give the same listing.
func canonical(e *listing.Entry) {
	switch e.Type {
	case listing.TypeWhiteout, listing.TypeOpaque:
		*e = listing.Entry{Path: e.Path, Type: e.Type}
		return
	case listing.TypeSymlink:
		e.Mode = 0o777
	case listing.TypeHardlink:
		e.XAttrs = nil
	}
	e.Mode &= 0o7777
	if e.Type != listing.TypeFile {
		e.Size, e.Digest, e.Content = 0, "", nil
	}
	if e.Type != listing.TypeSymlink && e.Type != listing.TypeHardlink {
		e.Link = ""
	}
	if e.Type != listing.TypeChar && e.Type != listing.TypeBlock {
		e.Major, e.Minor = 0, 0
	}
	if e.XAttrs != nil {
		e.XAttrs = keptXAttrs(e.XAttrs)
	}
}

// inheritLink sets the attributes of a hard link to those of its target.
func inheritLink(e, target *listing.Entry) {
	e.Mode, e.UID, e.GID, e.MTime = target.Mode, target.UID, target.GID, target.MTime
}

func header(e *listing.Entry) *tar.Header {
	h := &tar.Header{
		Name: e.Path, Mode: int64(e.Mode), Uid: e.UID, Gid: e.GID,
		Size: e.Size, Linkname: e.Link, ModTime: time.Unix(e.MTime, 0),
		Devmajor: int64(e.Major), Devminor: int64(e.Minor),
	}
	switch e.Type {
	case listing.TypeFile:
		h.Typeflag = tar.TypeReg
	case listing.TypeDir:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case listing.TypeSymlink:
		h.Typeflag = tar.TypeSymlink
	case listing.TypeHardlink:
		h.Typeflag = tar.TypeLink
	case listing.TypeChar:
		h.Typeflag = tar.TypeChar
	case listing.TypeBlock:
		h.Typeflag = tar.TypeBlock
	case listing.TypeFifo:
		h.Typeflag = tar.TypeFifo
	case listing.TypeWhiteout:
		h.Typeflag = tar.TypeReg
		h.Name = listing.Join(listing.Dir(e.Path), whiteoutPrefix+listing.Base(e.Path))
	case listing.TypeOpaque:
		h.Typeflag = tar.TypeReg
		h.Name = listing.Join(e.Path, opaqueName)
	}
	if len(e.XAttrs) > 0 {
		h.PAXRecords = make(map[string]string, len(e.XAttrs))
		for name, value := range e.XAttrs {
			h.PAXRecords[paxXAttr+name] = value
		}
	}
	return h
}
