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
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

var errTorn = errors.New("wrong checksum: the file is torn or damaged")

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

// openRegular opens a regular file without following symlinks.
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
		return nil, errors.New("not a regular file")
	}
	return f, nil
}

// sum returns the digest of a file. It stops if the check is cancelled.
func (c *checker) sum(f *os.File, what string) (layer.Digest, error) {
	h := sha256.New()
	for {
		n, err := io.CopyN(h, f, 16*copyBuffer)
		c.advance(what, n)
		switch {
		case err == io.EOF:
			return layer.FromHash(h), nil
		case err != nil:
			return "", fmt.Errorf("cannot be read: %w", err)
		case c.ctx.Err() != nil:
			return "", c.ctx.Err()
		}
	}
}

// sealed reads the contents of a sealed file without marking it as used.
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

// lostError reports that a layer of a tagged image is neither in the store nor in a
// known registry. A repair keeps such a tag, whose name and config have not been lost.
type lostError struct{ layer layer.Digest }

func (e *lostError) Error() string {
	return fmt.Sprintf("its layer %s is missing: build or pull the image again", e.layer)
}

// document verifies a tag or a pin and that its images can be read. The layers of a tag
// must be in the store, or have an origin in a registry.
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
		return fmt.Errorf("belongs to %q", d.Ref)
	}
	if d.Index != nil {
		if _, err := c.bytes("image index", d.Index.Digest); err != nil {
			return err
		}
	}
	for _, part := range d.parts() {
		img, err := c.image(part)
		if err != nil {
			return err
		}
		for _, b := range img.Layers {
			if _, ok := c.s.StatBlob(b.Digest); !ok && d.Platform == "" && c.s.Origin(b.Digest) == "" {
				return &lostError{b.Digest}
			}
		}
	}
	return nil
}

// image reads the manifest and the config of an image.
func (c *checker) image(d document) (layer.Image, error) {
	manifest, err := c.bytes("manifest", d.Digest)
	if err != nil {
		return layer.Image{}, err
	}
	config, err := c.bytes("config", d.ConfigDigest)
	if err != nil {
		return layer.Image{}, err
	}
	return layer.ParseImage(d.MediaType, manifest, config)
}

// bytes reads a blob that must exist. Its error is not fs.ErrNotExist, which would
// mean that the file that refers to the blob was removed.
func (c *checker) bytes(what string, d layer.Digest) ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(c.s.blobPath(d))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("its %s %s is missing", what, d)
	case err != nil:
		return nil, fmt.Errorf("its %s %s cannot be read: %w", what, d, err)
	case layer.FromBytes(b) != d:
		return nil, fmt.Errorf("its %s %s is damaged", what, d)
	}
	return b, nil
}

// note verifies the list of blobs of a layer. The blobs need not be in the store.
func (c *checker) note(path, name string) error {
	b, err := sealed(path)
	if err != nil {
		return err
	}
	var all []layer.Descriptor
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	for _, b := range all {
		if b.DiffID.Validate() != nil || b.DiffID.Hex() != name {
			return fmt.Errorf("belongs to %q", b.DiffID)
		}
		if err := b.Digest.Validate(); err != nil {
			return err
		}
		if size, ok := c.s.StatBlob(b.Digest); ok && size != b.Size && !c.bad[b.Digest.Hex()] {
			return fmt.Errorf("gives %d bytes for %s, which has %d", b.Size, b.Digest, size)
		}
	}
	return nil
}

func (c *checker) index(path, _ string) error {
	_, err := readIndex(path)
	return err
}

func readIndex(path string) (*listing.Listing, error) {
	b, err := sealed(path)
	if err != nil {
		return nil, err
	}
	return listing.Decode(b)
}

// checkTrees verifies the keys of the trees of this boot and, for trees of single
// layers, the bytes of each file. There is nothing to compare other trees with:
// those of stacks of layers, or with links to files of several. They count as
// damaged if the tree of a layer is.
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
	look := func(path, name string) error { return c.tree(path, c.layerOf(name)) }
	k := kind{"tree", c.s.boot + "/" + keysDir, &c.report.Trees, look}
	err := c.files(k, 1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no tree was made since the machine started
	}
	if err != nil || c.o.LayerKey == nil {
		return err
	}
	if len(c.report.Wrong) == 0 {
		return c.dropUnknown(k.folder)
	}
	var again int // discarded: these trees were counted before
	return c.files(kind{"tree", k.folder, &again, func(path, name string) error {
		known := func(d Damage) bool { return d.What == "tree "+name }
		if c.layerOf(name) != "" || slices.ContainsFunc(c.report.Wrong, known) {
			return nil
		}
		return errors.New("cannot be verified (no listing), and another unpacked layer is damaged")
	}}, 1)
}

// layerOf returns the layer whose tree or whose variant of it has a file name of a key. It
// returns "" for other trees.
func (c *checker) layerOf(name string) layer.Digest {
	key, _, _ := strings.Cut(name, ".")
	return c.trees[key]
}

// dropUnknown removes, in a repair, the trees that cannot be verified. It does not
// report them, since they are made again from verified ones.
func (c *checker) dropUnknown(folder string) error {
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
		if err == nil && c.layerOf(name) == "" {
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
		return errors.New("its directory is missing")
	case keyless(container):
		return errors.New("it is unfinished")
	case diffID == "":
		return nil
	}
	x, err := readIndex(c.s.path(indexesDir, diffID.Hex()))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot be verified: the listing of layer %s is missing", diffID)
	}
	if err != nil {
		return fmt.Errorf("cannot be verified: the listing of layer %s is damaged", diffID)
	}
	root, err := os.Open(container + "/" + treeSub)
	if err != nil {
		return err
	}
	defer root.Close()
	for i := range x.Entries {
		if err := c.entry(root, &x.Entries[i]); err != nil {
			return fmt.Errorf("differs from layer %s: %s: %w", diffID, x.Entries[i].Path, err)
		}
	}
	return nil
}

// entry verifies the bytes of a file in a tree.
func (c *checker) entry(root *os.File, e *listing.Entry) error {
	if e.Type != listing.TypeFile || e.Digest == "" {
		return nil
	}
	f, err := openRegular(int(root.Fd()), e.Path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil // the owner has no permission to read the file
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
