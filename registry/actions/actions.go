// Package actions is a client of the cache service that GitHub Actions lends to a
// job, in both of its versions: the one of github.com, whose bytes lie in Azure's
// blob store, and the older one, which GitHub's server for enterprises and the
// runners of Gitea and Forgejo have.
//
// An entry has a key and is never changed. Whoever needs a value that changes
// numbers its keys, and asks for the newest with a prefix.
//
// Source: actions/toolkit, packages/cache; github.com/tonistiigi/go-actions-cache.
package actions

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
	// ErrNone says that no entry has a key.
	ErrNone = errors.New("no entry")
	// ErrExists says that an entry has that key, or is being made.
	ErrExists = errors.New("the entry exists")
)

// Options say where the service is. What is empty comes from the environment of
// the job: ACTIONS_RESULTS_URL or ACTIONS_CACHE_URL, and ACTIONS_RUNTIME_TOKEN.
type Options struct {
	URL     string
	Token   string // a secret
	Version int    // 1 or 2; 0: as ACTIONS_CACHE_SERVICE_V2 says
	Client  *http.Client
}

// Cache is a job's cache. It may be used concurrently.
type Cache struct {
	base   string
	token  string
	v2     bool
	client *http.Client
}

// Entry is a value that the service has.
type Entry struct {
	Key string
	url string // signed, so a secret
}

// New makes a client. It sends nothing.
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
		c.client = &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	}
	if c.base == "" || c.token == "" {
		return nil, fmt.Errorf("GitHub's cache needs %s and ACTIONS_RUNTIME_TOKEN, which GitHub gives to actions, not to run steps: "+
			"let a step with crazy-max/ghaction-github-runtime export them, or set url and token", name)
	}
	if u, err := url.Parse(c.base); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("GitHub's cache: the address %.100q is no URL", c.base)
	}
	c.base = strings.TrimRight(c.base, "/")
	return c, nil
}

// version tells the service what entries are alike: those of one key and another
// version are different entries.
var version = func() string {
	sum := sha256.Sum256([]byte("cairn 1"))
	return hex.EncodeToString(sum[:])
}()

// Find gives the entry with a key or, if newest, the newest one whose key begins so.
// None is ErrNone.
func (c *Cache) Find(ctx context.Context, key string, newest bool) (Entry, error) {
	e, err := c.find(ctx, key, newest)
	if err == nil && (e.Key == "" || !newest && e.Key != key || !strings.HasPrefix(e.Key, key)) {
		err = ErrNone
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

// Save makes an entry of size bytes. open is called anew for each attempt. When a
// key is taken the error is ErrExists.
func (c *Cache) Save(ctx context.Context, key string, size int64, open func() (io.ReadCloser, error)) error {
	s := &sender{Cache: c, size: size, open: open}
	defer s.close()
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

// reserve gives where the bytes go: a signed URL, or a number.
func (c *Cache) reserve(ctx context.Context, key string) (string, error) {
	in := struct {
		Key     string `json:"key"`
		Version string `json:"version"`
	}{key, version}
	if !c.v2 {
		var got struct{ CacheID int64 }
		err := c.call(ctx, "POST", "caches", in, &got)
		if err == nil && got.CacheID == 0 {
			err = errors.New("the service gives no number for it")
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
		err = fmt.Errorf("it is not taken: %.300q", got.Message)
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
		err = fmt.Errorf("it is not kept: %.300q", got.Message)
	}
	return err
}

// call sends a question of the service's own and decodes the answer, if there is one.
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
		return fmt.Errorf("the service's answer: %w", err)
	}
	return nil
}

const maxAnswer = 64 << 10

// do sends a request until it is answered with success, or for good. What fails is
// told without its URL, which may be signed.
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
		if err, again = trouble(resp, err); again && resp != nil {
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

// trouble says what went wrong with a request, closes the answer, and tells
// whether to ask again.
func trouble(resp *http.Response, err error) (error, bool) {
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
		return fmt.Errorf("status %s: the job's token has expired or has no rights here", resp.Status), false
	}
	return fmt.Errorf("status %s: %q", resp.Status, text), retry.Status(resp.StatusCode)
}
