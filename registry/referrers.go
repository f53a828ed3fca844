package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
	"github.com/cairn-build/cairn/registry/transport"
)

const (
	maxReferrersPage  = 4 << 20 // bytes
	maxReferrersPages = 50
	fallbackTries     = 5 // to add an entry to a tag that others change too
)

// Referrer is the descriptor of a manifest whose subject is another manifest.
type Referrer struct {
	MediaType    string            `json:"mediaType"`
	Digest       layer.Digest      `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// Referrers returns the referrers of a manifest in the repository of ref. An artifact
// type other than "" selects those of that type. A registry without the referrers API is
// asked for the tag that clients maintain instead of it.
func (c *Client) Referrers(ctx context.Context, ref string, subject layer.Digest, artifactType string) ([]Referrer, error) {
	t, err := reference.Parse(ref)
	if err != nil {
		return nil, err
	}
	if err := subject.Validate(); err != nil {
		return nil, err
	}
	errNone := errors.New("no referrers") // of a mirror: the registry may have some
	found, err := fromFirst(ctx, c, t, func(e endpoint) ([]Referrer, error) {
		all, err := e.referrers(ctx, subject, artifactType)
		if err == nil && len(all) == 0 && e.IsMirror() {
			err = errNone
		}
		return all, err
	})
	if errors.Is(err, errNone) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list referrers of %s in %s: %w", subject, reference.Reference{Domain: t.Domain, Repo: t.Repo}, err)
	}
	return found, nil
}

// referrers asks the API, or else the fallback tag.
func (e endpoint) referrers(ctx context.Context, subject layer.Digest, artifactType string) ([]Referrer, error) {
	r := transport.Request{Method: http.MethodGet, Path: e.repo + "/referrers/" + string(subject), Repo: e.repo, Scopes: pullScope(e.repo)}
	if artifactType != "" {
		r.Query = url.Values{"artifactType": {artifactType}}
	}
	var all []Referrer
	for page := range maxReferrersPages {
		found, next, err := e.referrersPage(ctx, r)
		if err != nil && page == 0 && lacksReferrers(err) {
			all, err = e.fallbackReferrers(ctx, subject)
			return selectType(all, artifactType), err
		}
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
		if next == nil {
			return selectType(all, artifactType), nil
		}
		r.URL = next
	}
	return nil, fmt.Errorf("the list has more than %d pages", maxReferrersPages)
}

func selectType(all []Referrer, artifactType string) []Referrer {
	return slices.DeleteFunc(all, func(r Referrer) bool { return artifactType != "" && r.ArtifactType != artifactType })
}

// errNotIndex is the answer of a server that does not know the path of the API, such as a
// proxy's page.
var errNotIndex = errors.New("the answer is not an index")

func lacksReferrers(err error) bool {
	switch transport.Status(err) {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return true
	}
	return errors.Is(err, errNotIndex)
}

func (e endpoint) referrersPage(ctx context.Context, r transport.Request) (found []Referrer, next *url.URL, err error) {
	resp, err := e.Do(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxReferrersPage+1))
	if err != nil {
		return nil, nil, err
	}
	if len(raw) > maxReferrersPage {
		return nil, nil, fmt.Errorf("a page of the list has more than %d bytes", maxReferrersPage)
	}
	if found, err = parseReferrers(raw); err != nil {
		return nil, nil, err
	}
	link := resp.Header.Get("Link")
	target, rest, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !ok || !strings.Contains(rest, `rel="next"`) && !strings.Contains(rest, "rel=next") {
		return found, nil, nil
	}
	if next, err = resp.Request.URL.Parse(target); err != nil || next.Host != resp.Request.URL.Host || next.Scheme != resp.Request.URL.Scheme {
		return nil, nil, fmt.Errorf("the link to the next page leads to %.200q, which is not on the registry", target)
	}
	return found, next, nil
}

// parseReferrers parses an index of referrers.
func parseReferrers(raw []byte) ([]Referrer, error) {
	var x struct {
		MediaType string      `json:"mediaType"`
		Manifests *[]Referrer `json:"manifests"`
	}
	if err := layer.Unmarshal(raw, &x); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotIndex, err)
	}
	if x.Manifests == nil || x.MediaType != "" && x.MediaType != layer.MediaTypeIndex {
		return nil, errNotIndex
	}
	for _, m := range *x.Manifests {
		if err := m.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("index of referrers: %w", err)
		}
	}
	return *x.Manifests, nil
}

func fallbackTag(subject layer.Digest) string { return "sha256-" + subject.Hex() }

func (e endpoint) fallbackReferrers(ctx context.Context, subject layer.Digest) ([]Referrer, error) {
	_, raw, err := e.fetch(ctx, fallbackTag(subject), pullScope(e.repo))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found, err := parseReferrers(raw)
	if err != nil {
		return nil, fmt.Errorf("tag %s: %w", fallbackTag(subject), err)
	}
	return found, nil
}

// PutBlob uploads a small blob unless the repository has it, and returns its descriptor
// without a media type.
func (m *Manifests) PutBlob(ctx context.Context, content []byte) (layer.Descriptor, error) {
	b := layer.Descriptor{Digest: layer.FromBytes(content), Size: int64(len(content))}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	if err := m.repo.send(ctx, b, Source{Open: open}, func(int64) {}); err != nil {
		return b, m.wrap("push to", m.ref.Identifier(), fmt.Errorf("blob %s: %w", b.Digest, err))
	}
	return b, nil
}

// Attach uploads a manifest whose subject is another manifest. If the registry does not
// support referrers, Attach adds it to the tag for them.
func (m *Manifests) Attach(ctx context.Context, subject layer.Digest, r Referrer, raw []byte) error {
	repo := m.repo.repo
	resp, err := m.repo.Do(ctx, transport.Request{
		Method: http.MethodPut, Path: repo + "/manifests/" + string(r.Digest), Repo: repo, Scopes: m.scopes,
		Header: map[string]string{"Content-Type": r.MediaType}, Size: int64(len(raw)),
		Body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
	})
	if err != nil {
		return m.wrap("push", string(r.Digest), err)
	}
	resp.Body.Close()
	if layer.Digest(resp.Header.Get("OCI-Subject")) == subject {
		return nil
	}
	return m.wrap("push", fallbackTag(subject), m.addFallback(ctx, subject, r))
}

// addFallback adds r to the index that the tag for referrers refers to. Another client may
// replace the index at the same time, so addFallback looks again.
func (m *Manifests) addFallback(ctx context.Context, subject layer.Digest, r Referrer) error {
	entry, err := json.Marshal(r)
	if err != nil {
		return err
	}
	for range fallbackTries {
		x := struct {
			SchemaVersion int               `json:"schemaVersion"`
			MediaType     string            `json:"mediaType"`
			Manifests     []json.RawMessage `json:"manifests"`
			Annotations   map[string]string `json:"annotations,omitempty"`
		}{SchemaVersion: 2, MediaType: layer.MediaTypeIndex}
		_, raw, err := m.repo.fetch(ctx, fallbackTag(subject), m.scopes)
		if err == nil {
			var found []Referrer
			if found, err = parseReferrers(raw); err == nil {
				err = layer.Unmarshal(raw, &x)
			}
			if slices.ContainsFunc(found, func(have Referrer) bool { return have.Digest == r.Digest }) {
				return nil
			}
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		x.Manifests = append(x.Manifests, entry)
		if raw, err = json.Marshal(x); err != nil {
			return err
		}
		index := layer.Image{MediaType: layer.MediaTypeIndex, Digest: layer.FromBytes(raw), Manifest: raw}
		if err := m.repo.put(ctx, fallbackTag(subject), index); err != nil {
			return err
		}
	}
	return fmt.Errorf("others replaced the tag %d times: try again", fallbackTries)
}
