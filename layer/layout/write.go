package layout

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/atomicfile"
	"github.com/cairn-build/cairn/registry/reference"
)

// WriteOCI writes img as a tar of an OCI layout under normalized references, if any.
// It has a manifest.json too, so that docker reads it.
func WriteOCI(w io.Writer, refs []string, img layer.Image, open Open) error {
	manifest, _, err := dockerFiles(refs, img)
	if err != nil {
		return fmt.Errorf("write OCI archive: %w", err)
	}
	return writeOCI(w, refs, describe(img), contents(open, img), file{dockerFile, manifest})
}

// WriteOCIIndex is WriteOCI for an image index.
func WriteOCIIndex(w io.Writer, refs []string, set layer.Index, open Open) error {
	return writeOCI(w, refs, describeIndex(set), indexContents(open, set))
}

func writeOCI(w io.Writer, refs []string, d descriptor, blobs []blob, more ...file) error {
	index, err := indexOf(refs, d)
	if err != nil {
		return fmt.Errorf("write OCI archive: %w", err)
	}
	files := append([]file{{layoutFile, []byte(layoutContent)}, {indexFile, index}}, more...)
	if err := writeTar(w, files, blobs); err != nil {
		return fmt.Errorf("write OCI archive: %w", err)
	}
	return nil
}

// WriteDocker writes img in the format of docker save.
func WriteDocker(w io.Writer, refs []string, img layer.Image, open Open) error {
	return writeDocker(w, refs, img, describe(img), contents(open, img))
}

// WriteDockerIndex is WriteDocker for an image index. A reader of manifest.json, which
// lists no indexes, finds the default image there.
func WriteDockerIndex(w io.Writer, refs []string, set layer.Index, open Open) error {
	return writeDocker(w, refs, set.Default(), describeIndex(set), indexContents(open, set))
}

func writeDocker(w io.Writer, refs []string, img layer.Image, d descriptor, blobs []blob) error {
	index, err := indexOf(refs, d)
	if err != nil {
		return fmt.Errorf("write docker archive: %w", err)
	}
	manifest, repositories, err := dockerFiles(refs, img)
	if err != nil {
		return fmt.Errorf("write docker archive: %w", err)
	}
	files := []file{{layoutFile, []byte(layoutContent)}, {indexFile, index}, {dockerFile, manifest}}
	if repositories != nil {
		files = append(files, file{"repositories", repositories})
	}
	if err := writeTar(w, files, blobs); err != nil {
		return fmt.Errorf("write docker archive: %w", err)
	}
	return nil
}

type file struct {
	name    string
	content []byte
}

// indexOf makes index.json: one descriptor for each name, or one without a name.
func indexOf(refs []string, d descriptor) ([]byte, error) {
	entries, err := entriesOf(refs, d)
	if err != nil {
		return nil, err
	}
	raw := make([]json.RawMessage, 0, len(entries))
	for _, e := range entries {
		b, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		raw = append(raw, b)
	}
	return marshalIndex(raw)
}

func marshalIndex(manifests []json.RawMessage) ([]byte, error) {
	return json.Marshal(struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []json.RawMessage `json:"manifests"`
	}{2, layer.MediaTypeIndex, manifests})
}

func describe(img layer.Image) descriptor {
	d := descriptor{MediaType: img.MediaType, Digest: img.Digest, Size: int64(len(img.Manifest)), Annotations: img.Annotations}
	if p := platformOf(img.Config); p.OS != "" {
		d.Platform = &p
	}
	return d
}

func describeIndex(set layer.Index) descriptor {
	return descriptor{MediaType: set.MediaType, Digest: set.Digest, Size: int64(len(set.Raw)), Annotations: set.Annotations}
}

func entriesOf(refs []string, d descriptor) ([]descriptor, error) {
	if len(refs) == 0 {
		return []descriptor{d}, nil
	}
	var all []descriptor
	for _, ref := range refs {
		r, err := reference.Parse(ref)
		if err != nil {
			return nil, err
		}
		one := d
		one.Annotations = map[string]string{}
		maps.Copy(one.Annotations, d.Annotations)
		one.Annotations[imageName] = r.String()
		if r.Tag != "" {
			one.Annotations[refName] = r.Tag
		}
		all = append(all, one)
	}
	return all, nil
}

