package registry

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
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/cairn-build/cairn/registry/retry"
)

// What went wrong, for errors.Is.
var (
	ErrNotFound     = errors.New("not found")
	ErrUnauthorized = errors.New("not authorized")
	ErrUnreachable  = errors.New("registry cannot be reached")

	errBroken = errors.New("not what it should be")
)

// A problem is told to people in its own words, and to errors.Is by kind.
type problem struct {
	kind error
	text string
	err  error
}

func (p *problem) Error() string   { return p.text }
func (p *problem) Unwrap() []error { return []error{p.kind, p.err} }

// A statusError is an answer that says no.
type statusError struct {
	status     int
	errors     []transport.Diagnostic
	retryAfter time.Duration
	challenges []string // WWW-Authenticate, if the registry itself says no
	wantsTLS   bool
}

const maxErrorBody = 64 << 10

// newStatusError reads and closes resp. go-containerregistry understands what
// registries say; what is added is the time to wait, and Docker Hub's words.
func newStatusError(resp *http.Response) *statusError {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	e := &statusError{status: resp.StatusCode, wantsTLS: speaksTLS(body), retryAfter: retry.After(resp.Header)}
	if told := (*transport.Error)(nil); errors.As(transport.CheckError(resp), &told) {
		e.errors = told.Errors
	}
	var hub struct {
		Details string `json:"details"` // of its token server
	}
	if json.Unmarshal(body, &hub) == nil && hub.Details != "" {
		e.errors = append(e.errors, transport.Diagnostic{Message: hub.Details})
	}
	return e
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%d %s", e.status, http.StatusText(e.status))
	for i, d := range e.errors {
		if i == 3 {
			break
		}
		text += "; " + strings.TrimPrefix(printable(string(d.Code))+": "+printable(d.Message), ": ")
	}
	return text
}

func (e *statusError) has(code transport.ErrorCode) bool {
	for _, d := range e.errors {
		if d.Code == code {
			return true
		}
	}
	return false
}

// printable makes text of a registry fit for a terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

func hasStatus(err error, status ...int) bool {
	var e *statusError
	if !errors.As(err, &e) {
		return false
	}
	for _, s := range status {
		if e.status == s {
			return true
		}
	}
	return false
}

// retryable says whether to try again after err, and when the registry said
// how long to wait, that.
func (h *host) retryable(err error) (wait time.Duration, ok bool) {
	var status *statusError
	if errors.As(err, &status) {
		return status.retryAfter, retry.Status(status.status) && status.retryAfter <= retry.LongestAsk
	}
	if errors.As(err, new(*permanent)) || isCertificate(err) || isPlainHTTP(err) {
		return 0, false
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return 0, !dns.IsNotFound && dns.IsTemporary
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return 0, h.spoke.Load() // one that never answered is down, not in trouble
	}
	return 0, true
}

// permanent is an error that no second attempt would better.
type permanent struct{ err error }

func (p *permanent) Error() string { return p.err.Error() }
func (p *permanent) Unwrap() error { return p.err }

func isCertificate(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(x509.UnknownAuthorityError)) ||
		errors.As(err, new(x509.HostnameError)) || errors.As(err, new(x509.CertificateInvalidError))
}

