// Package retry decides whether to send a failed HTTP request again, and how long
// to wait before that. Registries and other web servers are treated alike: a few
// attempts, after waits that grow or that the server asks for.
package retry

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	// Tries is the total number of attempts.
	Tries = 5
	// LongestAsk is the longest wait that a server may ask for. A longer one is
	// an error at once.
	LongestAsk = 60 * time.Second

	firstWait  = 300 * time.Millisecond
	waitGrowth = 3
)

// Status reports whether a request that was answered with status may succeed soon.
func Status(status int) bool {
	switch status {
	case 408, 429, 499, 500, 502, 503, 504, 522:
		return true
	}
	return false
}

// After returns the wait that a Retry-After header asks for, at most a day, or 0
// if there is none.
func After(h http.Header) time.Duration {
	s := h.Get("Retry-After")
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		return time.Duration(min(n, int(24*time.Hour/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(time.Until(t), time.Second)
	}
	return 0
}

// Wait returns the time to wait after the given number of failures, at least 1.
func Wait(failed int) time.Duration {
	wait := firstWait
	for range failed - 1 {
		wait *= waitGrowth
	}
	return wait + time.Duration(rand.Int64N(int64(wait)/4))
}

// Sleep waits for d. If ctx ends before that, it returns the cause.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
