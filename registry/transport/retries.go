package transport

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/cairn-build/cairn/registry/retry"
)

// Retries counts the attempts at one operation.
type Retries struct {
	h    *Host
	done int
}

// Retries returns a counter for an operation on h.
func (h *Host) Retries() Retries { return Retries{h: h} }

// Reset makes the next failure count as the first.
func (r *Retries) Reset() { r.done = 0 }

// Wait waits before the next attempt after err and returns nil. It returns err
// at once if a retry would not help or if there have been [Options.Tries]
// attempts, and an error of ctx if that ends.
func (r *Retries) Wait(ctx context.Context, err error) error {
	r.done++
	wait, ok := r.h.retryable(err)
	if !ok || r.done >= r.h.tries || ctx.Err() != nil {
		return err
	}
	if wait == 0 {
		wait = retry.Wait(r.done)
	}
	return r.h.sleep(ctx, wait)
}

// Pause waits before the next attempt after err even if a retry does not usually help
// after such an error. It returns err if there have been [Options.Tries] attempts, and an
// error of ctx if that ends.
func (r *Retries) Pause(ctx context.Context, err error) error {
	r.done++
	if r.done >= r.h.tries || ctx.Err() != nil {
		return err
	}
	return r.h.sleep(ctx, retry.Wait(r.done))
}

// Retryable reports whether sending a request again after err may help.
func (h *Host) Retryable(err error) bool {
	_, ok := h.retryable(err)
	return ok
}

// retryable also returns the time to wait that the registry asked for, or 0.
func (h *Host) retryable(err error) (wait time.Duration, ok bool) {
	var status *statusError
	if errors.As(err, &status) {
		return status.retryAfter, retry.Status(status.code) && status.retryAfter <= retry.LongestAsk
	}
	if IsPermanent(err) || isCertificate(err) || isPlainHTTP(err) {
		return 0, false
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return 0, !dns.IsNotFound && dns.IsTemporary
	}
	if isDial(err) {
		return 0, h.answered.Load() // a host that has never answered is down
	}
	return 0, true
}