func isPlainHTTP(err error) bool {
	return errors.As(err, new(tls.RecordHeaderError)) ||
		strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// explain says what err means to somebody who wanted something of h, and what
// can be done. Errors that need no words are returned as they are.
func (h *host) explain(err error, cred credential) error {
	if errors.As(err, new(*problem)) || errors.As(err, new(*permanent)) {
		return err
	}
	var status *statusError
	if errors.As(err, &status) {
		return h.explainStatus(status, cred)
	}
	who := "registry " + h.name
	if t := (*tokenError)(nil); errors.As(err, &t) {
		who = "token server " + t.server + " of " + who
		err = t.err
	}
	unreachable := func(format string, args ...any) error {
		return &problem{ErrUnreachable, who + " " + fmt.Sprintf(format, args...), err}
	}
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return unreachable("cannot be reached: connection refused; is it running, and is the port right?")
	case errors.As(err, &dns) && dns.IsNotFound:
		return unreachable("cannot be reached: no such host; is its name spelled right, and is there a network?")
	case errors.As(err, &dns):
		return unreachable("cannot be reached: looking up its name: %s", dns.Err)
	case isPlainHTTP(err):
		return unreachable("speaks plain HTTP, but HTTPS was wanted (server gave HTTP response to HTTPS client); allow it with --insecure-registry %s", h.name)
	case isCertificate(err):
		return unreachable("has a certificate that is not trusted (%v); name its authority with --registry-certificate %[2]s=FILE, or skip the check with --insecure-registry %[2]s", certificateCause(err), h.name)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return unreachable("cannot be reached: %v; is there a network, and does HTTPS_PROXY need to be set?", rootErrno(err))
	case errors.As(err, &timeout) && timeout.Timeout():
		return unreachable("does not answer in time; is there a network, and does HTTPS_PROXY need to be set?")
	}
	return unreachable("broke off: %v", bare(err))
}

func rootErrno(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

func certificateCause(err error) error {
	var c *tls.CertificateVerificationError
	if errors.As(err, &c) {
		return c.Err
	}
	return bare(err)
}

// bare is err without the method and URL that net/http puts before it.
func bare(err error) error {
	var u interface{ Unwrap() error }
	for strings.Contains(err.Error(), "://") && errors.As(err, &u) && u.Unwrap() != nil {
		err = u.Unwrap()
	}
	return err
}

func (h *host) explainStatus(e *statusError, cred credential) error {
	if missesBlob(e) && e.status < 500 {
		return &problem{ErrNotFound, fmt.Sprintf("registry %s lacks a blob (%v)", h.name, e), e}
	}
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return &problem{ErrUnauthorized, h.refusal(e, cred), e}
	case http.StatusNotFound:
		return &problem{ErrNotFound, fmt.Sprintf("not found in registry %s (%v)", h.name, e), e}
	case http.StatusTooManyRequests:
		text := fmt.Sprintf("registry %s allows no more requests for now (%v)", h.name, e)
		if e.retryAfter > 0 {
			text += fmt.Sprintf("; it says to wait %s", e.retryAfter)
		}
		if cred.empty() {
			text += fmt.Sprintf("; limits are often higher with an account: cairn login %s", h.name)
		}
		return &problem{e, text, e}
	case http.StatusMethodNotAllowed:
		return &problem{e, fmt.Sprintf("registry %s does not allow this (%v); is it read-only or a mirror?", h.name, e), e}
	case http.StatusRequestEntityTooLarge:
		return &problem{e, fmt.Sprintf("registry %s, or a proxy before it, finds this too large (%v); raise its limit on the size of a request", h.name, e), e}
	}
	return &problem{e, fmt.Sprintf("registry %s answers %v", h.name, e), e}
}

// refusal names the source of the credentials, never what is in them but the
// user.
func (h *host) refusal(e *statusError, cred credential) string {
	_, known := parseChallenges(e.challenges)
	switch {
	case cred.empty() && len(e.challenges) > 0 && !known:
		return fmt.Sprintf("not authorized by registry %s (%v): it asks for %q, which is not known; there are Basic, and Bearer with a realm",
			h.name, e, strings.Join(e.challenges, ", "))
	case cred.empty():
		return fmt.Sprintf("not authorized by registry %s (%v): there is no such repository, or it needs credentials and none were found in %s; log in with: cairn login %s",
			h.name, e, h.c.o.placesText(cred), h.name)
	case e.status == http.StatusForbidden || e.has(transport.DeniedErrorCode):
		return fmt.Sprintf("not authorized by registry %s (%v): %s may not do this; ask for the right, or log in as somebody else: cairn login %s",
			h.name, e, cred, h.name)
	}
	return fmt.Sprintf("not authorized by registry %s (%v): it refuses %s; log in again with: cairn login %s",
		h.name, e, cred, h.name)
}
