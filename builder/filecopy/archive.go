package filecopy

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/cairn-build/cairn/builder/limits"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// unpack copies the content of a local tar archive, in any compression, as ADD does.
// It returns false if the file is not an archive.
func (c *Copier) unpack(ctx context.Context, m Match) (bool, error) {
	f := m.files.head
	if f.Type != listing.TypeFile || f.Size == 0 {
		return false, nil
	}
	raw, err := f.Open()
	if err != nil {
		return false, err
	}
	defer raw.Close()
	plain, err := compress.NewReader(raw)
	if err != nil {
		return false, nil
	}
	defer plain.Close()
	r := tar.NewReader(plain)
	head, err := r.Next()
	if err != nil {
		return false, nil
	}
	root, err := c.dst.resolve(c.Op.Dest)
	if err != nil {
		return true, err
	}
	dir := c.newDir()
	dir.Mode = 0o755 // --chmod does not apply to archives
	if err := c.dst.mkdirs(root, dir); err != nil {
		return true, err
	}
	return true, c.unpackEntries(ctx, root, head, r)
}

// unpackEntries copies an archive's entries. Their bytes go to one temporary file, never
// to a path that the archive names.
func (c *Copier) unpackEntries(ctx context.Context, root string, head *tar.Header, r *tar.Reader) error {
	dir, err := c.TempDir("archive")
	if err != nil {
		return err
	}
	s, err := newSpool(path.Join(dir, "bytes"))
	if err != nil {
		return err
	}
	c.close = append(c.close, func() {
		s.f.Close()
		os.RemoveAll(dir)
	})
	left := c.Archives.Meter()
	for ; err == nil; head, err = r.Next() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := left.Take(head.Size); err != nil {
			return limits.Explain(fmt.Errorf("%.300s: %w", head.Name, err))
		}
		if err := c.unpackEntry(root, head, r, s); err != nil {
			return fmt.Errorf("%.300s: %w", head.Name, err)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (c *Copier) unpackEntry(root string, h *tar.Header, r io.Reader, s *spool) error {
	e, err := entryOf(h)
	if err != nil || e.Type == 0 {
		return err
	}
	p, err := c.pathBelow(root, h.Name)
	if err != nil {
		return err
	}
	c.attrs.setOwner(&e)
	e.Path = p
	if err := tarball.Check(&e); err != nil {
		return err
	}
	old, exists := c.dst.lookup(p)
	if e.Type == listing.TypeDir && exists && old.Type == listing.TypeDir && p == root {
		return nil // the destination keeps its attributes
	}
	// --chmod and --chown do not apply to parents that the archive does not list.
	if err := c.dst.mkdirs(path.Dir(p), listing.Entry{Mode: 0o755, MTime: c.Now.Unix()}); err != nil {
		return err
	}
	change := tarball.Change{Entry: e, Time: at(h.ModTime)}
	switch e.Type {
	case listing.TypeHardlink:
		return c.unpackLink(root, change, h.Linkname)
	case listing.TypeFile:
		if change.Open, change.Digest, err = s.add(r, h.Size); err != nil {
			return err
		}
	}
	c.dst.set(change)
	return nil
}

// pathBelow returns the path of an archive's name below the destination, which symlinks
// and ".." do not leave.
func (c *Copier) pathBelow(root, name string) (string, error) {
	rel := clean(name)
	if strings.HasPrefix(path.Base(rel), ".wh.") {
		return "", errors.New("names that begin with .wh. can't be in a layer")
	}
	return c.dst.resolveBelow(root, rel)
}

// unpackLink adds a name to a file of the archive, or to one that existed before. All
// names get the owner, mode and time of the last, except that a symlink keeps its mode
// and time. In the layer only regular files are hard links: the names of another file,
// such as a symlink, are files of their own.
func (c *Copier) unpackLink(root string, change tarball.Change, target string) error {
	to, err := c.pathBelow(root, target)
	if err != nil {
		return err
	}
	t, ok := c.dst.change(to)
	if !ok {
		if t, ok = c.copyUp(to); !ok {
			return fmt.Errorf("hard link to %s: the archive and the destination have no such file", target)
		}
		c.dst.set(t)
	}
	if t.Type == listing.TypeDir {
		return fmt.Errorf("hard link to %s: it is a directory", target)
	}
	if t.Type == listing.TypeSymlink {
		change.Mode, change.MTime = t.Mode, t.MTime
	}
	group, ok := c.dst.group[to]
	if !ok {
		group = &t // a new group, even if the path is replaced later
		c.dst.group[to] = group
	}
	change.MTime = c.dst.clamp(change.MTime)
	for p, g := range c.dst.group {
		if i, ok := c.dst.index[p]; ok && g == group {
			other := &c.dst.list[i]
			other.UID, other.GID, other.Mode, other.MTime, other.Time = change.UID, change.GID, change.Mode, change.MTime, change.Time
		}
	}
	t, _ = c.dst.change(to)
	t.Path = change.Path
	c.dst.setLink(t, group)
	return nil
}

// copyUp returns a file of the tree below as a change.
func (c *Copier) copyUp(p string) (tarball.Change, bool) {
	n, ok := c.Below.View.Lookup(p)
	if _, exists := c.dst.lookup(p); !ok || !exists {
		return tarball.Change{}, false
	}
	f := c.Below.file(n)
	f.Content = nil
	return tarball.Change{Entry: f.Entry, Open: f.Open}, true
}

// entryOf converts a tar header. Its type is 0 if the header stands for no file.
func entryOf(h *tar.Header) (listing.Entry, error) {
	e := listing.Entry{Mode: uint32(h.Mode) & 0o7777, UID: h.Uid, GID: h.Gid, MTime: h.ModTime.Unix(), XAttrs: xattrsOf(h)}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		e.Type, e.Size = listing.TypeFile, h.Size
	case tar.TypeDir:
		e.Type = listing.TypeDir
	case tar.TypeSymlink:
		e.Type, e.Link = listing.TypeSymlink, h.Linkname
	case tar.TypeLink:
		e.Type = listing.TypeHardlink
	case tar.TypeChar, tar.TypeBlock:
		e.Type = listing.TypeChar
		if h.Typeflag == tar.TypeBlock {
			e.Type = listing.TypeBlock
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	case tar.TypeFifo:
		e.Type = listing.TypeFifo
	case tar.TypeXGlobalHeader:
	default:
		return e, fmt.Errorf("unsupported type %q in the archive", h.Typeflag)
	}
	return e, nil
}

// xattrsOf returns the extended attributes that a layer can hold.
func xattrsOf(h *tar.Header) map[string]string {
	var out map[string]string
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, "SCHILY.xattr.")
		if !ok || !source.KeepXAttr(name) {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = v
	}
	return out
}

// spool is a file with the bytes of an archive's files, one after the other.
type spool struct {
	f   *os.File
	end int64
}

func newSpool(path string) (*spool, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	return &spool{f: f}, err
}

// add appends the size bytes of r, and returns a function that opens them and their
// digest.
func (s *spool) add(r io.Reader, size int64) (func() (io.ReadCloser, error), layer.Digest, error) {
	at, h := s.end, sha256.New()
	n, err := io.Copy(io.MultiWriter(s.f, h), r)
	s.end += n
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(s.f, at, size)), nil }
	return open, layer.FromHash(h), err
}
