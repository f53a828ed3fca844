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

	"github.com/cairn-build/cairn/layer/index"
)

// The most that Linux takes of an extended attribute.
const (
	maxXAttrName  = 255
	maxXAttrValue = 64 << 10
)

// Write writes changes as a tar and returns the index of what it wrote, with
// the digests of files. Changes must come in the order of index.Compare; the
// root may also stand at its bytewise place. PAX headers are written only
// where a field needs them; there are no names of users and no times but
// mtime, in whole seconds. A hard link's target must come before it.
func Write(w io.Writer, changes iter.Seq2[Change, error]) (*index.List, error) {
	buffered := bufio.NewWriterSize(w, 128<<10)
	tw := &writer{tar: tar.NewWriter(buffered), copier: newCopier(), index: &index.List{}}
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
	tar    *tar.Writer
	copier *copier
	index  *index.List
	last   *index.Entry  // that was written
	root   []index.Entry // what came for it at its bytewise place
}

func (w *writer) add(ch *Change) error {
	if err := w.checkOrder(&ch.Entry); err != nil {
		return err
	}
	if err := Check(&ch.Entry); err != nil {
		return err
	}
	if ch.Type == index.TypeHardlink {
		target := w.index.Find(ch.Link, func(e *index.Entry) bool { return e.Type == index.TypeFile })
		if target == nil {
			return fmt.Errorf("hard link to %q, which is not a file before it", ch.Link)
		}
		inheritLink(&ch.Entry, target)
	}
	canonical(&ch.Entry)
	if err := w.tar.WriteHeader(header(&ch.Entry)); err != nil {
		return err
	}
	if ch.Type == index.TypeFile {
		if err := w.copier.change(w.tar, ch); err != nil {
			return err
		}
	}
	if ch.Path == "." && w.index.Len() > 0 && w.index.Last().Path != "." {
		w.root = append(w.root, ch.Entry)
	} else {
		w.index.Add(&ch.Entry)
	}
	w.last = &ch.Entry
	return nil
}

func (w *writer) checkOrder(e *index.Entry) error {
	if w.last == nil {
		return nil
	}
	bytewise := e.Path == "." && w.last.Path < e.Path || w.last.Path == "." && e.Path > w.last.Path
	if bytewise || index.Compare(*w.last, *e) < 0 {
		return nil
	}
	return fmt.Errorf("out of order: comes after %s", w.last.Path)
}

// written is the index of what was written, the root first.
func (w *writer) written() *index.List {
	if len(w.root) == 0 {
		return w.index
	}
	all := &index.List{}
	for i := range w.root {
		all.Add(&w.root[i])
	}
	for e := range w.index.All() {
		all.Add(e)
	}
	return all
}

// Check tells why no layer can have an entry: Apply, or who reads the index, would
// refuse it. Where a hard link leads is for Write to say.
func Check(e *index.Entry) error {
	if err := checkName(e); err != nil {
		return err
	}
	switch e.Type {
	case index.TypeWhiteout:
		return checkMark(len(e.Path) + len(whiteoutPrefix))
	case index.TypeOpaque:
		return checkMark(len(e.Path) + len("/"+opaqueName))
	case index.TypeSymlink:
		if err := checkTarget(e.Link); err != nil {
			return err
		}
	}
	if !areIDs(e.UID, e.GID) {
		return fmt.Errorf("no file can have the owner %d:%d", e.UID, e.GID)
	}
	for name, value := range e.XAttrs {
		if name == "" || len(name) > maxXAttrName || len(value) > maxXAttrValue {
			return fmt.Errorf("an extended attribute %.40q of %d bytes: names have 1 to %d bytes, values up to %d", name, len(value), maxXAttrName, maxXAttrValue)
		}
	}
	return nil
}

