// Package fake is a fake of GitHub's cache service for tests: both versions, with
// their blob storage.
package fake

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Token is the token that the service accepts.
const Token = "job-token"

// Service is a cache service. The zero value is ready.
type Service struct {
	// Fault, if set, returns a status for request n, counted from 1. The service
	// responds with it or, if it is below 100, cuts its response after so many bytes;
	// 0 is no fault.
	Fault func(n int, r *http.Request) int

	mu       sync.Mutex
	requests int
	entries  []*entry // oldest first
}

type entry struct {
	key, version string
	done         bool
	data         []byte
	blocks       map[string][]byte
}

// Keys returns the keys of the complete entries, oldest first.
func (s *Service) Keys() (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if e.done {
			keys = append(keys, e.key)
		}
	}
	return keys
}

// Drop removes the entries whose keys have a prefix, as the service does with unused
// entries.
func (s *Service) Drop(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if strings.HasPrefix(e.key, prefix) {
			e.done, e.key = false, "dropped"
		}
	}
}

// Damage changes a byte of each entry whose key has a prefix.
func (s *Service) Damage(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if strings.HasPrefix(e.key, prefix) && len(e.data) > 0 {
			e.data[len(e.data)/2] ^= 1
		}
	}
}

// Version returns the version of the newest entry.
func (s *Service) Version() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries[len(s.entries)-1].version
}

// Reserve reserves a key for an entry that is never completed.
func (s *Service) Reserve(key, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = append(s.entries, &entry{key: key, version: version})
}

