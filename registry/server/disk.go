package server

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cairn-build/cairn/layer"
)

var (
	namePart = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagRunes = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]*$`)
)

func validTag(tag string) bool { return len(tag) <= 128 && tagRunes.MatchString(tag) }

func validName(name string) error {
	if len(name) > 255 || !namePart.MatchString(name) {
		return failure{http.StatusBadRequest, "NAME_INVALID", fmt.Sprintf("%.300q is not a repository name", name)}
	}
	return nil
}

func validDigest(d layer.Digest) error {
	if err := d.Validate(); err != nil {
		return failure{http.StatusBadRequest, "DIGEST_INVALID", err.Error()}
	}
	return nil
}

func (s *server) blobPath(d layer.Digest) string {
	return filepath.Join(s.dir, "blobs/sha256", d.Hex()[:2], d.Hex())
}

// repoPath returns a path inside a repository. Name and parts must have been
// validated.
func (s *server) repoPath(name string, parts ...string) string {
	return filepath.Join(append([]string{s.dir, "repositories", name}, parts...)...)
}

func (s *server) hasBlob(name string, d layer.Digest) bool {
	return exists(s.repoPath(name, "_layers", d.Hex())) && exists(s.blobPath(d))
}

func (s *server) hasManifest(name string, d layer.Digest) bool {
	return exists(s.repoPath(name, "_manifests", d.Hex())) && exists(s.blobPath(d))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// linkBlob records that the repository has d, whose bytes are stored.
func (s *server) linkBlob(name string, d layer.Digest) error {
	link := s.repoPath(name, "_layers", d.Hex())
	f, err := os.OpenFile(link, os.O_CREATE|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(link), 0o755); err == nil {
			f, err = os.OpenFile(link, os.O_CREATE|os.O_WRONLY, 0o644)
		}
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// storeBlob renames the complete file tmp to the path of d.
func (s *server) storeBlob(tmp string, d layer.Digest) error {
	path := s.blobPath(d)
	err := os.Rename(tmp, path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.Rename(tmp, path)
		}
	}
	if err != nil {
		return err
	}
	return s.syncDir(filepath.Dir(path))
}

// writeFile creates or replaces a small file by rename.
func (s *server) writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := s.tempPath()
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil && !s.o.NoSync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return s.syncDir(filepath.Dir(path))
}

func (s *server) syncDir(dir string) error {
	if s.o.NoSync {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (s *server) tempPath() string {
	return filepath.Join(s.dir, "uploads", newID())
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// dropUnlinked removes the bytes of d if no repository has d. The caller has
// locked s.storing for writing.
func (s *server) dropUnlinked(d layer.Digest) error {
	repos, err := s.repositories()
	if err != nil {
		return err
	}
	for _, name := range repos {
		if exists(s.repoPath(name, "_layers", d.Hex())) || exists(s.repoPath(name, "_manifests", d.Hex())) {
			return nil
		}
	}
	return ignoreMissing(os.Remove(s.blobPath(d)))
}

// repositories returns the names of all repositories, unsorted.
func (s *server) repositories() ([]string, error) {
	root := filepath.Join(s.dir, "repositories")
	var names []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() || path == root {
			return ignoreMissing(err)
		}
		if !strings.HasPrefix(e.Name(), "_") {
			return nil
		}
		name, _ := filepath.Rel(root, filepath.Dir(path))
		if n := len(names); n == 0 || names[n-1] != name {
			names = append(names, name)
		}
		return filepath.SkipDir
	})
	return names, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
