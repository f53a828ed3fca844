package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
)

// Folder is a folder of RUN --mount=type=cache that travels: an archive of all
// that is in it.
type Folder struct {
	Key    string // what the store keeps it under
	ID     string // as the Dockerfile has it
	Blob   layer.Blob
	Source Source
}

// Folders are the folders that some machine left, as an image in a registry or a
// folder: each is a layer, and the field "cairn.mounts" of the config names
// them.
type Folders struct {
	Where
	place  place
	layers []layer.Blob
	list   []folderRef
}

type folderRef struct {
	Key   string `json:"key"` // hex of SHA-256 of what the store keeps it under
	ID    string `json:"id"`
	Layer int    `json:"layer"`
	Used  int64  `json:"used"`
}

type folderList struct {
	Version int         `json:"version"`
	Folders []folderRef `json:"folders"`
}

const (
	mountsField     = "cairn.mounts"
	mountsInFolder  = "docker.io/library/cairn-mounts:latest"
	maxFolders      = 1000
	foldersVersion  = 1
	foldersKeptDays = 30
)

// ReadFolders reads what folders there are at a place; none is ErrNone.
func ReadFolders(ctx context.Context, client *registry.Client, w Where) (*Folders, error) {
	at, err := w.mounts(client)
	if err == nil {
		var img layer.Image
		if img, err = at.read(ctx); err == nil {
			return newFolders(w, at, img)
		}
	}
	return nil, fmt.Errorf("cache mounts of %s: %w", w, err)
}

func (w Where) mounts(client *registry.Client) (place, error) {
	if w.Service != nil {
		return w.Service.place("cairn-mounts"), nil
	}
	if w.Dir != "" {
		return folder{w.Dir, mountsInFolder}, nil
	}
	return w.place(client, layer.HostPlatform())
}

func newFolders(w Where, at place, img layer.Image) (*Folders, error) {
	var c struct {
		Mounts *folderList `json:"cairn.mounts"`
	}
	if err := json.Unmarshal(img.Config, &c); err != nil {
		return nil, err
	}
	if c.Mounts == nil || c.Mounts.Version != foldersVersion {
		return nil, fmt.Errorf("cache mounts of %s: %w", w, ErrNone)
	}
	list := c.Mounts.Folders
	if len(list) > maxFolders {
		return nil, fmt.Errorf("cache mounts of %s: %d folders, more than are read", w, len(list))
	}
	for i, f := range list {
		if !isKey(f.Key) || f.Layer < 1 || f.Layer > len(img.Layers) {
			return nil, fmt.Errorf("cache mounts of %s: folder %d: key %.100q, layer %d of %d", w, i, f.Key, f.Layer, len(img.Layers))
		}
		list[i].ID = printable(f.ID)
	}
	return &Folders{w, at, img.Layers, list}, nil
}

func folderKey(key string) string { return layer.FromBytes([]byte(key)).Hex() }

// Open streams the archive of the folder that is kept under key, compressed and
// verified; ok is false if there is none.
func (f *Folders) Open(ctx context.Context, key string) (r io.ReadCloser, b layer.Blob, ok bool, err error) {
	key = folderKey(key)
	i := slices.IndexFunc(f.list, func(r folderRef) bool { return r.Key == key })
	if i < 0 {
		return nil, b, false, nil
	}
	b = f.layers[f.list[i].Layer-1]
	r, err = f.place.open(ctx, b)
	if err != nil {
		err = fmt.Errorf("cache mounts of %s: %w", f.Where, err)
	}
	return r, b, true, err
}

// WriteFolders puts folders at a place. Others that are there stay.
func WriteFolders(ctx context.Context, client *registry.Client, w Where, folders []Folder) error {
	at, err := w.mounts(client)
	if err == nil {
		err = writeFolders(ctx, at, w, folders)
	}
	if err != nil {
		return fmt.Errorf("cache mounts of %s: %w", w, err)
	}
	return nil
}

func writeFolders(ctx context.Context, at place, w Where, folders []Folder) error {
	done, err := at.edit(ctx)
	if err != nil {
		return err
	}
	defer done()
	for range tries {
		old, was, err := oldFolders(ctx, at, w)
		if err != nil {
			return err
		}
		img, from, err := old.with(folders, today())
		if err != nil || img.Digest == was {
			return err
		}
		ok, err := replaceFolders(ctx, at, img, from, was, folders)
		if ok || err != nil {
			return err
		}
	}
	return errors.New("others write it all the time")
}

// oldFolders reads what is there. An image that is something else is left alone.
func oldFolders(ctx context.Context, at place, w Where) (*Folders, layer.Digest, error) {
	img, err := at.current(ctx)
	if errors.Is(err, ErrNone) {
		return &Folders{}, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	f, err := newFolders(w, at, img)
	if errors.Is(err, ErrNone) && !strings.Contains(string(img.Config), `"`+mountsField+`"`) {
		return nil, "", errors.New("there is an image that holds no cache mounts: choose another name")
	}
	if err != nil {
		return &Folders{}, img.Digest, nil
	}
	return f, img.Digest, nil
}

// with makes the image that has folders in place of those of the same keys.
func (f *Folders) with(folders []Folder, today int64) (layer.Image, map[layer.Digest]Source, error) {
	var layers []layer.Blob
	var list []folderRef
	from := map[layer.Digest]Source{}
	add := func(r folderRef, b layer.Blob) {
		i := slices.IndexFunc(layers, func(have layer.Blob) bool { return have.Digest == b.Digest })
		if i < 0 {
			i = len(layers)
			layers = append(layers, b)
		}
		r.Layer = i + 1
		list = append(list, r)
	}
	for _, new := range folders {
		from[new.Blob.Digest] = new.Source
		add(folderRef{Key: folderKey(new.Key), ID: printable(new.ID), Used: today}, plainBlob(new.Blob))
	}
	for _, r := range f.list {
		if today-r.Used <= foldersKeptDays && !slices.ContainsFunc(list, func(have folderRef) bool { return have.Key == r.Key }) {
			add(r, f.layers[r.Layer-1])
		}
	}
	config, err := configOf(mountsField, folderList{foldersVersion, list}, layers)
	if err != nil {
		return layer.Image{}, nil, err
	}
	img, err := layer.NewImage(config, layers, nil, false)
	return img, from, err
}

// replaceFolders writes img if what was there is there still, and tells false if
// somebody else wrote.
func replaceFolders(ctx context.Context, at place, img layer.Image, from map[layer.Digest]Source, was layer.Digest, ours []Folder) (bool, error) {
	var blobs []layer.Blob
	for _, f := range ours {
		blobs = append(blobs, f.Blob)
	}
	if err := at.send(ctx, blobs, from); err != nil {
		return false, err
	}
	begin := time.Now()
	if now, err := at.digest(ctx); err != nil || now != was {
		return false, err
	}
	if err := at.write(ctx, img, from); err != nil {
		return false, taken(err)
	}
	if err := at.settle(ctx, time.Since(begin)); err != nil {
		return false, err
	}
	now, err := at.digest(ctx)
	return now == img.Digest, err
}
