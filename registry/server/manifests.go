package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"strings"

	"github.com/cairn-build/cairn/layer"
)

const maxManifest = 4 << 20

type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       layer.Digest      `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// manifest has the fields of an image manifest or an index that the registry needs.
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *descriptor       `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Manifests     []descriptor      `json:"manifests"`
	Subject       *descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

func (s *server) serveManifest(w http.ResponseWriter, r *http.Request, name, ref string) error {
	digest := layer.Digest(ref)
	if digest.Validate() != nil {
		digest = ""
		if !validTag(ref) {
			return failure{http.StatusBadRequest, "MANIFEST_INVALID", fmt.Sprintf("%.200q is neither tag nor digest", ref)}
		}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return s.getManifest(w, r, name, ref, digest)
	case http.MethodPut:
		return s.putManifest(w, r, name, ref, digest)
	case http.MethodDelete:
		return s.deleteManifest(w, name, ref, digest)
	}
	return notAllowed(r)
}

func (s *server) getManifest(w http.ResponseWriter, r *http.Request, name, ref string, d layer.Digest) error {
	if d == "" {
		b, err := os.ReadFile(s.repoPath(name, "_tags", ref))
		if err != nil || layer.Digest(b).Validate() != nil {
			return manifestUnknown(name, ref)
		}
		d = layer.Digest(b)
	}
	mediaType, err := os.ReadFile(s.repoPath(name, "_manifests", d.Hex()))
	if err != nil {
		return manifestUnknown(name, ref)
	}
	raw, err := os.ReadFile(s.blobPath(d))
	if err != nil {
		return manifestUnknown(name, ref)
	}
	h := w.Header()
	h.Set("Content-Type", string(mediaType))
	h.Set("Docker-Content-Digest", string(d))
	h.Set("ETag", `"`+string(d)+`"`)
	if strings.Contains(r.Header.Get("If-None-Match"), string(d)) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Length", fmt.Sprint(len(raw)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(raw) // an error means that the client is gone
	}
	return nil
}

func (s *server) putManifest(w http.ResponseWriter, r *http.Request, name, ref string, want layer.Digest) error {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxManifest))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return failure{http.StatusRequestEntityTooLarge, "SIZE_INVALID", fmt.Sprintf("manifest is larger than %d bytes", maxManifest)}
	}
	if err != nil {
		return failure{http.StatusBadRequest, "MANIFEST_INVALID", "the body ended early"}
	}
	d := layer.FromBytes(raw)
	if want != "" && d != want {
		return failure{http.StatusBadRequest, "DIGEST_INVALID", fmt.Sprintf("content has digest %s, want %s", d, want)}
	}
	m, mediaType, err := parseManifest(raw, r.Header.Get("Content-Type"))
	if err != nil {
		return failure{http.StatusBadRequest, "MANIFEST_INVALID", err.Error()}
	}
	s.storing.RLock()
	defer s.storing.RUnlock()
	if err := s.checkReferences(name, m); err != nil {
		return err
	}
	if err := s.storeManifest(name, d, raw, mediaType, m); err != nil {
		return err
	}
	if want == "" {
		if err := s.writeFile(s.repoPath(name, "_tags", ref), []byte(d)); err != nil {
			return err
		}
	}
	if m.Subject != nil {
		w.Header().Set("OCI-Subject", string(m.Subject.Digest)) // announces that referrers are supported
	}
	w.Header().Set("Location", "/v2/"+name+"/manifests/"+string(d))
	w.Header().Set("Docker-Content-Digest", string(d))
	w.WriteHeader(http.StatusCreated)
	return nil
}

func parseManifest(raw []byte, contentType string) (m manifest, mediaType string, err error) {
	if err := layer.Unmarshal(raw, &m); err != nil {
		return m, "", fmt.Errorf("not JSON: %w", err)
	}
	mediaType, _, _ = mime.ParseMediaType(contentType)
	switch {
	case mediaType == "":
		mediaType = m.MediaType
	case m.MediaType != "" && m.MediaType != mediaType:
		return m, "", fmt.Errorf("Content-Type is %s, but mediaType is %s", mediaType, m.MediaType)
	}
	switch {
	case m.SchemaVersion != 2:
		return m, "", fmt.Errorf("schema version %d, want 2", m.SchemaVersion)
	case mediaType == "":
		return m, "", errors.New("no media type")
	case m.Manifests != nil && (m.Config != nil || m.Layers != nil):
		return m, "", errors.New("it is both an image and an index")
	}
	for _, d := range m.references() {
		if err := d.Digest.Validate(); err != nil {
			return m, "", err
		}
	}
	return m, mediaType, nil
}

