package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cairn-build/cairn/layer"
)

// A sealed file is this line, the CRC-32C of its name, a zero byte and the rest in 4
// little-endian bytes, and the rest. With the name in it, a file that comes to lie in
// the place of another is damage too.
const sealMagic = "cairn\n"

const sealLength = len(sealMagic) + 4

func checksum(path string, b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Checksum(append([]byte(filepath.Base(path)), 0), table)
	return crc32.Update(sum, table, b)
}

func seal(path string, b []byte) []byte {
	out := make([]byte, sealLength, sealLength+len(b))
	copy(out, sealMagic)
	binary.LittleEndian.PutUint32(out[len(sealMagic):], checksum(path, b))
	return append(out, b...)
}

func unseal(path string, b []byte) ([]byte, bool) {
	if len(b) < sealLength || !bytes.HasPrefix(b, []byte(sealMagic)) {
		return nil, false
	}
	body := b[sealLength:]
	return body, checksum(path, body) == binary.LittleEndian.Uint32(b[len(sealMagic):])
}

// keyName is the file name of a key: itself when it is a hash in hex already.
func keyName(key string) string {
	if len(key) == 2*sha256.Size && isHex(key) {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// How durable a file must be.
type durability int

const (
	careless durability = iota // no sync
	behind                     // synced behind the build, before Close returns
	before                     // synced before it replaces the old one
)

// write writes a file by rename.
func (s *Store) write(path string, b []byte, d durability) error {
	f, err := os.OpenFile(s.lease.next("file"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && d == before {
		err = f.Sync()
	}
	if err == nil {
		err = s.mark(f.Name(), s.lease.start)
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		f.Close()
		return errors.Join(err, os.Remove(f.Name()))
	}
	if d == behind {
		s.sync.add(written{f, filepath.Dir(path)})
		return nil
	}
	if d == before {
		s.sync.add(written{nil, filepath.Dir(path)})
	}
	return f.Close()
}

// read reads a file and marks it as used.
func (s *Store) read(path string) ([]byte, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, false
	}
	if _, ok := s.use(path); !ok {
		return nil, false
	}
	return b, true
}

func (s *Store) readSealed(path string) ([]byte, bool) {
	b, ok := s.read(path)
	if !ok {
		return nil, false
	}
	return unseal(path, b)
}

func (s *Store) writeSealed(path string, b []byte, d durability) error {
	return s.write(path, seal(path, b), d)
}

func (s *Store) readJSON(path string, v any) bool {
	b, ok := s.readSealed(path)
	return ok && json.Unmarshal(b, v) == nil
}

func (s *Store) writeJSON(path string, v any, d durability) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.writeSealed(path, b, d)
}

// Record returns the bytes filed under key, or an error that is
// fs.ErrNotExist.
func (s *Store) Record(key string) ([]byte, error) {
	b, ok := s.readSealed(s.path(recordsDir, keyName(key)))
	if !ok {
		return nil, notExist("the record")
	}
	return b, nil
}

// PutRecord files bytes under key.
func (s *Store) PutRecord(key string, b []byte) error {
	if err := s.writeSealed(s.path(recordsDir, keyName(key)), b, behind); err != nil {
		return s.explain("file a record", err)
	}
	return nil
}

// DropRecord forgets a key. One that is not there is no error.
func (s *Store) DropRecord(key string) error {
	err := os.Remove(s.path(recordsDir, keyName(key)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.explain("drop a record", err)
	}
	return nil
}

// Hint returns what PutHint stored last, or an error that is fs.ErrNotExist.
func (s *Store) Hint(key string) ([]byte, error) {
	b, ok := s.readSealed(s.path(hintsDir, keyName(key)))
	if !ok {
		return nil, notExist("the hint")
	}
	return b, nil
}

// originKey is that of the hint where a blob can be had.
func originKey(d layer.Digest) string { return "origin " + string(d) }

// Origin is the reference of an image in a registry that has a blob, as SetOrigin
// noted it, or "".
func (s *Store) Origin(d layer.Digest) string {
	b, err := s.Hint(originKey(d))
	if err != nil {
		return ""
	}
	return string(b)
}

// SetOrigin notes where a blob can be had that the store need not have. It is kept
// while a tag needs the blob.
func (s *Store) SetOrigin(d layer.Digest, ref string) error {
	return s.PutHint(originKey(d), []byte(ref))
}

// PutHint stores bytes whose loss costs nothing but time.
func (s *Store) PutHint(key string, b []byte) error {
	if err := s.writeSealed(s.path(hintsDir, keyName(key)), b, careless); err != nil {
		return s.explain("store a hint", err)
	}
	return nil
}
