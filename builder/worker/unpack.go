package worker

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

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/tarball"
)

// unpack copies what a local tar archive holds, in whatever compression, as ADD
// does. It tells false when the file is no archive.
func (c *copier) unpack(ctx context.Context, m match) (bool, error) {
	f := m.files.head
	if f.Type != index.TypeFile || f.Size == 0 {
		return false, nil
	}
	raw, err := f.open()
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
	root, err := c.dst.resolve(c.op.Dest, true)
	if err != nil {
		return true, err
	}
	if err := c.dst.mkdirs(root, index.Entry{Mode: 0o755, MTime: c.w.Now.Unix(), UID: c.newDir().UID, GID: c.newDir().GID}); err != nil {
		return true, err
	}
	return true, c.entries(ctx, root, head, r)
}

// entries takes an archive's entries over, their bytes into a file of the
// store's: nothing is unpacked under a name that the archive chose.
func (c *copier) entries(ctx context.Context, root string, head *tar.Header, r *tar.Reader) error {
	dir, err := c.w.Store.TempDir("archive")
	if err != nil {
		return err
	}
	s, err := newSpool(path.Join(dir, "bytes"))
	if err != nil {
		return err
	}
	c.made.close = append(c.made.close, func() {
		s.f.Close()
		os.RemoveAll(dir)
	})
	left := c.w.Limits.Archive().Meter()
	for ; err == nil; head, err = r.Next() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := left.Take(head.Size); err != nil {
			return AllowMore(fmt.Errorf("%.300s: %w", head.Name, err))
		}
		if err := c.tarEntry(root, head, r, s); err != nil {
			return fmt.Errorf("%.300s: %w", head.Name, err)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (c *copier) tarEntry(root string, h *tar.Header, r io.Reader, s *spool) error {
	e, err := entryOf(h)
	if err != nil || e.Type == 0 {
		return err
	}
	at, err := c.inside(root, h.Name)
	if err != nil {
		return err
	}
	c.look.own(&e)
	e.Path = at
	if err := tarball.Check(&e); err != nil {
		return err
	}
	old, exists := c.dst.lookup(at)
	if e.Type == index.TypeDir && exists && old.Type == index.TypeDir && at == root {
		return nil // the destination stays as it is
	}
	// Whatever --chown and --chmod say, directories that the archive only implies
	// are root's.
	if err := c.dst.mkdirs(path.Dir(at), index.Entry{Mode: 0o755, MTime: c.w.Now.Unix()}); err != nil {
		return err
	}
	change := tarball.Change{Entry: e}
	switch e.Type {
	case index.TypeHardlink:
		return c.hardlink(root, change, h.Linkname)
	case index.TypeFile:
		if change.Open, change.Digest, err = s.keep(r, h.Size); err != nil {
			return err
		}
	}
	c.dst.put(change)
	return nil
}

// inside gives the path of an archive's name below the destination. The
// destination is all that there is for an archive: symbolic links and ".." lead
// to it and no further.
func (c *copier) inside(root, name string) (string, error) {
	rel := clean(name)
	if strings.HasPrefix(path.Base(rel), ".wh.") {
		return "", errors.New("names that begin with .wh. can't be in a layer")
	}
	return c.dst.below(root, rel)
}

// hardlink makes one more name of a file of the archive, or of one that was
// there. All names get the owner, mode and time of the last.
func (c *copier) hardlink(root string, change tarball.Change, target string) error {
	to, err := c.inside(root, target)
	if err != nil {
		return err
	}
	t, ok := c.dst.get(to)
	if !ok {
		if t, ok = c.fromBelow(to); !ok {
			return fmt.Errorf("a hard link to %s, which is not there", target)
		}
		c.dst.put(t)
	}
	if t.Type != index.TypeFile {
		return fmt.Errorf("a hard link to %s, which is no file", target)
	}
	group, ok := c.dst.group[to]
	if !ok {
		group = &t // the group of this file alone, whatever takes its path later
		c.dst.group[to] = group
	}
	change.MTime = c.dst.clamp(change.MTime)
	for p, g := range c.dst.group {
		if i, ok := c.dst.at[p]; ok && g == group {
			other := &c.dst.all[i]
			other.UID, other.GID, other.Mode, other.MTime = change.UID, change.GID, change.Mode, change.MTime
		}
	}
	t, _ = c.dst.get(to)
	t.Path = change.Path
	c.dst.link(t, group)
	return nil
}

// fromBelow takes a file of the tree below into the layer.
func (c *copier) fromBelow(p string) (tarball.Change, bool) {
	n, ok := c.below.view.Lookup(p)
	if _, there := c.dst.lookup(p); !ok || !there {
		return tarball.Change{}, false
	}
	f := c.below.file(n)
	f.Content = nil
	return tarball.Change{Entry: f.Entry, Open: f.open}, true
}

// entryOf reads a tar header; type 0 is for what no layer holds.
func entryOf(h *tar.Header) (index.Entry, error) {
	e := index.Entry{Mode: uint32(h.Mode) & 0o7777, UID: h.Uid, GID: h.Gid, MTime: h.ModTime.Unix(), XAttrs: xattrsOf(h)}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		e.Type, e.Size = index.TypeFile, h.Size
	case tar.TypeDir:
		e.Type = index.TypeDir
	case tar.TypeSymlink:
		e.Type, e.Link = index.TypeSymlink, h.Linkname
	case tar.TypeLink:
		e.Type = index.TypeHardlink
	case tar.TypeChar, tar.TypeBlock:
		e.Type = index.TypeChar
		if h.Typeflag == tar.TypeBlock {
			e.Type = index.TypeBlock
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	case tar.TypeFifo:
		e.Type = index.TypeFifo
	case tar.TypeXGlobalHeader:
	default:
		return e, fmt.Errorf("unsupported type %q in the archive", h.Typeflag)
	}
	return e, nil
}

func xattrsOf(h *tar.Header) map[string]string {
	var out map[string]string
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, "SCHILY.xattr.")
		if !ok || !strings.HasPrefix(name, "user.") && name != "security.capability" || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = v
	}
	return out
}

// spool keeps the bytes of an archive's files, one after the other.
type spool struct {
	f   *os.File
	end int64
}

func newSpool(path string) (*spool, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	return &spool{f: f}, err
}

func (s *spool) keep(r io.Reader, size int64) (func() (io.ReadCloser, error), layer.Digest, error) {
	at, h := s.end, sha256.New()
	n, err := io.Copy(io.MultiWriter(s.f, h), r)
	s.end += n
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(s.f, at, size)), nil }
	return open, layer.FromHash(h), err
}
