// Package serve is an image registry on a directory: the OCI distribution
// specification (1.1) as an http.Handler.
//
// It takes blobs whole, in chunks, or mounted from another repository; serves
// them with ranges; keeps manifests, indexes and tags; and lists tags,
// repositories and referrers. What is uploaded is hashed while it arrives and
// appears by rename, synced to disk, so a registry that was killed holds
// nothing by halves.
//
// On disk:
//
//	blobs/sha256/ab/<hex>                      bytes of blobs and manifests, once each
//	repositories/<name>/_layers/<hex>          the repository has this blob
//	repositories/<name>/_manifests/<hex>       ... this manifest; content: its media type
//	repositories/<name>/_tags/<tag>            content: digest of the manifest
//	repositories/<name>/_referrers/<hex>/<hex> descriptor of a manifest (second) whose subject is the first
//	uploads/<id>                               bytes of an upload under way
//
// A name's parts never begin with an underscore, so repositories may lie
// inside one another. Names, tags and digests are matched against the
// specification's grammar before they become part of a path. An upload that
// nobody has touched for a day is dropped, as are all when the process ends.
package serve

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

// Options of a registry; the zero value is usual.
type Options struct {
	// ReadOnly refuses every change.
	ReadOnly bool
	// Auth, when set, is asked before every request; user is empty when no
	// credentials were sent. Refused requests are answered with a challenge
	// for basic credentials.
	Auth func(user, password string, write bool) bool
	// NoSync leaves out the syncing of each blob, for registries that are
	// thrown away.
	NoSync bool
}

// Handler serves the registry in dir, which is made when missing.
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

	// Held shared while a blob or manifest is being filed, alone while one is
	// deleted: bytes must not go between being found and being linked.
	filing sync.RWMutex

	mu      sync.Mutex // guards the two below
	uploads map[string]*upload
	swept   time.Time
}

// A failure is an error as the specification wants it told.
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
	return failure{http.StatusMethodNotAllowed, "UNSUPPORTED", r.Method + " is not possible here"}
}

func writeJSON(w http.ResponseWriter, r *http.Request, mediaType string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(b) // the client has gone: nobody to tell
	}
	return nil
}

// writeError tells err to the client. Errors of the disk are told without
// paths of this machine.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	f := failure{http.StatusInternalServerError, "UNKNOWN", "the registry's disk refused: " + rootCause(err)}
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
		return "not there"
	}
	return "see the registry's log"
}
