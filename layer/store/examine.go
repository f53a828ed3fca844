package store

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/index"
)

var errTorn = errors.New("it is torn: its checksum is another")

func (c *checker) blob(path, name string) error {
	f, err := openRegular(unix.AT_FDCWD, path)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := c.sum(f, "blobs")
	if err != nil {
		return err
	}
	if got.Hex() != name {
		return fmt.Errorf("its bytes have the digest %s", got)
	}
	return nil
}

// openRegular opens a file, without following links; anything else than a file is
// an error.
func openRegular(dir int, path string) (*os.File, error) {
	how := &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK}
	if dir != unix.AT_FDCWD {
		how.Resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS
	}
	fd, err := unix.Openat2(dir, path, how)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.New("it is no file")
	}
	return f, nil
}

// sum reads a file to its end, or until the check is ended.
func (c *checker) sum(f *os.File, what string) (layer.Digest, error) {
	h := sha256.New()
	for {
		n, err := io.CopyN(h, f, 16*copyBuffer)
		c.advance(what, n)
		switch {
		case err == io.EOF:
			return layer.FromHash(h), nil
		case err != nil:
			return "", fmt.Errorf("it can not be read: %w", err)
		case c.ctx.Err() != nil:
			return "", c.ctx.Err()
		}
	}
}

// sealed reads what a sealed file holds, without marking it as used.
func sealed(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	body, ok := unseal(path, b)
	if !ok {
		return nil, errTorn
	}
	return body, nil
}

func (c *checker) hint(path, _ string) error {
	_, err := sealed(path)
	return err
}

func (c *checker) record(path, _ string) error {
	b, err := sealed(path)
	if err != nil || c.o.Record == nil {
		return err
	}
	return c.o.Record(b)
}

func (c *checker) tag(path, name string) error {
	return c.document(path, func(d document) bool { return keyName(d.Ref) == name })
}

func (c *checker) pin(path, name string) error {
	return c.document(path, func(d document) bool { return keyName(d.Ref+"\x00"+d.Platform) == name })
}

// document checks a tag or a pin, and that the image can be read. Layers may
// lie in a registry.
func (c *checker) document(path string, named func(document) bool) error {
	b, err := sealed(path)
	if err != nil {
		return err
	}
	var d document
	if err := json.Unmarshal(b, &d); err != nil {
		return err
	}
	if !named(d) {
		return fmt.Errorf("it is that of %q", d.Ref)
	}
	manifest, err := c.bytes("manifest", d.Digest)
	if err != nil {
		return err
	}
	config, err := c.bytes("config", d.ConfigDigest)
	if err != nil {
		return err
	}
	_, err = layer.ParseImage(d.MediaType, manifest, config)
	return err
}

// bytes reads a blob that must be there. That it is missing does not mean that
// what names it is gone.
func (c *checker) bytes(what string, d layer.Digest) ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(c.s.blobPath(d))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("its %s %s is not there", what, d)
	case err != nil:
		return nil, fmt.Errorf("its %s %s can not be read: %w", what, d, err)
	case layer.FromBytes(b) != d:
		return nil, fmt.Errorf("its %s %s is damaged", what, d)
	}
	return b, nil
}

// note checks which blobs are said to hold a layer. They need not be there.
func (c *checker) note(path, name string) error {
	b, err := sealed(path)
	if err != nil {
		return err
	}
	var all []layer.Blob
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	for _, b := range all {
		if b.DiffID.Validate() != nil || b.DiffID.Hex() != name {
			return fmt.Errorf("it is that of %q", b.DiffID)
		}
		if err := b.Digest.Validate(); err != nil {
			return err
		}
		if size, ok := c.s.Peek(b.Digest); ok && size != b.Size && !c.bad[b.Digest.Hex()] {
			return fmt.Errorf("it says that %s has %d bytes, but it has %d", b.Digest, b.Size, size)
		}
	}
	return nil
}

