package store

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
)

// Filed is a record as it lies in the store.
type Filed struct {
	Bytes []byte
	Used  time.Time
	name  string
}

// Under tells whether it is what is filed under a key.
func (f Filed) Under(key string) bool { return f.name == keyName(key) }

// Records lists all records, without marking them as used. Damaged ones are left
// out.
func (s *Store) Records() ([]Filed, error) {
	names, err := readNames(s.path(recordsDir))
	if err != nil {
		return nil, s.explain("list the records", err)
	}
	var all []Filed
	for _, name := range names {
		path := s.path(recordsDir, name)
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			continue // gone meanwhile
		}
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if body, ok := unseal(path, b); ok {
			all = append(all, Filed{body, time.Unix(0, st.Mtim.Nano()), name})
		}
	}
	return all, nil
}

// Forget drops a record, under whatever key it is filed. One that is gone is no error.
func (s *Store) Forget(f Filed) error {
	err := os.Remove(s.path(recordsDir, f.name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.explain("drop a record", err)
	}
	return nil
}

// Peek says how large a blob is, without marking it as used.
func (s *Store) Peek(d layer.Digest) (size int64, ok bool) {
	var st unix.Stat_t
	if d.Validate() != nil || unix.Lstat(s.blobPath(d), &st) != nil {
		return 0, false
	}
	return st.Size, true
}
