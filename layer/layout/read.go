package layout

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
)

// An Archive is an open layout or docker archive. It is safe for concurrent use.
type Archive struct {
	Images []Named

	attested bool // attestations are images too
	files    files
	names    map[layer.Digest]string // file names of blobs that are not named by their digest
	entries  int                     // size of all indexes read so far
}

// Named is an image in an archive.
type Named struct {
	Refs     []string // normalized; may be empty
	Platform layer.Platform
	Image    layer.Image
}

// ReadOCI opens an OCI layout, a directory or a tar file. The images of an index are
// listed one by one. Artifacts other than images are skipped.
func ReadOCI(path string) (*Archive, error) {
	a, err := openArchive(path, (*Archive).readOCI)
	if err != nil {
		return nil, fmt.Errorf("read OCI layout %s: %w", path, err)
	}
	return a, nil
}

// ReadDocker opens a docker archive.
func ReadDocker(path string) (*Archive, error) {
	a, err := openArchive(path, (*Archive).readDocker)
	if err != nil {
		return nil, fmt.Errorf("read docker archive %s: %w", path, err)
	}
	return a, nil
}

// FormError means that a file or directory has another format than the requested
// one.
type FormatError struct{ missing, form string }

func (e *FormatError) Error() string { return "it has no " + e.missing + "; is it " + e.form + "?" }

// Open returns the bytes of a layer of one of a's images, verified while they are
// read.
func (a *Archive) Open(b layer.Descriptor) (io.ReadCloser, error) {
	if err := b.Digest.Validate(); err != nil {
		return nil, err
	}
	name, ok := a.names[b.Digest]
	if !ok {
		name = blobName(b.Digest)
	}
	r, _, err := a.files.open(name)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", b.Digest, err)
	}
	return layer.Verify(r, b.Digest, b.Size), nil
}

// Close closes the archive. Blobs that are open cannot be read afterwards.
func (a *Archive) Close() error { return a.files.Close() }

func openArchive(path string, read func(*Archive) error) (*Archive, error) {
	f, err := openFiles(path)
	if err != nil {
		return nil, err
	}
	a := &Archive{files: f, names: map[layer.Digest]string{}}
	if err := read(a); err != nil {
		_ = f.Close()
		return nil, err
	}
	return a, nil
}

func (a *Archive) readOCI() error {
	raw, err := a.document(indexFile, maxDocument)
	if errors.Is(err, fs.ErrNotExist) {
		return &FormatError{indexFile, "an OCI layout"}
	}
	if err != nil {
		return err
	}
	return a.addIndex(raw, nil, 0)
}

// addIndex adds the images of an index; refs are the names of the index.
func (a *Archive) addIndex(raw []byte, refs []string, depth int) error {
	var x struct {
		Manifests []descriptor `json:"manifests"`
	}
	if err := layer.Unmarshal(raw, &x); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	if depth > maxNesting {
		return errors.New("indexes are nested too deeply")
	}
	// Indexes may refer to one index many times, so the total size is limited.
	if a.entries += len(x.Manifests); a.entries > maxEntries {
		return errors.New("index is too long")
	}
	for _, d := range x.Manifests {
		if err := a.addEntry(d, append(refsOf(d), refs...), depth); err != nil {
			return err
		}
	}
	return nil
}

func (a *Archive) addEntry(d descriptor, refs []string, depth int) error {
	if err := d.Digest.Validate(); err != nil {
		return err
	}
	if d.Platform != nil && d.Platform.OS == "unknown" && !a.attested {
		return nil // an attestation
	}
	switch d.MediaType {
	case layer.MediaTypeIndex, layer.DockerManifestList:
		raw, err := a.blob(d.Digest, maxDocument)
		if err != nil {
			return err
		}
		return a.addIndex(raw, refs, depth+1)
	case layer.MediaTypeManifest, layer.DockerManifest:
		raw, err := a.blob(d.Digest, maxDocument)
		if err != nil {
			return err
		}
		return a.addManifest(d.MediaType, raw, refs, d.Platform != nil && d.Platform.OS == "unknown")
	}
	return nil
}

