package gha

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/cairn-build/cairn/registry/retry"
)

// blockSize is the number of bytes in one request of an upload.
const blockSize = 32 << 20

// sender uploads one entry.
type sender struct {
	*Cache
	size int64
	open func() (io.ReadCloser, error)

	body io.ReadCloser
	at   int64 // offset of body
}

func (s *sender) reset() {
	if s.body != nil {
		s.body.Close()
		s.body = nil
	}
}

// from returns a reader of n bytes at off. It invalidates the previous one.
func (s *sender) from(off, n int64) (io.Reader, error) {
	if s.body == nil || s.at != off {
		s.reset()
		body, err := s.open()
		if err != nil {
			return nil, err
		}
		s.body, s.at = body, off
		if _, err := io.CopyN(io.Discard, body, off); err != nil {
			return nil, err
		}
	}
	return &part{s, n}, nil
}

// part reads the next bytes of the sender's body.
type part struct {
	s    *sender
	left int64
}

func (p *part) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n, err := p.s.body.Read(b[:min(int64(len(b)), p.left)])
	p.left -= int64(n)
	p.s.at += int64(n)
	if errors.Is(err, io.EOF) && p.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// send sends a request with n bytes from off.
func (s *sender) send(ctx context.Context, method, at string, off, n int64, header map[string]string) error {
	resp, err := s.do(ctx, func() (*http.Request, error) {
		body, err := s.from(off, n)
		if err != nil {
			return nil, err
		}
		req, err := http.NewRequestWithContext(ctx, method, at, io.NopCloser(body))
		if err != nil {
			return nil, err
		}
		req.ContentLength = n
		if n == 0 {
			req.Body = http.NoBody
		}
		req.Header.Set("Content-Type", "application/octet-stream")
		for name, value := range header {
			req.Header.Set(name, value)
		}
		return req, nil
	})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// chunks uploads with version 1 of the service: one PATCH for each block.
func (s *sender) chunks(ctx context.Context, id string) error {
	header := map[string]string{"Authorization": "Bearer " + s.token, "Accept": "application/json;api-version=6.0-preview.1"}
	for off := int64(0); off < s.size; off += blockSize {
		n := min(blockSize, s.size-off)
		header["Content-Range"] = fmt.Sprintf("bytes %d-%d/*", off, off+n-1)
		if err := s.send(ctx, "PATCH", s.base+"/_apis/artifactcache/caches/"+id, off, n, header); err != nil {
			return err
		}
	}
	return nil
}

// azureVersion is the version of the Azure Blob Storage protocol.
const azureVersion = "2021-12-02"

// blocks uploads to Azure Blob Storage: with one request, or as blocks and a list of
// them.
// Source: learn.microsoft.com/rest/api/storageservices, Put Blob, Put Block and
// Put Block List.
func (s *sender) blocks(ctx context.Context, signed string) error {
	if err := s.check(signed); err != nil {
		return err
	}
	if s.size <= blockSize {
		return s.send(ctx, "PUT", signed, 0, s.size, map[string]string{"x-ms-blob-type": "BlockBlob", "x-ms-version": azureVersion})
	}
	var list strings.Builder
	list.WriteString(`<?xml version="1.0" encoding="utf-8"?><BlockList>`)
	header := map[string]string{"x-ms-version": azureVersion}
	for off := int64(0); off < s.size; off += blockSize {
		id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%016d", off))
		at, err := with(signed, url.Values{"comp": {"block"}, "blockid": {id}})
		if err == nil {
			err = s.send(ctx, "PUT", at, off, min(blockSize, s.size-off), header)
		}
		if err != nil {
			return err
		}
		list.WriteString("<Latest>" + id + "</Latest>")
	}
	list.WriteString("</BlockList>")
	at, err := with(signed, url.Values{"comp": {"blocklist"}})
	if err != nil {
		return err
	}
	end := &sender{Cache: s.Cache, size: int64(list.Len()), open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(list.String())), nil
	}}
	defer end.reset()
	return end.send(ctx, "PUT", at, 0, end.size, header)
}

// check returns an error for a URL from the service that is malformed or less secure
// than the service's own.
func (c *Cache) check(signed string) error {
	u, err := url.Parse(signed)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || strings.HasPrefix(c.base, "https:")) {
		return errors.New("cache service returned no usable URL")
	}
	return nil
}

// with adds parameters to a signed URL without changing the existing ones.
func with(signed string, more url.Values) (string, error) {
	u, err := url.Parse(signed)
	if err != nil {
		return "", errors.New("cache service returned no usable URL")
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += more.Encode()
	return u.String(), nil
}

// Open returns a reader of an entry, which resumes interrupted transfers. The content
// is not verified. The caller closes the reader.
func (c *Cache) Open(ctx context.Context, e Entry) (io.ReadCloser, error) {
	if err := c.check(e.url); err != nil {
		return nil, fmt.Errorf("GitHub's cache, %s: %w", e.Key, err)
	}
	r := &receiver{Cache: c, ctx: ctx, e: e}
	return r, r.connect()
}

type receiver struct {
	*Cache
	ctx    context.Context
	e      Entry
	body   io.ReadCloser
	at     int64
	good   int // bytes since the last failure
	failed int
}

// goodProgress is the number of bytes after which the failures of a transfer count from
// zero again.
const goodProgress = 1 << 20

func (r *receiver) connect() error {
	resp, err := r.do(r.ctx, func() (*http.Request, error) {
		req, err := http.NewRequestWithContext(r.ctx, "GET", r.e.url, nil)
		if err != nil {
			return nil, err
		}
		if r.at > 0 {
			req.Header.Set("Range", fmt.Sprintf("bytes=%d-", r.at))
		}
		return req, nil
	})
	if err != nil {
		return fmt.Errorf("GitHub's cache, %s: %w", r.e.Key, err)
	}
	if r.at > 0 && resp.StatusCode != http.StatusPartialContent {
		if _, err := io.CopyN(io.Discard, resp.Body, r.at); err != nil {
			resp.Body.Close()
			return fmt.Errorf("GitHub's cache, %s: %w", r.e.Key, err)
		}
	}
	r.body = resp.Body
	return nil
}

func (r *receiver) Read(b []byte) (int, error) {
	for {
		n, err := r.body.Read(b)
		r.at += int64(n)
		if err == nil || errors.Is(err, io.EOF) || n > 0 {
			if r.good += n; r.good >= goodProgress {
				r.failed, r.good = 0, 0
			}
			if n > 0 {
				if !errors.Is(err, io.EOF) {
					err = nil // the next Read returns it again
				}
			}
			return n, err
		}
		r.good = 0
		if r.failed++; r.failed == retry.Tries || r.ctx.Err() != nil {
			return 0, err
		}
		if err := retry.Sleep(r.ctx, retry.Wait(r.failed)); err != nil {
			return 0, err
		}
		r.body.Close()
		if err := r.connect(); err != nil {
			return 0, err
		}
	}
}

func (r *receiver) Close() error { return r.body.Close() }
