package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/cairn-build/cairn/layer"
)

const (
	uploadLife = 24 * time.Hour
	copyBuffer = 256 << 10
)

// An upload is a blob that is being received. It is dropped when the process
// ends, since its hash is in memory only.
type upload struct {
	name string // of the repository
	id   string

	mu   sync.Mutex // locked during a request
	hash hash.Hash
	size int64
	used time.Time
	done bool // stored or cancelled
}

var uploadID = regexp.MustCompile(`^[0-9a-f]{32}$`)

func (s *server) serveUploads(w http.ResponseWriter, r *http.Request, name, id string) error {
	if id == "" {
		if r.Method != http.MethodPost {
			return notAllowed(r)
		}
		return s.startUpload(w, r, name)
	}
	u := s.findUpload(name, id)
	if u == nil {
		return failure{http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "no such upload"}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.done {
		return failure{http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "the upload has ended"}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		u.writeStatus(w, http.StatusNoContent)
		return nil
	case http.MethodPatch:
		return s.patchUpload(w, r, u)
	case http.MethodPut:
		return s.finishUpload(w, r, u)
	case http.MethodDelete:
		s.dropUpload(u)
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return notAllowed(r)
}

// startUpload mounts a blob, receives a whole blob, or starts an upload.
func (s *server) startUpload(w http.ResponseWriter, r *http.Request, name string) error {
	q := r.URL.Query()
	if d := layer.Digest(q.Get("mount")); d != "" && d.Validate() == nil {
		from := q.Get("from")
		if validName(from) == nil {
			mounted, err := s.mount(name, from, d)
			if err != nil {
				return err
			}
			if mounted {
				blobCreated(w, name, d)
				return nil
			}
		}
	}
	u, err := s.newUpload(name)
	if err != nil {
		return err
	}
	if q.Has("digest") {
		u.mu.Lock()
		defer u.mu.Unlock()
		return s.finishUpload(w, r, u)
	}
	u.writeStatus(w, http.StatusAccepted)
	return nil
}

func (s *server) mount(name, from string, d layer.Digest) (bool, error) {
	s.storing.RLock()
	defer s.storing.RUnlock()
	if !s.hasBlob(from, d) {
		return false, nil
	}
	return true, s.linkBlob(name, d)
}

func (s *server) newUpload(name string) (*upload, error) {
	u := &upload{name: name, id: newID(), hash: sha256.New(), used: time.Now()}
	f, err := os.OpenFile(s.uploadPath(u), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.uploads[u.id] = u
	due := time.Since(s.swept) > time.Hour
	if due {
		s.swept = time.Now()
	}
	s.mu.Unlock()
	if due {
		_ = s.sweepUploads(time.Now().Add(-uploadLife)) // an error is retried in an hour
	}
	return u, nil
}

func (s *server) uploadPath(u *upload) string { return filepath.Join(s.dir, "uploads", u.id) }

func (s *server) findUpload(name, id string) *upload {
	if !uploadID.MatchString(id) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.uploads[id]; u != nil && u.name == name {
		return u
	}
	return nil
}

func (s *server) patchUpload(w http.ResponseWriter, r *http.Request, u *upload) error {
	if err := u.checkRange(w, r); err != nil {
		return err
	}
	if err := s.receive(r.Body, u, false); err != nil {
		return err
	}
	u.writeStatus(w, http.StatusAccepted)
	return nil
}

// checkRange returns an error if a chunk has a Content-Range that does not begin
// at the end of the upload.
func (u *upload) checkRange(w http.ResponseWriter, r *http.Request) error {
	if cr := r.Header.Get("Content-Range"); cr != "" {
		var from, to int64
		if n, _ := fmt.Sscanf(cr, "%d-%d", &from, &to); n != 2 || from != u.size || to < from {
			u.writeStatus(w, 0)
			return failure{http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID",
				fmt.Sprintf("chunk %.50q does not follow the %d bytes received so far", cr, u.size)}
		}
	}
	return nil
}

func (s *server) finishUpload(w http.ResponseWriter, r *http.Request, u *upload) error {
	d := layer.Digest(r.URL.Query().Get("digest"))
	if err := validDigest(d); err != nil {
		return err
	}
	if err := u.checkRange(w, r); err != nil {
		return err
	}
	if err := s.receive(r.Body, u, !s.o.NoSync); err != nil {
		return err
	}
	defer s.dropUpload(u)
	if have := layer.FromHash(u.hash); have != d {
		return failure{http.StatusBadRequest, "DIGEST_INVALID", fmt.Sprintf("content has digest %s, want %s", have, d)}
	}
	s.storing.RLock()
	defer s.storing.RUnlock()
	if err := s.storeBlob(s.uploadPath(u), d); err != nil {
		return err
	}
	if err := s.linkBlob(u.name, d); err != nil {
		return err
	}
	blobCreated(w, u.name, d)
	return nil
}

// receive appends body to the upload. If the client disconnects, the bytes
// received so far stay, and the client can resume.
func (s *server) receive(body io.Reader, u *upload, flush bool) error {
	f, err := os.OpenFile(s.uploadPath(u), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	u.used = time.Now()
	err = u.appendTo(f, body)
	if err == nil && flush {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

var buffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

func (u *upload) appendTo(f *os.File, body io.Reader) error {
	buf := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(buf)
	for {
		n, err := io.ReadAtLeast(body, buf[:], 1)
		if n > 0 {
			if _, werr := f.Write(buf[:n]); werr != nil {
				return werr
			}
			u.hash.Write(buf[:n])
			u.size += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return failure{http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "the body ended early"}
		}
	}
}

// writeStatus answers with the location and the size of the upload. A status of
// 0 sets the headers only.
func (u *upload) writeStatus(w http.ResponseWriter, status int) {
	h := w.Header()
	h.Set("Location", "/v2/"+u.name+"/blobs/uploads/"+u.id)
	h.Set("Docker-Upload-UUID", u.id)
	h.Set("Range", "0-"+strconv.FormatInt(max(u.size-1, 0), 10))
	if status != 0 {
		w.WriteHeader(status)
	}
}

func blobCreated(w http.ResponseWriter, name string, d layer.Digest) {
	w.Header().Set("Location", "/v2/"+name+"/blobs/"+string(d))
	w.Header().Set("Docker-Content-Digest", string(d))
	w.WriteHeader(http.StatusCreated)
}

// dropUpload removes u and its file, if it still exists. The caller holds u.mu.
func (s *server) dropUpload(u *upload) {
	u.done = true
	s.mu.Lock()
	delete(s.uploads, u.id)
	s.mu.Unlock()
	_ = os.Remove(s.uploadPath(u))
}

// sweepUploads drops uploads that have not been used since before.
func (s *server) sweepUploads(before time.Time) error {
	s.mu.Lock()
	var all []*upload
	for _, u := range s.uploads {
		all = append(all, u)
	}
	s.mu.Unlock()
	for _, u := range all {
		if u.mu.TryLock() {
			if u.used.Before(before) {
				s.dropUpload(u)
			}
			u.mu.Unlock()
		}
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "uploads"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.ModTime().Before(before) {
			_ = os.Remove(filepath.Join(s.dir, "uploads", e.Name()))
		}
	}
	return nil
}
