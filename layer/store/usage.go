package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Usage is the contents of a store by kind.
type Usage struct {
	Images                                                                    int
	Blobs, Layers, Indexes, Records, Hints, Pins, Builds, Trees, Caches, Temp Amount
}

// Amount is a number of entries and their bytes on disk.
type Amount struct {
	Count int
	Bytes int64
}

// Usage measures the store. It walks all trees, so it takes a while.
func (s *Store) Usage() (Usage, error) {
	var u Usage
	var tags Amount
	for _, f := range []struct {
		to   *Amount
		path string
	}{
		{&u.Blobs, s.path(blobsDir)},
		{&u.Layers, s.path(layersDir)},
		{&u.Indexes, s.path(indexesDir)},
		{&u.Records, s.path(recordsDir)},
		{&u.Hints, s.path(hintsDir)},
		{&u.Pins, s.path(pinsDir)},
		{&u.Builds, s.path(buildsDir)},
		{&u.Temp, s.path(tmpDir)},
		{&u.Trees, s.boot},
		{&u.Caches, s.path(cachesDir)},
		{&tags, s.path(tagsDir)},
	} {
		var err error
		if *f.to, err = measure(f.path); err != nil {
			return u, s.explain("measure the store", err)
		}
	}
	u.Images = tags.Count
	return u, nil
}

// measure counts the entries directly in a directory and the bytes of everything
// below, files with several links once. It ignores entries that are removed
// meanwhile.
func measure(dir string) (Amount, error) {
	var a Amount
	seen := map[uint64]bool{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || path == dir {
			return err
		}
		if filepath.Dir(path) == dir && e.Name() != keysDir {
			a.Count++
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		st := info.Sys().(*syscall.Stat_t)
		if st.Nlink > 1 && !e.IsDir() {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		a.Bytes += st.Blocks * 512
		return nil
	})
	return a, err
}