// dockerFiles makes manifest.json, and the file "repositories" for readers older
// than 2014.
func dockerFiles(refs []string, img layer.Image) (manifest, repositories []byte, err error) {
	layers, tags := []string{}, []string{}
	for _, l := range img.Layers {
		layers = append(layers, blobName(l.Digest))
	}
	repos := map[string]map[string]string{}
	for _, ref := range refs {
		r, err := reference.Parse(ref)
		if err != nil {
			return nil, nil, err
		}
		if r.Tag == "" {
			continue
		}
		tags = append(tags, r.Familiar()+":"+r.Tag)
		if len(img.Layers) == 0 {
			continue
		}
		if repos[r.Familiar()] == nil {
			repos[r.Familiar()] = map[string]string{}
		}
		repos[r.Familiar()][r.Tag] = img.Layers[len(img.Layers)-1].Digest.Hex()
	}
	manifest, err = json.Marshal([]dockerManifest{{blobName(img.ConfigDigest), tags, layers}})
	if err == nil && len(repos) > 0 {
		repositories, err = json.Marshal(repos)
	}
	return manifest, repositories, err
}

type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func writeTar(w io.Writer, files []file, blobs []blob) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		if err := t.WriteHeader(header(f.name, tar.TypeReg, int64(len(f.content)))); err != nil {
			return err
		}
		if _, err := t.Write(f.content); err != nil {
			return err
		}
	}
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := t.WriteHeader(header(dir, tar.TypeDir, 0)); err != nil {
			return err
		}
	}
	for _, b := range blobs {
		if err := t.WriteHeader(header(blobName(b.digest), tar.TypeReg, b.size)); err != nil {
			return err
		}
		if err := b.copyTo(t); err != nil {
			return err
		}
	}
	return t.Close()
}

func header(name string, kind byte, size int64) *tar.Header {
	h := &tar.Header{Name: name, Typeflag: kind, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
	if kind == tar.TypeDir {
		h.Mode = 0o755
	}
	if size >= 1<<33 {
		h.Format = tar.FormatPAX // USTAR ends at 8 GiB
	}
	return h
}

// WriteOCIDir adds img to the OCI layout in dir, which it makes if necessary. Other
// images stay but lose references that img gets.
func WriteOCIDir(dir string, refs []string, img layer.Image, open Open) error {
	return addToDir(dir, refs, describe(img), contents(open, img))
}

// WriteOCIIndexDir is WriteOCIDir for an image index.
func WriteOCIIndexDir(dir string, refs []string, set layer.Index, open Open) error {
	return addToDir(dir, refs, describeIndex(set), indexContents(open, set))
}

func addToDir(dir string, refs []string, d descriptor, blobs []blob) error {
	if err := writeDir(dir, refs, d, blobs); err != nil {
		return fmt.Errorf("write OCI layout %s: %w", dir, err)
	}
	return nil
}

func writeDir(dir string, refs []string, d descriptor, blobs []blob) error {
	entries, err := entriesOf(refs, d)
	if err != nil {
		return err
	}
	old, err := readIndex(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755); err != nil {
		return err
	}
	for _, b := range blobs {
		path := filepath.Join(dir, blobName(b.digest))
		if info, err := os.Stat(path); err == nil && info.Size() == b.size {
			continue
		}
		if err := writeFile(path, b.copyTo); err != nil {
			return err
		}
	}
	index, err := mergeIndex(old, entries)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, layoutFile), writeBytes([]byte(layoutContent))); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, indexFile), writeBytes(index))
}

// readIndex reads the raw descriptors of a layout.
func readIndex(dir string) ([]json.RawMessage, error) {
	b, err := os.ReadFile(filepath.Join(dir, indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var x struct {
		Manifests []json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	return x.Manifests, nil
}

func mergeIndex(old []json.RawMessage, entries []descriptor) ([]byte, error) {
	kept := slices.DeleteFunc(old, func(raw json.RawMessage) bool {
		var d descriptor
		if json.Unmarshal(raw, &d) != nil {
			return false
		}
		return slices.ContainsFunc(entries, func(e descriptor) bool { return replaces(e, d) })
	})
	for _, e := range entries {
		b, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		kept = append(kept, b)
	}
	return marshalIndex(kept)
}

// replaces reports whether adding e removes old, which has the same name, or the same
// digest and no name.
func replaces(e, old descriptor) bool {
	name := old.Annotations[imageName]
	if name == "" {
		return old.Digest == e.Digest && old.Annotations[refName] == "" ||
			old.Annotations[refName] != "" && old.Annotations[refName] == e.Annotations[refName]
	}
	return name == e.Annotations[imageName]
}

func writeBytes(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(b))
		return err
	}
}

// writeFile writes path atomically.
func writeFile(path string, write func(io.Writer) error) error {
	return atomicfile.File(path, 0o644, func(f *os.File) error { return write(f) })
}
