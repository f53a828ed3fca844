// Package gha is a client of the cache service of GitHub Actions. It supports both
// versions: that of github.com, which keeps the data in Azure Blob Storage, and the
// older one of GitHub Enterprise Server and of the Gitea and Forgejo runners.
//
// An entry has a key and is immutable. To store a value that changes, number its
// keys and look up the newest one with a prefix.
//
// Source: actions/toolkit, packages/cache; github.com/tonistiigi/go-actions-cache.
package gha

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/registry/retry"
)

var (
	// ErrNotFound means that there is no entry with a key.
	ErrNotFound = errors.New("no such entry")
	// ErrExists means that there is an entry with a key, or that one is being written.
	ErrExists = errors.New("the entry already exists")
)

// Options are the address and the credentials of the service. Empty fields are read
// from the environment of the job: ACTIONS_RESULTS_URL or ACTIONS_CACHE_URL, and
// ACTIONS_RUNTIME_TOKEN.
type Options struct {
	URL     string
	Token   string // a secret
	Version int    // 1 or 2; 0: depends on ACTIONS_CACHE_SERVICE_V2
	Client  *http.Client
}

// Cache is a client of the service. It is safe for concurrent use.
type Cache struct {
	base   string
	token  string
	v2     bool
	client *http.Client
}

// Entry is an entry in the service.
type Entry struct {
	Key string
	url string // signed, so a secret
}

// New returns a client. It sends no request.
func New(o Options) (*Cache, error) {
	c := &Cache{base: o.URL, token: o.Token, v2: o.Version == 2, client: o.Client}
	if o.Version == 0 {
		c.v2, _ = strconv.ParseBool(os.Getenv("ACTIONS_CACHE_SERVICE_V2"))
	}
	name := "ACTIONS_CACHE_URL"
	if c.v2 {
		name = "ACTIONS_RESULTS_URL"
	}
	if c.base == "" {
		c.base = os.Getenv(name)
	}
	if c.token == "" {
		c.token = os.Getenv("ACTIONS_RUNTIME_TOKEN")
	}
	if c.client == nil {
		c.client = &http.Client{Transport: retry.Watched{RoundTripper: http.DefaultTransport.(*http.Transport).Clone()}}
	}
	if c.base == "" || c.token == "" {
		return nil, fmt.Errorf("GitHub's cache needs %s and ACTIONS_RUNTIME_TOKEN, which GitHub sets for actions, not for run steps: "+
			"export them with crazy-max/ghaction-github-runtime, or set url and token", name)
	}
	if u, err := url.Parse(c.base); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("GitHub's cache: %.100q is not an http(s) URL", c.base)
	}
	c.base = strings.TrimRight(c.base, "/")
	return c, nil
}

// version is part of an entry's identity: entries with the same key and different
// versions are different entries.
var version = func() string {
	sum := sha256.Sum256([]byte("cairn 1"))
	return hex.EncodeToString(sum[:])
}()

// Find returns the entry with a key or, if newest is set, the newest one whose key
// has that prefix. If there is none, the error is ErrNotFound.
func (c *Cache) Find(ctx context.Context, key string, newest bool) (Entry, error) {
	e, err := c.find(ctx, key, newest)
	if err == nil && (e.Key == "" || !newest && e.Key != key || !strings.HasPrefix(e.Key, key)) {
		err = ErrNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("GitHub's cache, %s: %w", key, err)
	}
	return e, nil
}

func (c *Cache) find(ctx context.Context, key string, newest bool) (Entry, error) {
	if !c.v2 {
		var got struct {
			CacheKey        string
			ArchiveLocation string
		}
		q := url.Values{"keys": {key}, "version": {version}}
		err := c.call(ctx, "GET", "cache?"+q.Encode(), nil, &got)
		return Entry{got.CacheKey, got.ArchiveLocation}, err
	}
	in := struct {
		Key         string   `json:"key"`
		RestoreKeys []string `json:"restore_keys"`
		Version     string   `json:"version"`
	}{key, []string{}, version}
	if newest {
		in.RestoreKeys = append(in.RestoreKeys, key)
	}
	var got struct {
		OK  bool   `json:"ok"`
		URL string `json:"signed_download_url"`
		Key string `json:"matched_key"`
	}
	err := c.call(ctx, "POST", "GetCacheEntryDownloadURL", in, &got)
	if !got.OK {
		return Entry{}, err
	}
	return Entry{got.Key, got.URL}, err
}