// addManifest adds an image. Artifacts are skipped except attestations, whose config
// BuildKit leaves empty.
func (a *Archive) addManifest(mediaType string, raw []byte, refs []string, attestation bool) error {
	b, err := layer.ConfigOf(mediaType, raw)
	if err != nil {
		return err
	}
	if b.MediaType != layer.MediaTypeConfig && b.MediaType != layer.DockerConfig && !attestation {
		return nil
	}
	config, err := a.blob(b.Digest, maxConfig)
	if err != nil {
		return err
	}
	img, err := layer.ParseImage(mediaType, raw, config)
	if err != nil {
		return err
	}
	for i := range a.Images { // the same image under another name
		if a.Images[i].Image.Digest == img.Digest {
			a.Images[i].Refs = append(a.Images[i].Refs, refs...)
			return nil
		}
	}
	a.Images = append(a.Images, Named{Refs: refs, Platform: platformOf(config), Image: img})
	return nil
}

// refsOf returns the name of a descriptor: containerd's annotation, or OCI's if that
// is more than a tag.
func refsOf(d descriptor) []string {
	name := d.Annotations[imageName]
	if name == "" && strings.ContainsAny(d.Annotations[refName], ":/") {
		name = d.Annotations[refName]
	}
	if ref, err := reference.Normalize(name); err == nil {
		return []string{ref}
	}
	return nil
}

func (a *Archive) readDocker() error {
	raw, err := a.document(dockerFile, maxDocument)
	if errors.Is(err, fs.ErrNotExist) {
		return &FormatError{dockerFile, "a docker archive"}
	}
	if err != nil {
		return err
	}
	var manifests []dockerManifest
	if err := layer.Unmarshal(raw, &manifests); err != nil {
		return fmt.Errorf("%s: %w", dockerFile, err)
	}
	original := a.originals()
	for _, m := range manifests {
		config, err := a.document(m.Config, maxConfig)
		if err != nil {
			return err
		}
		img, ok := original[layer.FromBytes(config)]
		if !ok {
			if img, err = a.dockerImage(m, config); err != nil {
				return err
			}
		}
		var refs []string
		for _, tag := range m.RepoTags {
			ref, err := reference.Normalize(tag)
			if err != nil {
				return fmt.Errorf("%s: %w", dockerFile, err)
			}
			refs = append(refs, ref)
		}
		a.Images = append(a.Images, Named{Refs: refs, Platform: platformOf(config), Image: img})
	}
	return nil
}

// originals returns the images of an OCI layout in the same file by their configs,
// so that their manifests and digests are kept.
func (a *Archive) originals() map[layer.Digest]layer.Image {
	oci := &Archive{files: a.files}
	images := map[layer.Digest]layer.Image{}
	if oci.readOCI() == nil {
		for _, n := range oci.Images {
			images[n.Image.ConfigDigest] = n.Image
		}
	}
	return images
}

