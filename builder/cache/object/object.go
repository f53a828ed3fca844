// Package object describes stores of objects under keys, such as S3, in which caches
// can be, and has the requests that their clients have in common.
package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/cairn-build/cairn/registry/retry"
)

var (
	// ErrNotFound means that there is no object with a key.
	ErrNotFound = errors.New("no such object")
	// ErrUnchanged means that an object still has the tag that the caller knows.
	ErrUnchanged = errors.New("the object has not changed")
	// ErrChanged means that an object does not have the tag that a write requires.
	ErrChanged = errors.New("the object has changed")
)

// Store is a store of objects. It is safe for concurrent use.
type Store interface {
	// Get returns a reader of an object, whose content is not verified. If the object
	// has the tag known, the error is ErrUnchanged.
	Get(ctx context.Context, key, known string) (io.ReadCloser, Info, error)
	Stat(ctx context.Context, key string) (Info, error)
	// Put writes an object. Unless require is "", the object must have that tag, or must
	// not exist if it is [Absent]; otherwise the error is ErrChanged. Servers that
	// know no conditions ignore it.
	Put(ctx context.Context, key string, c Content, require string) error
	// Touch sets the time of an object to now.
	Touch(ctx context.Context, key string, i Info) error
	String() string
}

// Absent is the required tag of an object that does not exist.
const Absent = "*"

// Info describes an object.
type Info struct {
	Tag      string // changes with the content
	Size     int64
	Modified time.Time
}

// InfoOf returns the description of an object in a response.
func InfoOf(resp *http.Response) Info {
	modified, _ := http.ParseTime(resp.Header.Get("Last-Modified"))
	return Info{Tag: resp.Header.Get("ETag"), Size: resp.ContentLength, Modified: modified}
}

// Condition returns the header of a write with a requirement of [Store.Put].
func Condition(require string) map[string]string {
	switch require {
	case "":
		return map[string]string{}
	case Absent:
		return map[string]string{"If-None-Match": "*"}
	}
	return map[string]string{"If-Match": require}
}

// Get implements [Store.Get] with send, which sends a request for the object with a
// header. rangeKey is the name of the field for a range of bytes.
func Get(ctx context.Context, known, rangeKey string, send func(header map[string]string) (*http.Response, error)) (io.ReadCloser, Info, error) {
	header := map[string]string{}
	if known != "" {
		header["If-None-Match"] = known
	}
	resp, err := send(header)
	if err != nil {
		return nil, Info{}, err
	}
	info := InfoOf(resp)
	return NewReader(ctx, resp.Body, info.Size, func(off int64) (io.ReadCloser, error) {
		resp, err := send(map[string]string{rangeKey: fmt.Sprintf("bytes=%d-", off), "If-Match": info.Tag})
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusPartialContent { // the whole object
			if _, err := io.CopyN(io.Discard, resp.Body, off); err != nil {
				return nil, errors.Join(err, resp.Body.Close())
			}
		}
		return resp.Body, nil
	}), info, nil
}

// Content is the content of an object to write.
type Content struct {
	Size   int64
	SHA256 string // in hexadecimal
	Open   func() (io.ReadCloser, error)
}

// Client sends requests, and sends them again after temporary errors.
type Client struct {
	HTTP  *http.Client
	Tries int // at most; 0: the usual number
}

// Fail returns the error of a response, and reports whether to send the request again.
type Fail func(*http.Response) (err error, again bool)

// Do sends a request until it succeeds, which a status below 300 means. It calls request
// for each attempt. An error of reading the body of a request, which is a [Body], is
// returned at once. Errors do not contain the URL.
func (c *Client) Do(ctx context.Context, request func() (*http.Request, error), fail Fail) (*http.Response, error) {
	tries := c.Tries
	if tries == 0 {
		tries = retry.Tries
	}
	for failed := 1; ; failed++ {
		req, err := request()
		if err != nil {
			return nil, err
		}
		req.Header.Set("User-Agent", "cairn")
		resp, err := c.HTTP.Do(req)
		wait, again, own := retry.Wait(failed), true, (*bodyError)(nil)
		switch u := (*url.Error)(nil); {
		case err == nil && resp.StatusCode < 300:
			return resp, nil
		case err == nil:
			wait = max(wait, retry.After(resp.Header))
			err, again = fail(resp)
			resp.Body.Close()
		case errors.As(err, &own):
			return nil, own.error
		case errors.As(err, &u):
			err = u.Err
		}
		if !again || failed >= tries || wait > retry.LongestAsk || ctx.Err() != nil {
			return nil, err
		}
		if err := retry.Sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// Body is the body of a request.
type Body struct{ io.ReadCloser }

// bodyError is an error of reading a body.
type bodyError struct{ error }

func (b Body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &bodyError{err}
	}
	return n, err
}

// NewReader returns a reader of size bytes that begins with body. After an interruption
// it continues with from, which returns the bytes from an offset on.
func NewReader(ctx context.Context, body io.ReadCloser, size int64, from func(off int64) (io.ReadCloser, error)) io.ReadCloser {
	return &reader{ctx: ctx, body: body, size: size, from: from}
}

type reader struct {
	ctx    context.Context
	body   io.ReadCloser
	size   int64
	from   func(off int64) (io.ReadCloser, error)
	at     int64
	failed int
}

func (r *reader) Read(b []byte) (int, error) {
	for {
		n, err := r.body.Read(b)
		r.at += int64(n)
		if n > 0 {
			r.failed = 0
			return n, nil // the next Read returns the error again
		}
		if err == nil || errors.Is(err, io.EOF) && r.at >= r.size {
			return 0, err
		}
		if r.failed++; r.failed == retry.Tries || r.ctx.Err() != nil {
			return 0, err
		}
		if err := retry.Sleep(r.ctx, retry.Wait(r.failed)); err != nil {
			return 0, err
		}
		r.body.Close()
		if r.body, err = r.from(r.at); err != nil {
			r.body = io.NopCloser(errReader{err})
			return 0, err
		}
	}
}

func (r *reader) Close() error { return r.body.Close() }

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
