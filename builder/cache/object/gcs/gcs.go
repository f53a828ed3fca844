// Package gcs reads objects of Google Cloud Storage.
package gcs

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/cairn-build/cairn/builder/cache/object"
	"github.com/cairn-build/cairn/registry/auth/google"
	"github.com/cairn-build/cairn/registry/retry"
)

// Client is a client of one bucket.
type Client struct {
	object.Client
	bucket string
	base   string // URL of the service
	tokens *google.Tokens
}

// New returns a client. It sends no request. $STORAGE_EMULATOR_HOST is another server than
// Google's, as with Google's libraries.
func New(bucket string) *Client {
	c := &Client{bucket: bucket, base: cmp.Or(os.Getenv("STORAGE_EMULATOR_HOST"), "https://storage.googleapis.com")}
	if !strings.Contains(c.base, "://") {
		c.base = "http://" + c.base
	}
	c.HTTP = &http.Client{Transport: retry.Watched{RoundTripper: http.DefaultTransport.(*http.Transport).Clone()}}
	c.tokens = google.NewTokens(c.HTTP)
	return c
}

func (c *Client) String() string { return "gs://" + c.bucket }

// Get returns a reader of an object. Without credentials it asks for a public one. The
// caller closes the reader.
func (c *Client) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	token, missing := c.tokens.Get(ctx)
	failure := func(resp *http.Response) (error, bool) {
		switch resp.StatusCode {
		case http.StatusNotFound:
			return object.ErrNotFound, false
		case http.StatusUnauthorized, http.StatusForbidden:
			if missing != nil {
				return fmt.Errorf("status %d: %w", resp.StatusCode, missing), false
			}
			return fmt.Errorf("status %d: the credentials do not allow it", resp.StatusCode), false
		}
		return fmt.Errorf("status %d", resp.StatusCode), retry.Status(resp.StatusCode)
	}
	body, _, err := object.Get(ctx, "", "Range", func(header map[string]string) (*http.Response, error) {
		return c.Do(ctx, func() (*http.Request, error) {
			at := strings.TrimRight(c.base, "/") + "/storage/v1/b/" + url.PathEscape(c.bucket) + "/o/" + url.PathEscape(key) + "?alt=media"
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
			if err != nil {
				return nil, err
			}
			for name, value := range header {
				req.Header.Set(name, value)
			}
			if token != "" {
				req.Header.Set("Authorization", "Bearer "+token)
			}
			req.Header.Set("Accept-Encoding", "gzip") // the object as it is stored
			return req, nil
		}, failure)
	})
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", c, key, err)
	}
	return body, nil
}