// dockerImage makes the manifest of an image in an old docker archive.
func (a *Archive) dockerImage(m dockerManifest, config []byte) (layer.Image, error) {
	var c struct {
		RootFS struct {
			DiffIDs []layer.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := layer.Unmarshal(config, &c); err != nil {
		return layer.Image{}, fmt.Errorf("%s: %w", m.Config, err)
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return layer.Image{}, fmt.Errorf("%s: %d layers, but %d in the image's config", dockerFile, len(m.Layers), len(c.RootFS.DiffIDs))
	}
	var layers []layer.Descriptor
	for i, name := range m.Layers {
		diffID := c.RootFS.DiffIDs[i]
		if err := diffID.Validate(); err != nil {
			return layer.Image{}, fmt.Errorf("%s: %w", m.Config, err)
		}
		b, err := a.dockerLayer(name, diffID)
		if err != nil {
			return layer.Image{}, fmt.Errorf("layer %s: %w", name, err)
		}
		layers = append(layers, b)
	}
	return layer.NewImage(config, layers, nil, false)
}

// dockerLayer returns the descriptor of a layer's file. The diff ID is the digest of
// a plain tar; a compressed file is read for its digest.
func (a *Archive) dockerLayer(name string, diffID layer.Digest) (layer.Descriptor, error) {
	r, size, err := a.files.open(name)
	if err != nil {
		return layer.Descriptor{}, err
	}
	defer r.Close()
	b := layer.Descriptor{Size: size, DiffID: diffID}
	head := make([]byte, 4)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return layer.Descriptor{}, err
	}
	switch head = head[:n]; {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		b.MediaType = layer.MediaTypeGzip
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		b.MediaType = layer.MediaTypeZstd
	default:
		b.MediaType, b.Digest = layer.MediaTypeTar, diffID
	}
	if b.Digest == "" {
		h := sha256.New()
		h.Write(head)
		if _, err := io.CopyBuffer(struct{ io.Writer }{h}, r, make([]byte, copyBuffer)); err != nil {
			return layer.Descriptor{}, err
		}
		b.Digest = layer.FromHash(h)
	}
	a.names[b.Digest] = name
	return b, nil
}

func (a *Archive) blob(d layer.Digest, limit int64) ([]byte, error) {
	b, err := a.document(blobName(d), limit)
	if err != nil {
		return nil, err
	}
	if have := layer.FromBytes(b); have != d {
		return nil, fmt.Errorf("blob %s: its bytes have digest %s", d, have)
	}
	return b, nil
}

func (a *Archive) document(name string, limit int64) ([]byte, error) {
	r, size, err := a.files.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size > limit {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are read", name, size, limit)
	}
	return io.ReadAll(io.LimitReader(r, limit))
}

// files gives access to the files of an archive by slash-separated names.
type files interface {
	open(name string) (r io.ReadCloser, size int64, err error)
	io.Closer
}

func openFiles(path string) (files, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		_ = f.Close()
		root, err := os.OpenRoot(path)
		return dirFiles{root}, err
	}
	var t *tarFiles
	if err == nil {
		t, err = indexTar(f)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return t, nil
}

type dirFiles struct{ root *os.Root }

func (d dirFiles) Close() error { return d.root.Close() }

func (d dirFiles) open(name string) (io.ReadCloser, int64, error) {
	if !fs.ValidPath(name) {
		return nil, 0, fmt.Errorf("%.200q is not a valid file name in a layout", name)
	}
	f, err := d.root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", name)
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// tarFiles is a tar file with the positions of its files.
type tarFiles struct {
	f     *os.File
	at    map[string]section
	links map[string]string // docker used to write equal layers as links
}

type section struct{ offset, size int64 }

func indexTar(f *os.File) (*tarFiles, error) {
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], 0); err == nil && (magic[0] == 0x1f && magic[1] == 0x8b || magic == [4]byte{0x28, 0xb5, 0x2f, 0xfd}) {
		return nil, errors.New("the archive itself is compressed; decompress it first")
	}
	t := &tarFiles{f: f, at: map[string]section{}, links: map[string]string{}}
	r := tar.NewReader(f) // seeks past contents and reads no more than headers
	for n := 0; ; n++ {
		h, err := r.Next()
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("tar: %w", err)
		}
		if n == maxEntries {
			return nil, errors.New("tar: too many files")
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			offset, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			t.at[name] = section{offset, h.Size}
		case tar.TypeSymlink:
			t.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			t.links[name] = path.Clean(h.Linkname)
		}
	}
}

func (t *tarFiles) open(name string) (io.ReadCloser, int64, error) {
	name = path.Clean(name)
	for range 10 {
		if s, ok := t.at[name]; ok {
			return io.NopCloser(io.NewSectionReader(t.f, s.offset, s.size)), s.size, nil
		}
		to, ok := t.links[name]
		if !ok {
			break
		}
		name = to
	}
	return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (t *tarFiles) Close() error { return t.f.Close() }
