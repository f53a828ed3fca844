package worker

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/diff"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
)

// usedFolder notes that a RUN of this build had a cache folder.
func (w *Worker) usedFolder(key, id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.folders == nil {
		w.folders = map[string]string{}
	}
	w.folders[key] = id
}

// carried fills a new cache folder with what another machine left of it. It tells
// false if there is none, or none that can be had.
func (w *Worker) carried(ctx context.Context, key, id, data string) bool {
	if w.Folders == nil {
		return false
	}
	for _, f := range w.Folders(ctx) {
		r, b, ok, err := f.Open(ctx, key)
		if !ok {
			continue
		}
		if err == nil {
			end := w.Progress.Span("cache mounts", progress.Work, "fetches "+id)
			err = w.unpackFolder(r, b, data)
			end()
		}
		if err == nil {
			return true
		}
		w.Progress.Warn("%v: the cache mount %s begins empty", err, id)
		if err := os.RemoveAll(data); err != nil {
			w.Progress.Warn("%v", err)
		}
	}
	return false
}

func (w *Worker) unpackFolder(r io.ReadCloser, b layer.Blob, data string) error {
	defer r.Close()
	if err := os.Mkdir(data, 0o755); err != nil {
		return err
	}
	return expand(b, r, func(tar io.Reader) error {
		limits, name := w.Limits.layer(b)
		_, err := tarball.Apply(data, tar, w.owners(tarball.ApplyOptions{Limits: limits}))
		return allowMore(err, name)
	})
}

// PackFolders makes archives of the cache folders that RUNs of this build had.
func (w *Worker) PackFolders(ctx context.Context) ([]remote.Folder, error) {
	w.mu.Lock()
	used := maps.Clone(w.folders)
	w.mu.Unlock()
	var all []remote.Folder
	for _, key := range slices.Sorted(maps.Keys(used)) {
		f, err := w.packFolder(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("cache mount %s: %w", used[key], err)
		}
		if f != nil {
			f.ID = used[key]
			all = append(all, *f)
		}
	}
	return all, nil
}

// packFolder waits until nobody else uses the folder. What is no folder has
// nothing to carry.
func (w *Worker) packFolder(ctx context.Context, key string) (*remote.Folder, error) {
	gone := func(string) error { return fmt.Errorf("it was removed meanwhile") }
	folder, err := w.Store.CacheFolder(ctx, key, store.Locked, gone, func() {})
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	if info, err := os.Lstat(folder.Data); err != nil || !info.IsDir() {
		return nil, err
	}
	changes, err := diff.List(ctx, folder.Data)
	if err != nil {
		return nil, err
	}
	b, err := w.compress(compress.Options{Format: compress.Zstd, Level: 1}, nil, func(out io.Writer) error {
		_, err := tarball.Write(out, each(changes))
		return err
	})
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return w.Store.OpenVerified(b.Digest) }
	return &remote.Folder{Key: key, Blob: b, Source: remote.Source{Open: open}}, nil
}
