// Package s3 is a client of Amazon S3 and of other servers with its interface: MinIO,
// Ceph, Cloudflare R2, Google Cloud Storage. It reads and writes single objects.
package s3

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cairn-build/cairn/builder/cache/object"
	"github.com/cairn-build/cairn/registry/auth/aws"
	"github.com/cairn-build/cairn/registry/retry"
)

// Options are the address of a bucket and the credentials. Empty fields come from the
// environment, from AWS's files, or from the machine.
type Options struct {
	Bucket    string
	Region    string
	Endpoint  string // URL of another server than Amazon's
	PathStyle bool   // the bucket is in the path, not in the host name
	Tries     int    // of a request; 0: the usual number

	Credentials Credentials
	Transport   http.RoundTripper // nil: a default
	HTTP        *http.Client      // nil: one with the transport
}

// Credentials are an access key, which all requests are signed with.
type Credentials = aws.Credentials

// Client is a client of one bucket. It implements [object.Store].
type Client struct {
	object.Client
	bucket, region string
	base           *url.URL // of the bucket
	credentials    *aws.Chain
	skew           atomic.Int64 // the server's clock minus this machine's, in nanoseconds
}

// New returns a client. It sends no request.
func New(o Options) (*Client, error) {
	c := &Client{
		bucket: cmp.Or(o.Bucket, os.Getenv("AWS_BUCKET")),
		region: cmp.Or(o.Region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")),
	}
	if c.bucket == "" || strings.ContainsAny(c.bucket, "/?#@:%\\ ") {
		return nil, fmt.Errorf("S3 needs a bucket, not %q: set bucket or $AWS_BUCKET", c.bucket)
	}
	if c.region == "" || strings.ContainsAny(c.region, "/?#@:%\\ .") {
		return nil, fmt.Errorf("S3 needs a region, not %q: set region or $AWS_REGION", c.region)
	}
	if (o.Credentials.ID == "") != (o.Credentials.Secret == "") {
		return nil, errors.New("S3 needs both access_key_id and secret_access_key, or neither")
	}
	endpoint := cmp.Or(o.Endpoint, os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"))
	var err error
	if c.base, err = address(endpoint, c.bucket, c.region, o.PathStyle); err != nil {
		return nil, err
	}
	c.HTTP, c.Tries = o.HTTP, o.Tries
	if o.Transport == nil {
		o.Transport = retry.Watched{RoundTripper: http.DefaultTransport.(*http.Transport).Clone()}
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{
			Transport:     o.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the signature is for one host
		}
	}
	c.credentials = aws.NewChain(o.Credentials, c.region, c.HTTP)
	c.credentials.Service, c.credentials.Hint = "S3", "set access_key_id and secret_access_key, or "
	return c, nil
}

// address returns the URL of a bucket. The bucket is in the path if a host name can't
// contain it.
func address(endpoint, bucket, region string, path bool) (*url.URL, error) {
	text := endpoint
	if text == "" {
		text = "https://s3." + region + "." + aws.Domain(region)
		path = strings.Contains(bucket, ".") // no certificate is for two more labels
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("S3: endpoint_url %.100q is not an http(s) URL", endpoint)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	if path || net.ParseIP(u.Hostname()) != nil || u.Hostname() == "localhost" {
		u.Path += "/" + bucket
	} else {
		u.Host = bucket + "." + u.Host
	}
	return u, nil
}

func (c *Client) String() string { return "s3://" + c.bucket }

// request describes a request for an object.
type request struct {
	method, key string
	query       url.Values
	header      map[string]string
	payload     string // its hash; "": no body
	size        int64
	body        func() (io.ReadCloser, error)
}

// emptyHash is the hash of an empty body.
var emptyHash = aws.Hash("")

// do sends a request. Errors name the object.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	renewed := false
	resp, err := c.Do(ctx, func() (*http.Request, error) { return c.signed(ctx, r) }, func(resp *http.Response) (error, bool) {
		err, again := failure(resp, c.region)
		switch e := (*Error)(nil); {
		case !errors.As(err, &e) || renewed:
		case e.Code == "RequestTimeTooSkewed":
			if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
				c.skew.Store(int64(time.Until(at)))
				renewed, again = true, true
			}
		case e.Code == "ExpiredToken":
			c.credentials.Forget()
			renewed, again = true, true
		}
		return err, again
	})
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", c, r.key, err)
	}
	return resp, nil
}

