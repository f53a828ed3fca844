package transport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/cairn-build/cairn/builder/progress/termtext"
	"github.com/cairn-build/cairn/registry/retry"
)

// Kinds of errors, for [errors.Is].
var (
	ErrNotFound     = errors.New("not found")
	ErrUnauthorized = errors.New("not authorized")
	ErrUnreachable  = errors.New("registry cannot be reached")
	// ErrCorrupt is the kind of a manifest with another digest.
	ErrCorrupt = errors.New("corrupt manifest")
)

// Error is an error with a text for the user. Kind and Err are for [errors.Is]
// and [errors.As].
type Error struct {
	Kind error
	Text string
	Err  error
}

func (e *Error) Error() string   { return e.Text }
func (e *Error) Unwrap() []error { return []error{e.Kind, e.Err} }

// A permanent error stays the same however often the request is sent.
type permanent struct{ err error }

func (p *permanent) Error() string { return p.err.Error() }
func (p *permanent) Unwrap() error { return p.err }

// Permanent marks err as one that a retry would not change.
func Permanent(err error) error { return &permanent{err} }

// IsPermanent reports whether err was marked by [Permanent].
func IsPermanent(err error) bool { return errors.As(err, new(*permanent)) }

// A statusError is an answer with an error status.
type statusError struct {
	code       int
	errors     []transport.Diagnostic
	retryAfter time.Duration
	challenges []string // WWW-Authenticate headers of the registry itself
	wantsTLS   bool     // the answer of an HTTPS server to plain HTTP
	proxy      string   // the proxy that the request was sent to; "": none
	server     string   // the answer's Via or Server header
}

const maxErrorBody = 64 << 10

// newStatusError reads and closes resp. To the errors that go-containerregistry
// reads it adds the time to wait and the message of Docker Hub's token server.
func newStatusError(resp *http.Response) *statusError {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	e := &statusError{code: resp.StatusCode, wantsTLS: wantsTLS(body), retryAfter: retry.After(resp.Header)}
	for _, name := range []string{"Server", "Via"} {
		if v := resp.Header.Get(name); v != "" {
			e.server = name + ": " + Printable(v)
		}
	}
	if parsed := (*transport.Error)(nil); errors.As(transport.CheckError(resp), &parsed) {
		e.errors = parsed.Errors
	}
	var hub struct {
		Details string `json:"details"`
	}
	if json.Unmarshal(body, &hub) == nil && hub.Details != "" {
		e.errors = append(e.errors, transport.Diagnostic{Message: hub.Details})
	}
	return e
}

// wantsTLS reports whether body is the answer of Go's or nginx's HTTPS server to
// plain HTTP.
func wantsTLS(body []byte) bool {
	return bytes.Contains(body, []byte("HTTP request to an HTTPS server")) ||
		bytes.Contains(body, []byte("plain HTTP request was sent to HTTPS port"))
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%d %s", e.code, http.StatusText(e.code))
	for _, d := range e.errors[:min(len(e.errors), 3)] {
		text += "; " + strings.TrimPrefix(Printable(string(d.Code))+": "+Printable(d.Message), ": ")
	}
	return text
}

func (e *statusError) has(code transport.ErrorCode) bool {
	return slices.ContainsFunc(e.errors, func(d transport.Diagnostic) bool { return d.Code == code })
}

// Status returns the HTTP status of the answer that err stands for, or 0 if err
// has another cause.
func Status(err error) int {
	if status := (*statusError)(nil); errors.As(err, &status) {
		return status.code
	}
	return 0
}

// MissingBlob reports whether err is the answer of a registry that a blob is not
// there.
func MissingBlob(err error) bool {
	var e *statusError
	return errors.As(err, &e) && (e.has(transport.ManifestBlobUnknownErrorCode) || e.has(transport.BlobUnknownErrorCode))
}

// refused reports whether err is a refusal of credentials.
func refused(err error) bool {
	status := Status(err)
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// Printable returns text of another program as one line that is safe to print,
// cut to 300 bytes.
func Printable(s string) string { return termtext.Truncate(termtext.Line(s), 300, "…") }

func isCertificate(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(x509.UnknownAuthorityError)) ||
		errors.As(err, new(x509.HostnameError)) || errors.As(err, new(x509.CertificateInvalidError))
}

func isPlainHTTP(err error) bool {
	return errors.As(err, new(tls.RecordHeaderError)) ||
		strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