// references returns the descriptors of all blobs and manifests that m references.
func (m manifest) references() []descriptor {
	all := append(append([]descriptor{}, m.Layers...), m.Manifests...)
	if m.Config != nil {
		all = append(all, *m.Config)
	}
	if m.Subject != nil {
		all = append(all, *m.Subject)
	}
	return all
}

// checkReferences returns an error if the repository lacks a blob or a manifest
// that m references. Foreign layers and subjects may be missing.
func (s *server) checkReferences(name string, m manifest) error {
	blobs := m.Layers
	if m.Config != nil {
		blobs = append([]descriptor{*m.Config}, blobs...)
	}
	for _, b := range blobs {
		if len(b.URLs) == 0 && !s.hasBlob(name, b.Digest) {
			return failure{http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", "repository " + name + " has no blob " + string(b.Digest)}
		}
	}
	for _, child := range m.Manifests {
		if !s.hasManifest(name, child.Digest) {
			return failure{http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", "repository " + name + " has no manifest " + string(child.Digest)}
		}
	}
	return nil
}

func (s *server) storeManifest(name string, d layer.Digest, raw []byte, mediaType string, m manifest) error {
	old, err := os.ReadFile(s.blobPath(d))
	if err != nil || !bytes.Equal(old, raw) {
		if err := s.writeFile(s.blobPath(d), raw); err != nil {
			return err
		}
	}
	if m.Subject != nil {
		entry := descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw)), ArtifactType: m.ArtifactType, Annotations: m.Annotations}
		if entry.ArtifactType == "" && m.Config != nil {
			entry.ArtifactType = m.Config.MediaType
		}
		b, err := json.Marshal(entry)
		if err != nil {
			return err
		}
		if err := s.writeFile(s.repoPath(name, "_referrers", m.Subject.Digest.Hex(), d.Hex()), b); err != nil {
			return err
		}
	}
	return s.writeFile(s.repoPath(name, "_manifests", d.Hex()), []byte(mediaType))
}

func (s *server) deleteManifest(w http.ResponseWriter, name, ref string, d layer.Digest) error {
	s.storing.Lock()
	defer s.storing.Unlock()
	var err error
	if d == "" {
		err = os.Remove(s.repoPath(name, "_tags", ref))
	} else {
		err = s.removeManifest(name, d)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return manifestUnknown(name, ref)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// removeManifest removes d, the tags that refer to it, and its entry in the
// referrers of its subject.
func (s *server) removeManifest(name string, d layer.Digest) error {
	raw, _ := os.ReadFile(s.blobPath(d))
	if err := os.Remove(s.repoPath(name, "_manifests", d.Hex())); err != nil {
		return err
	}
	tags, err := os.ReadDir(s.repoPath(name, "_tags"))
	if ignoreMissing(err) != nil {
		return err
	}
	for _, tag := range tags {
		path := s.repoPath(name, "_tags", tag.Name())
		if b, err := os.ReadFile(path); err == nil && layer.Digest(b) == d {
			if err := ignoreMissing(os.Remove(path)); err != nil {
				return err
			}
		}
	}
	var m manifest
	if json.Unmarshal(raw, &m) == nil && m.Subject != nil && m.Subject.Digest.Validate() == nil {
		if err := ignoreMissing(os.Remove(s.repoPath(name, "_referrers", m.Subject.Digest.Hex(), d.Hex()))); err != nil {
			return err
		}
	}
	return s.dropUnlinked(d)
}

func manifestUnknown(name, ref string) error {
	return failure{http.StatusNotFound, "MANIFEST_UNKNOWN", "repository " + name + " has no manifest " + ref}
}
