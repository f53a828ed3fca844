package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"

	"github.com/cairn-build/cairn/layer"
)

func (s *server) tags(w http.ResponseWriter, r *http.Request, name string) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return notAllowed(r)
	}
	entries, err := os.ReadDir(s.repoPath(name, "_tags"))
	if ignoreMissing(err) != nil {
		return err
	}
	if err != nil && !exists(s.repoPath(name, "_layers")) && !exists(s.repoPath(name, "_manifests")) {
		return failure{http.StatusNotFound, "NAME_UNKNOWN", "no repository " + name}
	}
	tags := make([]string, 0, len(entries))
	for _, e := range entries {
		tags = append(tags, e.Name())
	}
	tags, err = page(w, r, tags)
	if err != nil {
		return err
	}
	return writeJSON(w, r, "application/json", map[string]any{"name": name, "tags": tags})
}

func (s *server) catalog(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return notAllowed(r)
	}
	names, err := s.repositories()
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		entries, _ := os.ReadDir(s.repoPath(name, "_manifests"))
		return len(entries) == 0
	})
	names, err = page(w, r, names)
	if err != nil {
		return err
	}
	return writeJSON(w, r, "application/json", map[string]any{"repositories": names})
}

// page sorts all and returns the part that the query selects by n and last. It
// sets the link to the next page.
func page(w http.ResponseWriter, r *http.Request, all []string) ([]string, error) {
	slices.Sort(all)
	q := r.URL.Query()
	if last := q.Get("last"); last != "" {
		i, found := slices.BinarySearch(all, last)
		if found {
			i++
		}
		all = all[i:]
	}
	if !q.Has("n") {
		return append([]string{}, all...), nil
	}
	n, err := strconv.Atoi(q.Get("n"))
	if err != nil || n < 0 {
		return nil, failure{http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", fmt.Sprintf("n=%.50q", q.Get("n"))}
	}
	if n < len(all) {
		all = all[:n]
		if n > 0 {
			next := url.Values{"n": {strconv.Itoa(n)}, "last": {all[n-1]}}
			w.Header().Set("Link", "<"+r.URL.Path+"?"+next.Encode()+`>; rel="next"`)
		}
	}
	return append([]string{}, all...), nil
}

// referrers answers with an index of the manifests whose subject is d, which may
// be empty.
func (s *server) referrers(w http.ResponseWriter, r *http.Request, name string, d layer.Digest) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return notAllowed(r)
	}
	if err := validDigest(d); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.repoPath(name, "_referrers", d.Hex()))
	if ignoreMissing(err) != nil {
		return err
	}
	kind := r.URL.Query().Get("artifactType")
	found := []descriptor{}
	for _, e := range entries {
		b, err := os.ReadFile(s.repoPath(name, "_referrers", d.Hex(), e.Name()))
		var one descriptor
		if err != nil || json.Unmarshal(b, &one) != nil || kind != "" && one.ArtifactType != kind {
			continue
		}
		found = append(found, one)
	}
	if kind != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return writeJSON(w, r, layer.MediaTypeIndex, map[string]any{
		"schemaVersion": 2, "mediaType": layer.MediaTypeIndex, "manifests": found,
	})
}
