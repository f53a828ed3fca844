package imagediff

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
)

// item is the entry of a tar for a path.
type item struct {
	Path   string            `json:"p"`           // without a slash at either end
	Number int               `json:"n"`           // number of the entry, from 1
	Again  int               `json:"o,omitempty"` // number of earlier entries with the same path
	Says   map[string]string `json:"s"`           // values by attribute
}

// maxMeta is the maximum size of the attributes of an entry, such as an xattr or the
// target of a link.
const maxMeta = 1 << 20

// attributes are reported in this order; others follow sorted by name.
var attributes = [...]string{"type", "mode", "uid", "gid", "user", "group", "mtime", "size", "content", "link", "device"}

// scan adds the entries of a layer's tar to a listing.
func scan(ctx context.Context, b blob, to *listing) error {
	raw, err := b.open(ctx, b.Descriptor)
	if err != nil {
		return err
	}
	defer raw.Close()
	plain, err := compress.NewReader(raw)
	if err != nil {
		return fmt.Errorf("layer %s: %w", b.Digest, err)
	}
	defer plain.Close()
	src := bufio.NewReaderSize(plain, 256<<10)
	t := tar.NewReader(src)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		var it item
		if err == nil {
			it, err = describe(h, t)
		}
		if err != nil {
			return fmt.Errorf("layer %s: entry %d: %w", b.Digest, to.n+1, err)
		}
		if err := to.add(it); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, src); err != nil { // the digest covers it
		return fmt.Errorf("layer %s: %w", b.Digest, err)
	}
	return nil
}

func describe(h *tar.Header, content io.Reader) (item, error) {
	says := map[string]string{
		"type": typeOf(h.Typeflag), "mode": "0" + strconv.FormatInt(h.Mode, 8),
		"uid": strconv.Itoa(h.Uid), "gid": strconv.Itoa(h.Gid), "user": h.Uname, "group": h.Gname,
		"mtime": when(h.ModTime), "link": h.Linkname, "atime": when(h.AccessTime), "ctime": when(h.ChangeTime),
		"header": h.Format.String(), "name": strings.TrimSuffix(h.Name, "/"),
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		says["device"] = fmt.Sprintf("%d:%d", h.Devmajor, h.Devminor)
	}
	for name, value := range h.PAXRecords {
		if key, ok := strings.CutPrefix(name, "SCHILY.xattr."); ok {
			says["xattr "+key] = strconv.Quote(value)
		} else if !slices.Contains(standard[:], name) {
			says["record "+name] = strconv.Quote(value)
		}
	}
	length := 0
	for k, v := range says {
		if length += len(k) + len(v); v == "" {
			delete(says, k)
		}
	}
	if length > maxMeta {
		return item{}, errors.New("attributes are too long")
	}
	if h.Typeflag == tar.TypeReg || h.Size > 0 {
		sum := sha256.New()
		n, err := io.Copy(sum, content)
		if err != nil {
			return item{}, err
		}
		says["size"], says["content"] = strconv.FormatInt(n, 10), string(layer.FromHash(sum))
	}
	return item{Path: strings.TrimPrefix(path.Clean("/"+h.Name), "/"), Says: says}, nil
}

// standard has the PAX records for fields of the header.
var standard = [...]string{"path", "linkpath", "size", "uid", "gid", "uname", "gname", "mtime", "atime", "ctime"}

func typeOf(flag byte) string {
	names := map[byte]string{
		tar.TypeReg: "file", tar.TypeLink: "hard link", tar.TypeSymlink: "symlink", tar.TypeDir: "directory",
		tar.TypeChar: "character device", tar.TypeBlock: "block device", tar.TypeFifo: "fifo", tar.TypeXGlobalHeader: "global header",
	}
	if name, ok := names[flag]; ok {
		return name
	}
	return fmt.Sprintf("type %q", flag)
}

// when returns a time with its fraction of a second.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// content compares the entries of two layers by path.
func (c *Comparison) content(ctx context.Context, at part, a, b blob) error {
	as, bs := newListing(c.Temp), newListing(c.Temp)
	defer as.close()
	defer bs.close()
	if err := scan(ctx, a, as); err != nil {
		return err
	}
	if err := scan(ctx, b, bs); err != nil {
		return err
	}
	told := c.counting()
	at.c = told.Comparison
	m, err := merge(as, bs)
	if err != nil {
		return err
	}
	var order order
	for {
		x, y, err := m.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := at.entries(x, y); err != nil {
			return err
		}
		if x != nil && y != nil {
			order.add(x.Number, y.Number)
		}
	}
	if err := order.report(at, as); err != nil {
		return err
	}
	if a.DiffID != b.DiffID && told.n == 0 {
		return at.emit("bytes", "the same entries", "padded or written otherwise")
	}
	return nil
}

// entries compares two entries for a path; nil stands for a missing one.
func (p part) entries(a, b *item) error {
	if a == nil {
		p.Path = "/" + b.Path
		return p.emit("entry", "", b.summary())
	}
	p.Path = "/" + a.Path
	if b == nil {
		return p.emit("entry", a.summary(), "")
	}
	names := slices.Clone(attributes[:])
	var others []string
	for _, says := range []map[string]string{a.Says, b.Says} {
		for name := range says {
			if !slices.Contains(names, name) && !slices.Contains(others, name) {
				others = append(others, name)
			}
		}
	}
	slices.Sort(others)
	for _, name := range append(names, others...) {
		if err := p.text(name, a.Says[name], b.Says[name]); err != nil {
			return err
		}
	}
	return nil
}

func (i *item) summary() string {
	s := i.Says["type"]
	switch {
	case i.Says["size"] != "":
		s += ", " + i.Says["size"] + " bytes"
	case i.Says["link"] != "":
		s += " to " + i.Says["link"]
	}
	return s
}
