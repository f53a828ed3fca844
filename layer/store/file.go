package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
)

// A sealed file is this line, a checksum in 4 little-endian bytes, and the body. The
// checksum is the CRC-32C of the file's name, a zero byte and the body. It covers
// the name so that a file in the place of another is detected too.
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

// keyName returns the file name for a key: the key itself if it is a hash in hex.
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

// durability is the time at which a file is synced.
type durability int

const (
	careless durability = iota // never
	behind                     // in the background, before Close returns
	before                     // before the rename
)

// write writes a file and renames it into place.
func (s *disk) write(path string, b []byte, d durability) error {
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
func (s *disk) read(path string) ([]byte, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, false
	}
	if _, ok := s.use(path); !ok {
		return nil, false
	}
	return b, true
}

func (s *disk) readSealed(path string) ([]byte, bool) {
	b, ok := s.read(path)
	if !ok {
		return nil, false
	}
	return unseal(path, b)
}

func (s *disk) writeSealed(path string, b []byte, d durability) error {
	return s.write(path, seal(path, b), d)
}

func (s *disk) readJSON(path string, v any) bool {
	b, ok := s.readSealed(path)
	return ok && json.Unmarshal(b, v) == nil
}

func (s *disk) writeJSON(path string, v any, d durability) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.writeSealed(path, b, d)
}
