package server

import (
	"net/http"
	"os"

	"github.com/cairn-build/cairn/layer"
)

func (s *server) serveBlob(w http.ResponseWriter, r *http.Request, name string, d layer.Digest) error {
	if err := validDigest(d); err != nil {
		return err
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return s.getBlob(w, r, name, d)
	case http.MethodDelete:
		return s.deleteBlob(w, name, d)
	}
	return notAllowed(r)
}

func (s *server) getBlob(w http.ResponseWriter, r *http.Request, name string, d layer.Digest) error {
	if !exists(s.repoPath(name, "_layers", d.Hex())) {
		return blobUnknown(name, d)
	}
	f, err := os.Open(s.blobPath(d))
	if err != nil {
		return blobUnknown(name, d)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Docker-Content-Digest", string(d))
	h.Set("Content-Type", "application/octet-stream")
	h.Set("ETag", `"`+string(d)+`"`)
	h.Set("Cache-Control", "max-age=31536000, immutable")
	http.ServeContent(w, r, "", info.ModTime(), f) // ranges, If-None-Match, HEAD
	return nil
}

func (s *server) deleteBlob(w http.ResponseWriter, name string, d layer.Digest) error {
	s.storing.Lock()
	defer s.storing.Unlock()
	if os.Remove(s.repoPath(name, "_layers", d.Hex())) != nil {
		return blobUnknown(name, d)
	}
	if err := s.dropUnlinked(d); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func blobUnknown(name string, d layer.Digest) error {
	return failure{http.StatusNotFound, "BLOB_UNKNOWN", "repository " + name + " has no blob " + string(d)}
}
