// Package imagetest makes small images and registries for tests.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-build/cairn/layer"
)

// An Image is an image with the bytes of its layers.
type Image struct {
	layer.Image
	Blobs map[layer.Digest][]byte
}

// Open opens a layer.
func (i Image) Open(b layer.Descriptor) (io.ReadCloser, error) {
	content, ok := i.Blobs[b.Digest]
	if !ok {
		return nil, fmt.Errorf("no blob %s", b.Digest)
	}
	return io.NopCloser(bytes.NewReader(content)), nil
}

// New makes an image for linux/arch with one layer for each file content; the
// files are named f0, f1, ...
func New(t testing.TB, arch string, docker bool, contents ...string) Image {
	t.Helper()
	blobs := map[layer.Digest][]byte{}
	var layers []layer.Descriptor
	var ids []layer.Digest
	for i, content := range contents {
		raw := tarOf(t, fmt.Sprintf("f%d", i), content)
		packed := gzipOf(t, raw)
		b := layer.Descriptor{MediaType: layer.MediaTypeGzip, Digest: layer.FromBytes(packed), Size: int64(len(packed)), DiffID: layer.FromBytes(raw)}
		blobs[b.Digest] = packed
		layers, ids = append(layers, b), append(ids, b.DiffID)
	}
	config, err := json.Marshal(map[string]any{
		"architecture": arch, "os": "linux", "config": map[string]any{"Cmd": []string{"/f0"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": append([]layer.Digest{}, ids...)},
	})
	if err != nil {
		t.Fatal(err)
	}
	img, err := layer.NewImage(config, layers, nil, docker)
	if err != nil {
		t.Fatal(err)
	}
	return Image{img, blobs}
}

func tarOf(t testing.TB, name, content string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipOf(t testing.TB, raw []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A Server is an HTTP server on a loopback port that records its requests.
type Server struct {
	*httptest.Server
	Host string

	mu       sync.Mutex
	requests []string
}

// Serve starts a server that stops at the end of the test.
func Serve(t testing.TB, h http.Handler) *Server {
	t.Helper()
	s := &Server{}
	s.Server = httptest.NewUnstartedServer(s.noting(h))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	s.Host = s.Listener.Addr().String()
	return s
}

func (s *Server) noting(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
		s.mu.Unlock()
		h.ServeHTTP(w, r)
	})
}

// Requests returns the requests since the last call, without digests and upload ids.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.requests
	s.requests = nil
	for i, r := range all {
		r, _, _ = strings.Cut(r, "?")
		if before, _, ok := strings.Cut(r, "sha256:"); ok {
			r = before + "…"
		}
		if before, _, ok := strings.Cut(r, "/uploads/"); ok {
			r = before + "/uploads/"
		}
		all[i] = r
	}
	return all
}
