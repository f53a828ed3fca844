// Package server implements an image registry on a directory, by the OCI
// distribution specification 1.1, as an [http.Handler].
//
// It accepts blobs in one request, in chunks, or mounted from another
// repository; serves them with ranges; stores manifests, indexes and tags; and
// lists tags, repositories and referrers. Uploads are hashed while they arrive,
// synced to disk, and renamed to their place, so that a registry that is killed
// has complete files only.
//
// On disk:
//
//	blobs/sha256/ab/<hex>                      bytes of blobs and manifests, once each
//	repositories/<name>/_layers/<hex>          the repository has this blob
//	repositories/<name>/_manifests/<hex>       ... this manifest; content: its media type
//	repositories/<name>/_tags/<tag>            content: digest of the manifest
//	repositories/<name>/_referrers/<hex>/<hex> descriptor of a manifest (second) whose subject is the first
//	uploads/<id>                               bytes of an upload in progress
//
// The components of a name never begin with an underscore, so repositories can
// be nested. Names, tags and digests are matched against the specification's
// grammar before they become part of a path. An upload is dropped when it has
// not been used for a day, and when the process ends.
package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cairn-build/cairn/layer"
)

// Options configure a registry. The zero value admits everybody.
type Options struct {
	// ReadOnly rejects all changes.
	ReadOnly bool
	// Auth, if not nil, reports whether a request is allowed; user is empty if
	// no credentials were sent. Other requests are answered with a challenge
	// for basic credentials.
	Auth func(user, password string, write bool) bool
	// NoSync does not sync files to disk, for temporary registries.
	NoSync bool
}

// Handler returns a handler for the registry in dir, which it creates if needed.
func Handler(dir string, o Options) (http.Handler, error) {
	for _, sub := range []string{"blobs/sha256", "repositories", "uploads"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("registry: %w", err)
		}
	}
	s := &server{dir: dir, o: o, uploads: map[string]*upload{}}
	if err := s.sweepUploads(time.Now().Add(-uploadLife)); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	return s, nil
}

type server struct {
	dir string
	o   Options

	// storing is locked for reading while a blob or manifest is stored, and for
	// writing while one is deleted, so that no bytes are removed after they were
	// found and before they are linked.
	storing sync.RWMutex

	mu      sync.Mutex // guards uploads and swept
	uploads map[string]*upload
	swept   time.Time // the last time that old uploads were dropped
}

// A failure is an error in the form of the specification.
type failure struct {
	status  int
	code    string
	message string
}

func (f failure) Error() string { return f.code + ": " + f.message }

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	err := s.authorize(w, r)
	if err == nil {
		err = s.route(w, r)
	}
	if err != nil {
		writeError(w, r, err)
	}
}

func (s *server) authorize(w http.ResponseWriter, r *http.Request) error {
	write := r.Method != http.MethodGet && r.Method != http.MethodHead
	if s.o.Auth != nil {
		user, password, _ := r.BasicAuth()
		if !s.o.Auth(user, password, write) {
			w.Header().Set("WWW-Authenticate", `Basic realm="cairn registry"`)
			return failure{http.StatusUnauthorized, "UNAUTHORIZED", "authentication required"}
		}
	}
	if write && s.o.ReadOnly {
		return failure{http.StatusMethodNotAllowed, "UNSUPPORTED", "this registry is read-only"}
	}
	return nil
}

func (s *server) route(w http.ResponseWriter, r *http.Request) error {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	switch {
	case r.URL.Path == "/v2" || ok && rest == "":
		return s.ping(w, r)
	case rest == "_catalog":
		return s.catalog(w, r)
	case !ok:
		return failure{http.StatusNotFound, "UNSUPPORTED", "no such path; the registry is at /v2/"}
	}
	parts := strings.Split(rest, "/")
	if n := len(parts); n >= 4 && parts[n-3] == "blobs" && parts[n-2] == "uploads" {
		return s.routeNamed(w, r, parts[:n-3], "uploads", parts[n-1])
	}
	if n := len(parts); n >= 3 {
		return s.routeNamed(w, r, parts[:n-2], parts[n-2], parts[n-1])
	}
	return failure{http.StatusNotFound, "UNSUPPORTED", "no such path"}
}

func (s *server) routeNamed(w http.ResponseWriter, r *http.Request, nameParts []string, kind, arg string) error {
	name := strings.Join(nameParts, "/")
	if err := validName(name); err != nil {
		return err
	}
	switch {
	case kind == "blobs" && arg == "uploads":
		return s.serveUploads(w, r, name, "")
	case kind == "uploads":
		return s.serveUploads(w, r, name, arg)
	case kind == "blobs":
		return s.serveBlob(w, r, name, layer.Digest(arg))
	case kind == "manifests":
		return s.serveManifest(w, r, name, arg)
	case kind == "tags" && arg == "list":
		return s.tags(w, r, name)
	case kind == "referrers":
		return s.referrers(w, r, name, layer.Digest(arg))
	}
	return failure{http.StatusNotFound, "UNSUPPORTED", "no such path"}
}

func (s *server) ping(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return notAllowed(r)
	}
	return writeJSON(w, r, "application/json", struct{}{})
}

func notAllowed(r *http.Request) error {
	return failure{http.StatusMethodNotAllowed, "UNSUPPORTED", r.Method + " is not allowed for this path"}
}

func writeJSON(w http.ResponseWriter, r *http.Request, mediaType string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(b) // an error means that the client is gone
	}
	return nil
}

// writeError answers with err. Errors of the disk are sent without paths of this
// machine.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	f := failure{http.StatusInternalServerError, "UNKNOWN", "error on the registry's disk: " + rootCause(err)}
	switch {
	case errors.As(err, &f):
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		f.status = http.StatusInsufficientStorage
	}
	body, _ := json.Marshal(map[string]any{"errors": []any{
		map[string]any{"code": f.code, "message": f.message},
	}})
	w.Header().Del("Content-Length")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

func rootCause(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "file not found"
	}
	return "see the registry's log"
}
