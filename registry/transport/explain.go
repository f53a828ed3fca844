package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/cairn-build/cairn/registry/retry"
)

// Explain returns err with a text that names the host, the cause and the
// remedy. An [Error] or a permanent error is returned as it is.
func (h *Host) Explain(err error) error { return h.explain(err, Credential{}) }

func (h *Host) explain(err error, cred Credential) error {
	if errors.As(err, new(*Error)) || IsPermanent(err) {
		return err
	}
	var status *statusError
	if errors.As(err, &status) {
		return h.explainStatus(status, cred)
	}
	server := "registry " + h.Name()
	if t := (*tokenError)(nil); errors.As(err, &t) {
		server = "token server " + t.server + " of " + server
		err = t.err
	}
	unreachable := func(format string, args ...any) error {
		return &Error{ErrUnreachable, server + " " + fmt.Sprintf(format, args...), err}
	}
	var dns *net.DNSError
	var stall *retry.StallError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return unreachable("cannot be reached: connection refused; check its port and that it is running")
	case errors.As(err, &dns) && dns.IsNotFound:
		return unreachable("cannot be reached: no such host; check its name and the network")
	case errors.As(err, &dns):
		return unreachable("cannot be reached: looking up its name: %s", dns.Err)
	case isPlainHTTP(err):
		return unreachable("speaks plain HTTP, but HTTPS was wanted (server gave HTTP response to HTTPS client); allow it with --insecure-registry %s", h.Name())
	case isCertificate(err):
		return unreachable("has a certificate that is not trusted (%v); name its authority with --registry-certificate %[2]s=FILE, or skip the check with --insecure-registry %[2]s", certificateCause(err), h.Name())
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return unreachable("cannot be reached: %v; check the network, and set HTTPS_PROXY if it needs a proxy", rootErrno(err))
	case errors.As(err, &stall) && stall.Answered:
		return unreachable("transfers less than %d bytes a second for %v; check the network, or wait longer with --stall-timeout", retry.LeastRate, stall.Patience)
	case errors.As(err, &timeout) && timeout.Timeout():
		return unreachable("does not answer in time; check the network, and set HTTPS_PROXY if it needs a proxy")
	}
	return unreachable("did not complete the request: %v", withoutURL(err))
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
	return withoutURL(err)
}

// withoutURL returns err without the method and URL that net/http prefixes.
func withoutURL(err error) error {
	var u interface{ Unwrap() error }
	for strings.Contains(err.Error(), "://") && errors.As(err, &u) && u.Unwrap() != nil {
		err = u.Unwrap()
	}
	return err
}

func (h *Host) explainStatus(e *statusError, cred Credential) error {
	if MissingBlob(e) && e.code < 500 {
		return &Error{ErrNotFound, fmt.Sprintf("registry %s lacks a blob (%v)", h.Name(), e), e}
	}
	switch e.code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return &Error{ErrUnauthorized, fmt.Sprintf("not authorized by registry %s (%v): %s", h.Name(), e, h.refusal(e, cred)), e}
	case http.StatusNotFound:
		return &Error{ErrNotFound, fmt.Sprintf("not found in registry %s (%v)", h.Name(), e), e}
	case http.StatusTooManyRequests:
		text := fmt.Sprintf("registry %s allows no more requests for now (%v)", h.Name(), e)
		if e.retryAfter > 0 {
			text += fmt.Sprintf("; it asks to wait %s", e.retryAfter)
		}
		if cred.Empty() {
			text += fmt.Sprintf("; limits are often higher with an account: cairn login %s", h.Name())
		}
		return &Error{e, text, e}
	case http.StatusMethodNotAllowed:
		return &Error{e, fmt.Sprintf("registry %s does not allow this (%v); is it read-only or a mirror?", h.Name(), e), e}
	case http.StatusRequestEntityTooLarge:
		return &Error{e, fmt.Sprintf("request is too large for registry %s or a proxy in front of it (%v); raise its limit on the size of a request", h.Name(), e), e}
	}
	return &Error{e, fmt.Sprintf("registry %s answered %v%s", h.Name(), e, h.proxyHint(e)), e}
}

// proxyHint names the proxy that refused a request, if the answer is not one that
// registries give.
func (h *Host) proxyHint(e *statusError) string {
	switch e.code {
	case http.StatusBadRequest, http.StatusLengthRequired, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge:
	default:
		return ""
	}
	const hint = " without a registry's error message; it is likely the answer of "
	switch {
	case len(e.errors) > 0:
		return ""
	case e.proxy != "":
		return fmt.Sprintf("%sthe proxy %s: add %s to NO_PROXY to go around it, or look into its log", hint, e.proxy, hostname(h.Name()))
	case e.server != "":
		return fmt.Sprintf("%sa proxy in front of it (%s): look into its log, and at its limits on requests", hint, e.server)
	}
	return hint + "a proxy in front of it: look into its log, and at its limits on requests"
}

// refusal returns the cause and the remedy of a refusal. It names the source and
// the user of the credentials, never a secret.
func (h *Host) refusal(e *statusError, cred Credential) string {
	_, known := parseChallenges(e.challenges)
	switch {
	case cred.Empty() && len(e.challenges) > 0 && !known:
		return fmt.Sprintf("it asks for %q, which is not supported; Basic, and Bearer with a realm, are", strings.Join(e.challenges, ", "))
	case cred.Empty():
		return fmt.Sprintf("there is no such repository, or it needs credentials and none were found in %s; log in with: cairn login %s",
			h.credentials.Searched(cred), h.Name())
	case cred.Remedy != "":
		return fmt.Sprintf("it refuses %s; %s", cred, cred.Remedy)
	case e.code == http.StatusForbidden || e.has(transport.DeniedErrorCode):
		return fmt.Sprintf("access denied with %s; ask for access, or log in as another user: cairn login %s", cred, h.Name())
	}
	return fmt.Sprintf("it refuses %s; log in again with: cairn login %s", cred, h.Name())
}
