package tarball

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/cairn-build/cairn/layer/index"
)

// Write writes changes as a tar and returns the index of what it wrote, with
// the digests of files. Changes must come in the order of index.Compare; the
// root may also stand at its bytewise place. PAX headers are written only
// where a field needs them; there are no names of users and no times but
// mtime, in whole seconds. A hard link's target must come before it. The index is
// made for n entries, should that be known.
func Write(w io.Writer, n int, changes iter.Seq2[Change, error]) (*index.Index, error) {
	buffered := bufio.NewWriterSize(w, 128<<10)
	tw := &writer{tar: tar.NewWriter(buffered), copier: newCopier(), index: &index.Index{Entries: make([]index.Entry, 0, n)}}
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
	slices.SortFunc(tw.index.Entries, index.Compare)
	return tw.index, nil
}

type writer struct {
	tar    *tar.Writer
	copier *copier
	index  *index.Index
}

func (w *writer) add(ch *Change) error {
	if err := w.checkOrder(&ch.Entry); err != nil {
		return err
	}
	if err := checkName(&ch.Entry); err != nil {
		return err
	}
	if ch.Type == index.TypeHardlink {
		target, ok := w.file(ch.Link)
		if !ok {
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
	w.index.Entries = append(w.index.Entries, ch.Entry)
	return nil
}

func (w *writer) checkOrder(e *index.Entry) error {
	if len(w.index.Entries) == 0 {
		return nil
	}
	last := &w.index.Entries[len(w.index.Entries)-1]
	bytewise := e.Path == "." && last.Path < e.Path || last.Path == "." && e.Path > last.Path
	if bytewise || index.Compare(*last, *e) < 0 {
		return nil
	}
	return fmt.Errorf("out of order: comes after %s", last.Path)
}

// file finds a regular file that has been written. But for a root at the head
// the entries are in bytewise order.
func (w *writer) file(path string) (*index.Entry, bool) {
	all := w.index.Entries
	if len(all) > 0 && all[0].Path == "." {
		all = all[1:]
	}
	i := sort.Search(len(all), func(i int) bool { return all[i].Path >= path })
	for ; i < len(all) && all[i].Path == path; i++ {
		if all[i].Type == index.TypeFile {
			return &all[i], true
		}
	}
	return nil, false
}

func checkName(e *index.Entry) error {
	if !index.ValidPath(e.Path) {
		return errors.New("not a clean relative path")
	}
	for name := range strings.SplitSeq(e.Path, "/") {
		if strings.HasPrefix(name, whiteoutPrefix) {
			return errors.New("a name that begins with .wh. means something else in a layer")
		}
	}
	if e.Path == "." && e.Type != index.TypeDir && e.Type != index.TypeOpaque {
		return errors.New("the root must be a directory")
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