func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests++
	n := s.requests
	s.mu.Unlock()
	if s.Fault != nil {
		if status := s.Fault(n, r); status >= 100 {
			w.WriteHeader(status)
			return
		} else if status > 0 {
			w = &torn{w, status}
		}
	}
	own := !strings.HasPrefix(r.URL.Path, "/blob/")
	if token := r.Header.Get("Authorization"); own && token != "Bearer "+Token || !own && (token != "" || r.URL.Query().Get("sig") != "secret") {
		w.WriteHeader(http.StatusForbidden) // requests to the blob storage must not have the token
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || int64(len(body)) != r.ContentLength {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	path := r.URL.Path
	if rest, ok := strings.CutPrefix(path, "/twirp/github.actions.results.api.v1.CacheService/"); ok {
		s.second(w, r, rest, body)
	} else if rest, ok := strings.CutPrefix(path, "/_apis/artifactcache/"); ok {
		s.first(w, r, rest, body)
	} else {
		s.blob(w, r, body)
	}
}

// torn aborts a response after some bytes.
type torn struct {
	http.ResponseWriter
	left int
}

func (t *torn) Write(p []byte) (int, error) {
	if t.left < len(p) {
		t.ResponseWriter.Write(p[:t.left])
		panic(http.ErrAbortHandler)
	}
	t.left -= len(p)
	return t.ResponseWriter.Write(p)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func (s *Service) reserve(key, version string) (id int, ok bool) {
	if slices.ContainsFunc(s.entries, func(e *entry) bool { return e.key == key && e.version == version }) {
		return 0, false
	}
	s.entries = append(s.entries, &entry{key: key, version: version, blocks: map[string][]byte{}})
	return len(s.entries), true
}

// newest returns the newest entry with one of the keys or, if prefix is set, with one
// of them as the prefix of its key.
func (s *Service) newest(version string, keys []string, prefix bool) (int, *entry) {
	for _, key := range keys {
		for i, e := range slices.Backward(s.entries) {
			if e.done && e.version == version && (e.key == key || prefix && strings.HasPrefix(e.key, key)) {
				return i + 1, e
			}
		}
	}
	return 0, nil
}

func blobURL(r *http.Request, id int) string {
	return fmt.Sprintf("http://%s/blob/%d?sig=secret", r.Host, id)
}

func (s *Service) second(w http.ResponseWriter, r *http.Request, method string, body []byte) {
	var in struct {
		Key         string
		Version     string
		RestoreKeys []string `json:"restore_keys"`
		Size        string   `json:"size_bytes"`
	}
	if err := json.Unmarshal(body, &in); err != nil || r.Method != "POST" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	switch method {
	case "CreateCacheEntry":
		id, ok := s.reserve(in.Key, in.Version)
		if !ok {
			answer(w, http.StatusConflict, map[string]string{"code": "already_exists"})
			return
		}
		answer(w, http.StatusOK, map[string]any{"ok": true, "signed_upload_url": blobURL(r, id)})
	case "FinalizeCacheEntryUpload":
		i := slices.IndexFunc(s.entries, func(e *entry) bool { return e.key == in.Key && e.version == in.Version })
		ok := i >= 0 && strconv.Itoa(len(s.entries[i].data)) == in.Size
		if ok {
			s.finish(i)
		}
		answer(w, http.StatusOK, map[string]any{"ok": ok, "entry_id": "1"})
	case "GetCacheEntryDownloadURL":
		id, e := s.newest(in.Version, []string{in.Key}, false)
		if e == nil {
			id, e = s.newest(in.Version, in.RestoreKeys, true)
		}
		if e == nil {
			answer(w, http.StatusOK, map[string]any{"ok": false})
			return
		}
		answer(w, http.StatusOK, map[string]any{"ok": true, "signed_download_url": blobURL(r, id), "matched_key": e.key})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// finish completes an entry, which keeps its position.
func (s *Service) finish(i int) { s.entries[i].done = true }

func (s *Service) first(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	id, _ := strconv.Atoi(strings.TrimPrefix(path, "caches/"))
	switch {
	case path == "cache" && r.Method == "GET":
		id, e := s.newest(r.URL.Query().Get("version"), strings.Split(r.URL.Query().Get("keys"), ","), true)
		if e == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		answer(w, http.StatusOK, map[string]any{"cacheKey": e.key, "archiveLocation": blobURL(r, id)})
	case path == "caches" && r.Method == "POST":
		var in struct{ Key, Version string }
		if json.Unmarshal(body, &in) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		id, ok := s.reserve(in.Key, in.Version)
		if !ok {
			answer(w, http.StatusConflict, map[string]string{"message": "Cache already exists"})
			return
		}
		answer(w, http.StatusCreated, map[string]int{"cacheId": id})
	case id < 1 || id > len(s.entries) || s.entries[id-1].done:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == "PATCH":
		var from, to int
		e := s.entries[id-1]
		if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-%d/*", &from, &to); err != nil || to-from+1 != len(body) || from > len(e.data) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		e.data = append(e.data[:from], body...)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == "POST":
		var in struct{ Size int }
		if json.Unmarshal(body, &in) != nil || in.Size != len(s.entries[id-1].data) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.finish(id - 1)
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

// blob serves the blob storage: uploads of block blobs, and downloads of ranges.
func (s *Service) blob(w http.ResponseWriter, r *http.Request, body []byte) {
	id, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/blob/"))
	if id < 1 || id > len(s.entries) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	e, q := s.entries[id-1], r.URL.Query()
	switch {
	case r.Method == "GET":
		data := e.data
		var from int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil && from <= len(data) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
			w.Header().Set("Content-Length", strconv.Itoa(len(data)-from))
			w.WriteHeader(http.StatusPartialContent)
			data = data[from:]
		} else {
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		}
		w.Write(data)
	case r.Method != "PUT" || e.done || r.Header.Get("x-ms-version") == "":
		w.WriteHeader(http.StatusBadRequest)
	case q.Get("comp") == "block":
		e.blocks[q.Get("blockid")] = body
		w.WriteHeader(http.StatusCreated)
	case q.Get("comp") == "blocklist":
		var list struct{ Latest []string }
		if xml.Unmarshal(body, &list) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		e.data = nil
		for _, id := range list.Latest {
			e.data = append(e.data, e.blocks[id]...)
		}
		w.WriteHeader(http.StatusCreated)
	case r.Header.Get("x-ms-blob-type") == "BlockBlob":
		e.data = body
		w.WriteHeader(http.StatusCreated)
	default:
		w.WriteHeader(http.StatusBadRequest)
	}
}