func checkName(e *index.Entry) error {
	if !index.ValidPath(e.Path) {
		return errors.New("not a clean relative path")
	}
	for name := range strings.SplitSeq(e.Path, "/") {
		if len(name) > index.MaxName {
			return fmt.Errorf("a name of %d bytes, and Linux takes no more than %d: shorten it", len(name), index.MaxName)
		}
		if strings.HasPrefix(name, whiteoutPrefix) {
			return errors.New("a name that begins with .wh. means something else in a layer")
		}
	}
	if e.Path == "." && e.Type != index.TypeDir && e.Type != index.TypeOpaque {
		return errors.New("the root must be a directory")
	}
	return nil
}

// checkMark is of what hides a path, whose name in the tar is longer than that.
func checkMark(bytes int) error {
	if bytes > index.MaxPath {
		return fmt.Errorf("its mark in a layer would have a path of %d bytes, and Linux takes no more than %d", bytes, index.MaxPath)
	}
	return nil
}

func checkTarget(link string) error {
	switch {
	case link == "":
		return errors.New("a symbolic link to nothing, which Linux does not have: leave it out, or give it a target")
	case len(link) > index.MaxPath:
		return fmt.Errorf("a symbolic link to %d bytes, and Linux takes no more than %d", len(link), index.MaxPath)
	case strings.IndexByte(link, 0) >= 0:
		return errors.New("a symbolic link to what has a zero byte in it")
	}
	return nil
}

// canonical drops what an entry of its type does not have, so that the index
// of a tar is the same whether it was written or read.
func canonical(e *index.Entry) {
	switch e.Type {
	case index.TypeWhiteout, index.TypeOpaque:
		*e = index.Entry{Path: e.Path, Type: e.Type}
		return
	case index.TypeSymlink:
		e.Mode = 0o777
	case index.TypeHardlink:
		e.XAttrs = nil
	}
	e.Mode &= 0o7777
	if e.Type != index.TypeFile {
		e.Size, e.Digest, e.Content = 0, "", nil
	}
	if e.Type != index.TypeSymlink && e.Type != index.TypeHardlink {
		e.Link = ""
	}
	if e.Type != index.TypeChar && e.Type != index.TypeBlock {
		e.Major, e.Minor = 0, 0
	}
	if e.XAttrs != nil {
		e.XAttrs = keptXAttrs(e.XAttrs)
	}
}

// inheritLink gives a hard link the attributes of the file that it is.
func inheritLink(e, target *index.Entry) {
	e.Mode, e.UID, e.GID, e.MTime = target.Mode, target.UID, target.GID, target.MTime
}

func header(e *index.Entry) *tar.Header {
	h := &tar.Header{
		Name: e.Path, Mode: int64(e.Mode), Uid: e.UID, Gid: e.GID,
		Size: e.Size, Linkname: e.Link, ModTime: time.Unix(e.MTime, 0),
		Devmajor: int64(e.Major), Devminor: int64(e.Minor),
	}
	switch e.Type {
	case index.TypeFile:
		h.Typeflag = tar.TypeReg
	case index.TypeDir:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case index.TypeSymlink:
		h.Typeflag = tar.TypeSymlink
	case index.TypeHardlink:
		h.Typeflag = tar.TypeLink
	case index.TypeChar:
		h.Typeflag = tar.TypeChar
	case index.TypeBlock:
		h.Typeflag = tar.TypeBlock
	case index.TypeFifo:
		h.Typeflag = tar.TypeFifo
	case index.TypeWhiteout:
		h.Typeflag = tar.TypeReg
		h.Name = join(dirOf(e.Path), whiteoutPrefix+base(e.Path))
	case index.TypeOpaque:
		h.Typeflag = tar.TypeReg
		h.Name = join(e.Path, opaqueName)
	}
	if len(e.XAttrs) > 0 {
		h.PAXRecords = make(map[string]string, len(e.XAttrs))
		for name, value := range e.XAttrs {
			h.PAXRecords[paxXAttr+name] = value
		}
	}
	return h
}
