// Package azblob is a client of Azure Blob Storage. It reads and writes single blobs of
// one container.
package azblob

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/cache/object"
	"github.com/cairn-build/cairn/registry/auth/azure"
	"github.com/cairn-build/cairn/registry/retry"
)

// Options are the address of a container and the credentials. Empty fields come from the
// environment or from the machine.
type Options struct {
	URL       string // of the account; its query may be a shared access signature
	Account   string // its name
	Container string
	Key       string            // of the account, base64; secret
	Transport http.RoundTripper // nil: a default
	HTTP      *http.Client      // nil: one with the transport
}

// Client is a client of one container. It implements [object.Store].
type Client struct {
	object.Client
	base      *url.URL // of the container
	signature url.Values
	account   string
	container string
	key       []byte // nil: none
	tokens    *azure.Tokens
}

// DefaultContainer is BuildKit's container.
const DefaultContainer = "buildkit-cache"

// New returns a client. It sends no request.
func New(o Options) (*Client, error) {
	text := cmp.Or(o.URL, os.Getenv("BUILDKIT_AZURE_STORAGE_ACCOUNT_URL"))
	if text == "" {
		return nil, errors.New("type=azblob needs the URL of an account: set account_url or $BUILDKIT_AZURE_STORAGE_ACCOUNT_URL")
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
		return nil, errors.New("type=azblob: account_url is not an http(s) URL")
	}
	host, _, _ := strings.Cut(u.Hostname(), ".")
	c := &Client{
		base: u, signature: u.Query(),
		account:   cmp.Or(o.Account, os.Getenv("BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME"), host),
		container: cmp.Or(o.Container, os.Getenv("BUILDKIT_AZURE_STORAGE_CONTAINER"), DefaultContainer),
	}
	if strings.ContainsAny(c.container, "/?#%\\ ") {
		return nil, fmt.Errorf("type=azblob: %q is not the name of a container", c.container)
	}
	u.RawQuery = ""
	u.Path = strings.TrimRight(u.Path, "/") + "/" + c.container
	if o.Key != "" {
		if c.key, err = base64.StdEncoding.DecodeString(o.Key); err != nil {
			return nil, errors.New("type=azblob: secret_access_key is not base64")
		}
	}
	c.HTTP = o.HTTP
	if o.Transport == nil {
		o.Transport = retry.Watched{RoundTripper: http.DefaultTransport.(*http.Transport).Clone()}
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{
			Transport:     o.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	c.tokens = azure.NewTokens(azure.Storage, c.HTTP)
	c.tokens.Hint = "set secret_access_key, give account_url a shared access signature, or "
	return c, nil
}

func (c *Client) String() string { return "azblob://" + c.account + "/" + c.container }

// request describes a request for a blob or, without a key, the container.
type request struct {
	method, key string
	query       url.Values
	header      map[string]string
	size        int64
	body        func() (io.ReadCloser, error)
}

// version is that of the protocol.
const version = "2021-12-02"

// do sends a request. Errors name the blob.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	resp, err := c.Do(ctx, func() (*http.Request, error) { return c.authorized(ctx, r) }, failure)
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", c, r.key, err)
	}
	return resp, nil
}