func (c *checker) index(path, _ string) error {
	_, err := readIndex(path)
	return err
}

func readIndex(path string) (*index.Index, error) {
	b, err := sealed(path)
	if err != nil {
		return nil, err
	}
	return index.Decode(b)
}

// checkTrees checks where the keys of this boot's trees lead and, of layers' trees,
// the bytes of each file. Others are a stack's, or links to the files of several:
// they are wrong if a layer's is.
func (c *checker) checkTrees() error {
	diffIDs := c.trees
	if c.o.LayerKey != nil {
		for _, folder := range []string{indexesDir, layersDir} {
			names, err := readNames(c.s.path(folder))
			if err != nil {
				return err
			}
			for _, name := range names {
				d := layer.Digest("sha256:" + name)
				diffIDs[keyName(c.o.LayerKey(d))] = d
			}
		}
	}
	look := func(path, name string) error { return c.tree(path, diffIDs[name]) }
	k := kind{"tree", c.s.boot + "/" + keysDir, &c.report.Trees, look}
	err := c.files(k, 1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no tree was made since the machine is up
	}
	if err != nil || c.o.LayerKey == nil {
		return err
	}
	if len(c.report.Wrong) == 0 {
		return c.dropUnknown(k.folder, diffIDs)
	}
	var again int // the same ones
	return c.files(kind{"tree", k.folder, &again, func(path, name string) error {
		known := func(d Damage) bool { return d.What == "tree "+name }
		if diffIDs[name] != "" || slices.ContainsFunc(c.report.Wrong, known) {
			return nil
		}
		return errors.New("it cannot be compared with anything, and another tree is wrong")
	}}, 1)
}

// dropUnknown lets a repair take away the trees that cannot be compared with anything,
// in silence: they are made again from what can.
func (c *checker) dropUnknown(folder string, diffIDs map[string]layer.Digest) error {
	if !c.o.Repair {
		return nil
	}
	gc, err := os.OpenFile(c.s.path(gcFile), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer gc.Close()
	if err := flock(gc, unix.LOCK_EX); err != nil {
		return err
	}
	names, err := readNames(folder)
	for _, name := range names {
		if err == nil && diffIDs[name] == "" {
			err = os.Remove(folder + "/" + name)
		}
	}
	return err
}

func (c *checker) tree(key string, diffID layer.Digest) error {
	target, err := os.Readlink(key)
	if err != nil {
		return err
	}
	container := c.s.boot + "/" + filepath.Base(target)
	info, err := os.Lstat(container + "/" + treeSub)
	switch {
	case err != nil || !info.IsDir():
		return errors.New("its folder is not there")
	case unfiled(container):
		return errors.New("it is not finished")
	case diffID == "":
		return nil
	}
	x, err := readIndex(c.s.path(indexesDir, diffID.Hex()))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("nothing says what it must hold: the index of layer %s is not there", diffID)
	}
	if err != nil {
		return fmt.Errorf("nothing says what it must hold: the index of layer %s is damaged", diffID)
	}
	root, err := os.Open(container + "/" + treeSub)
	if err != nil {
		return err
	}
	defer root.Close()
	for i := range x.Entries {
		if err := c.entry(root, &x.Entries[i]); err != nil {
			return fmt.Errorf("it is not that of layer %s: %s: %w", diffID, x.Entries[i].Path, err)
		}
	}
	return nil
}

// entry checks the bytes of a file in a tree.
func (c *checker) entry(root *os.File, e *index.Entry) error {
	if e.Type != index.TypeFile || e.Digest == "" {
		return nil
	}
	f, err := openRegular(int(root.Fd()), e.Path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil // a file that its owner may not read
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("it is missing")
	case err != nil:
		return err
	}
	defer f.Close()
	got, err := c.sum(f, "trees")
	if err == nil && got != e.Digest {
		err = fmt.Errorf("its bytes have the digest %s, not %s", got, e.Digest)
	}
	return err
}