// Save writes an entry of size bytes. It calls open again for each attempt. If the
// key exists, the error is ErrExists.
func (c *Cache) Save(ctx context.Context, key string, size int64, open func() (io.ReadCloser, error)) error {
	s := &sender{Cache: c, size: size, open: open}
	defer s.reset()
	id, err := c.reserve(ctx, key)
	if err == nil {
		if c.v2 {
			err = s.blocks(ctx, id)
		} else {
			err = s.chunks(ctx, id)
		}
	}
	if err == nil {
		err = c.commit(ctx, key, id, size)
	}
	if err != nil {
		return fmt.Errorf("GitHub's cache, %s: %w", key, err)
	}
	return nil
}

// reserve reserves a key. It returns a signed URL for the upload or, in version 1, an
// id.
func (c *Cache) reserve(ctx context.Context, key string) (string, error) {
	in := struct {
		Key     string `json:"key"`
		Version string `json:"version"`
	}{key, version}
	if !c.v2 {
		var got struct{ CacheID int64 }
		err := c.call(ctx, "POST", "caches", in, &got)
		if err == nil && got.CacheID == 0 {
			err = errors.New("cache service returned no id")
		}
		return strconv.FormatInt(got.CacheID, 10), err
	}
	var got struct {
		OK      bool   `json:"ok"`
		URL     string `json:"signed_upload_url"`
		Message string `json:"message"`
	}
	err := c.call(ctx, "POST", "CreateCacheEntry", in, &got)
	if err == nil && !got.OK {
		if strings.Contains(strings.ToLower(got.Message), "exist") {
			return "", ErrExists
		}
		err = fmt.Errorf("cache service rejected the key: %.300q", got.Message)
	}
	return got.URL, err
}

func (c *Cache) commit(ctx context.Context, key, id string, size int64) error {
	if !c.v2 {
		return c.call(ctx, "POST", "caches/"+id, map[string]int64{"size": size}, nil)
	}
	in := struct {
		Key     string `json:"key"`
		Size    string `json:"size_bytes"` // as protobuf writes an int64
		Version string `json:"version"`
	}{key, strconv.FormatInt(size, 10), version}
	var got struct {
		OK      bool   `json:"ok"`
		Message string `json:"message"`
	}
	err := c.call(ctx, "POST", "FinalizeCacheEntryUpload", in, &got)
	if err == nil && !got.OK {
		err = fmt.Errorf("cache service did not save the entry: %.300q", got.Message)
	}
	return err
}

// call sends a request to the service's API and decodes the response, if any.
func (c *Cache) call(ctx context.Context, method, path string, in, out any) error {
	at := c.base + "/_apis/artifactcache/" + path
	accept := "application/json;api-version=6.0-preview.1"
	if c.v2 {
		at = c.base + "/twirp/github.actions.results.api.v1.CacheService/" + path
		accept = "application/json"
	}
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	resp, err := c.do(ctx, func() (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+c.token)
		req.Header.Set("Accept", accept)
		if in != nil {
			req.Header.Set("Content-Type", "application/json")
		}
		return req, nil
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil || out == nil || len(bytes.TrimSpace(raw)) == 0 {
		return err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("parse the response of the cache service: %w", err)
	}
	return nil
}

const maxAnswer = 64 << 10

// do sends a request, and again after temporary errors. Errors do not contain the
// URL, which may be signed.
func (c *Cache) do(ctx context.Context, request func() (*http.Request, error)) (*http.Response, error) {
	for failed := 1; ; failed++ {
		req, err := request()
		if err != nil {
			return nil, err
		}
		req.Header.Set("User-Agent", "cairn")
		resp, err := c.client.Do(req)
		if err == nil && resp.StatusCode < 300 {
			return resp, nil
		}
		wait := retry.Wait(failed)
		var again bool
		if err, again = failure(resp, err); again && resp != nil {
			wait = max(wait, retry.After(resp.Header))
		}
		if !again || failed == retry.Tries || wait > retry.LongestAsk || ctx.Err() != nil {
			return nil, err
		}
		if err := retry.Sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// failure returns the error of a request, and reports whether to retry it. It closes
// the response.
func failure(resp *http.Response, err error) (error, bool) {
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err
		}
		return err, true
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
	switch {
	case resp.StatusCode == http.StatusConflict:
		return ErrExists, false
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return fmt.Errorf("status %s: the job's token has expired or has no access", resp.Status), false
	}
	return fmt.Errorf("status %s: %q", resp.Status, text), retry.Status(resp.StatusCode)
}