func (c *Client) authorized(ctx context.Context, r request) (*http.Request, error) {
	u := *c.base
	if r.key != "" {
		u.Path += "/" + r.key
	}
	query := url.Values{}
	for _, values := range []url.Values{r.query, c.signature} {
		for name, v := range values {
			query[name] = v
		}
	}
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	req.Header.Set("X-Ms-Version", version)
	req.Header.Set("X-Ms-Date", time.Now().UTC().Format(http.TimeFormat))
	req.Header.Set("Accept-Encoding", "identity") // layers are not to be unpacked
	if r.body != nil && r.size > 0 {
		body, err := r.body()
		if err != nil {
			return nil, err
		}
		req.Body, req.ContentLength = object.Body{ReadCloser: body}, r.size
	}
	switch {
	case c.key != nil:
		sign(req, c.account, c.key)
	case c.signature.Get("sig") != "":
	default:
		token, err := c.tokens.Get(ctx)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

// Error is an error that the service reports.
type Error struct {
	Status int
	Code   string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("status %d %s", e.Status, e.Code)
	if e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized {
		text += ": the credentials do not allow it"
	}
	return strings.TrimSpace(text)
}

// failure returns the error of a response, and reports whether to send the request again.
func failure(resp *http.Response) (error, bool) {
	code := resp.Header.Get("X-Ms-Error-Code")
	switch {
	case resp.StatusCode == http.StatusNotModified:
		return object.ErrUnchanged, false
	case resp.StatusCode == http.StatusPreconditionFailed, code == "BlobAlreadyExists":
		return object.ErrChanged, false
	case code == "ContainerNotFound":
		return errNoContainer, false
	case resp.StatusCode == http.StatusNotFound:
		return object.ErrNotFound, false
	}
	return &Error{resp.StatusCode, code[:min(len(code), 100)]}, retry.Status(resp.StatusCode)
}

// errNoContainer is the error of the first requests, before a write makes the container.
var errNoContainer = fmt.Errorf("the container does not exist: %w", object.ErrNotFound)

// Get implements [object.Store].
func (c *Client) Get(ctx context.Context, key, known string) (io.ReadCloser, object.Info, error) {
	return object.Get(ctx, known, "X-Ms-Range", func(header map[string]string) (*http.Response, error) {
		return c.do(ctx, request{method: "GET", key: key, header: header})
	})
}

// Stat implements [object.Store].
func (c *Client) Stat(ctx context.Context, key string) (object.Info, error) {
	resp, err := c.do(ctx, request{method: "HEAD", key: key})
	if err != nil {
		return object.Info{}, err
	}
	return object.InfoOf(resp), resp.Body.Close()
}

// Blobs above the size largest are sent as blocks of the size block, or larger ones if
// there would be too many.
var (
	largest   int64 = 256 << 20
	block     int64 = 64 << 20
	maxBlocks int64 = 50_000
)

// Put implements [object.Store]. It makes the container if there is none.
// Source: learn.microsoft.com/rest/api/storageservices, Put Blob, Put Block and Put
// Block List.
func (c *Client) Put(ctx context.Context, key string, content object.Content, require string) error {
	err := c.put(ctx, key, content, require)
	if errors.Is(err, errNoContainer) {
		resp, made := c.do(ctx, request{method: "PUT", query: url.Values{"restype": {"container"}}})
		var e *Error
		if made != nil && !(errors.As(made, &e) && e.Code == "ContainerAlreadyExists") {
			return fmt.Errorf("making the container: %w", made)
		}
		if made == nil {
			resp.Body.Close()
		}
		err = c.put(ctx, key, content, require)
	}
	return err
}

func (c *Client) put(ctx context.Context, key string, content object.Content, require string) error {
	header := object.Condition(require)
	header["Content-Type"] = "application/octet-stream"
	if content.Size > largest {
		return c.putBlocks(ctx, key, content, header)
	}
	header["X-Ms-Blob-Type"] = "BlockBlob"
	resp, err := c.do(ctx, request{method: "PUT", key: key, header: header, size: content.Size, body: content.Open})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// putBlocks writes a blob as blocks. Those of an upload that fails are removed by the
// service.
func (c *Client) putBlocks(ctx context.Context, key string, content object.Content, header map[string]string) error {
	parts := &object.Parts{Open: content.Open}
	defer parts.Close()
	var list bytes.Buffer
	list.WriteString(`<?xml version="1.0" encoding="utf-8"?><BlockList>`)
	size := max(block, (content.Size+maxBlocks-1)/maxBlocks)
	for off := int64(0); off < content.Size; off += size {
		n := min(size, content.Size-off)
		id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%016d", off))
		resp, err := c.do(ctx, request{
			method: "PUT", key: key, query: url.Values{"comp": {"block"}, "blockid": {id}},
			size: n, body: func() (io.ReadCloser, error) { return parts.From(off, n) },
		})
		if err != nil {
			return err
		}
		resp.Body.Close()
		list.WriteString("<Latest>" + id + "</Latest>")
	}
	list.WriteString("</BlockList>")
	resp, err := c.do(ctx, request{
		method: "PUT", key: key, query: url.Values{"comp": {"blocklist"}}, header: header, size: int64(list.Len()),
		body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(list.Bytes())), nil },
	})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Touch implements [object.Store].
func (c *Client) Touch(ctx context.Context, key string, _ object.Info) error {
	resp, err := c.do(ctx, request{
		method: "PUT", key: key, query: url.Values{"comp": {"metadata"}},
		header: map[string]string{"X-Ms-Meta-Used": time.Now().UTC().Format(time.DateOnly)},
	})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
