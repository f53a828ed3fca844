package store

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
)

// RecordStore is the part of a Store that holds results of steps and other data, by
// key.
type RecordStore struct{ *disk }

// Record returns the record of a key. The error is fs.ErrNotExist if it is missing.
func (s *RecordStore) Record(key string) ([]byte, error) {
	b, ok := s.readSealed(s.path(recordsDir, keyName(key)))
	if !ok {
		return nil, notExist("the record")
	}
	return b, nil
}

// PutRecord stores a record under key.
func (s *RecordStore) PutRecord(key string, b []byte) error {
	if err := s.writeSealed(s.path(recordsDir, keyName(key)), b, behind); err != nil {
		return s.explain("store a record", err)
	}
	return nil
}

// DropRecord removes the record of a key, if there is one.
func (s *RecordStore) DropRecord(key string) error {
	err := os.Remove(s.path(recordsDir, keyName(key)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.explain("drop a record", err)
	}
	return nil
}

// StoredRecord is one stored record.
type StoredRecord struct {
	Bytes []byte
	Used  time.Time
	name  string
}

// Under reports whether the record is stored under key.
func (f StoredRecord) Under(key string) bool { return f.name == keyName(key) }

// Records returns all records without marking them as used. It skips damaged ones.
func (s *RecordStore) Records() ([]StoredRecord, error) {
	names, err := readNames(s.path(recordsDir))
	if err != nil {
		return nil, s.explain("list the records", err)
	}
	var all []StoredRecord
	for _, name := range names {
		path := s.path(recordsDir, name)
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			continue // it was removed meanwhile
		}
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if body, ok := unseal(path, b); ok {
			all = append(all, StoredRecord{body, time.Unix(0, st.Mtim.Nano()), name})
		}
	}
	return all, nil
}

// Forget removes a record, if it still exists.
func (s *RecordStore) Forget(f StoredRecord) error {
	err := os.Remove(s.path(recordsDir, f.name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.explain("drop a record", err)
	}
	return nil
}

// Hint returns the bytes that PutHint stored last. The error is fs.ErrNotExist if
// they are missing.
func (s *RecordStore) Hint(key string) ([]byte, error) {
	b, ok := s.readSealed(s.path(hintsDir, keyName(key)))
	if !ok {
		return nil, notExist("the hint")
	}
	return b, nil
}

// PutHint stores bytes that can be lost at the cost of time only.
func (s *RecordStore) PutHint(key string, b []byte) error {
	if err := s.writeSealed(s.path(hintsDir, keyName(key)), b, careless); err != nil {
		return s.explain("store a hint", err)
	}
	return nil
}

// originKey returns the key of the hint that holds the origin of a blob.
func originKey(d layer.Digest) string { return "origin " + string(d) }

// Origin returns the reference of an image in a registry that has the blob, as
// recorded by SetOrigin, or "".
func (s *RecordStore) Origin(d layer.Digest) string {
	b, err := s.Hint(originKey(d))
	if err != nil {
		return ""
	}
	return string(b)
}

// SetOrigin records a registry's image from which the blob can be fetched. It stays
// for as long as a tag needs the blob.
func (s *RecordStore) SetOrigin(d layer.Digest, ref string) error {
	return s.PutHint(originKey(d), []byte(ref))
}