func (c *Client) signed(ctx context.Context, r request) (*http.Request, error) {
	own, err := c.credentials.Get(ctx)
	if err != nil {
		return nil, err
	}
	u := *c.base
	u.Path += "/" + r.key
	u.RawPath = aws.Escape(u.Path, true)
	u.RawQuery = aws.CanonicalQuery(r.query)
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	req.Header.Set("Accept-Encoding", "identity") // layers are not to be unpacked
	if r.body != nil {
		body, err := r.body()
		if err != nil {
			return nil, err
		}
		req.Body, req.ContentLength = object.Body{ReadCloser: body}, r.size
		if r.size == 0 {
			body.Close()
			req.Body = http.NoBody
		}
	}
	aws.Sign(req, own, c.region, "s3", cmp.Or(r.payload, emptyHash), time.Now().Add(time.Duration(c.skew.Load())))
	return req, nil
}

// Error is an error that the server reports.
type Error struct {
	Status  int
	Code    string
	Message string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("status %d", e.Status)
	if e.Code != "" {
		text += " " + e.Code
	}
	if e.Message != "" {
		text += fmt.Sprintf(": %q", e.Message)
	}
	switch {
	case e.Code == "NoSuchBucket":
		text += ": create the bucket"
	case e.Status == http.StatusForbidden && (e.Code == "" || e.Code == "AccessDenied"):
		text += ": the credentials do not allow it; a user without s3:ListBucket gets this for objects that do not exist too"
	}
	return text
}

const maxAnswer = 64 << 10

// failure returns the error of a response, and reports whether to send the request again.
func failure(resp *http.Response, region string) (error, bool) {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	var told struct{ Code, Message string }
	_ = xml.Unmarshal(raw, &told) // without them the status has to do
	e := &Error{resp.StatusCode, printable(told.Code), printable(told.Message)}
	switch own := resp.Header.Get("X-Amz-Bucket-Region"); {
	case resp.StatusCode == http.StatusNotModified:
		return object.ErrUnchanged, false
	case resp.StatusCode == http.StatusPreconditionFailed, e.Code == "ConditionalRequestConflict":
		return object.ErrChanged, false
	case own != "" && own != region:
		return fmt.Errorf("the bucket is in the region %.100q, not %q: set region", own, region), false
	case resp.StatusCode == http.StatusNotFound && (e.Code == "" || e.Code == "NoSuchKey"):
		return object.ErrNotFound, false
	}
	return e, retry.Status(resp.StatusCode) || e.Code == "SlowDown" || e.Code == "RequestTimeout"
}

func printable(s string) string { return s[:min(len(s), 300)] }

// Get implements [object.Store].
func (c *Client) Get(ctx context.Context, key, known string) (io.ReadCloser, object.Info, error) {
	return object.Get(ctx, known, "Range", func(header map[string]string) (*http.Response, error) {
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

// Put implements [object.Store].
func (c *Client) Put(ctx context.Context, key string, content object.Content, require string) error {
	if content.Size > largest {
		return c.putParts(ctx, key, content)
	}
	r := request{method: "PUT", key: key, payload: content.SHA256, size: content.Size, body: content.Open, header: object.Condition(require)}
	resp, err := c.do(ctx, r)
	if e := (*Error)(nil); errors.As(err, &e) && require != "" && (e.Status == http.StatusNotImplemented || e.Status == http.StatusBadRequest) {
		r.header = nil // a server without conditional writes
		resp, err = c.do(ctx, r)
	}
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// largestCopy is the size up to which an object can be copied with one request.
const largestCopy = 5 << 30

// Touch implements [object.Store]. An object that is too large for it stays as it is.
func (c *Client) Touch(ctx context.Context, key string, i object.Info) error {
	if i.Size > largestCopy {
		return nil
	}
	resp, err := c.do(ctx, request{method: "PUT", key: key, header: map[string]string{
		"X-Amz-Copy-Source":        aws.Escape("/"+c.bucket+"/"+key, true),
		"X-Amz-Metadata-Directive": "REPLACE",
		"X-Amz-Meta-Used":          time.Now().UTC().Format(time.DateOnly),
	}})
	if err != nil {
		return err
	}
	return errors.Join(succeeded(resp), resp.Body.Close())
}

// succeeded returns the error in the body of a response that has the status of a success,
// as S3 sends it if it began to respond before the end.
func succeeded(resp *http.Response) error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	var told struct {
		XMLName       xml.Name
		Code, Message string
	}
	if xml.Unmarshal(raw, &told) == nil && told.XMLName.Local == "Error" {
		return &Error{resp.StatusCode, printable(told.Code), printable(told.Message)}
	}
	return nil
}
