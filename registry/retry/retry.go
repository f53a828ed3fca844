// Package retry says when a request that failed is worth another attempt, and
// how long to wait before it. It is the same for registries and for other web
// servers: a few attempts, each after a longer wait, or when the server says.
package retry

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	// Tries is how often something is tried in all.
	Tries = 5
	// LongestAsk bounds what a server may ask to wait: a longer time is an error
	// at once.
	LongestAsk = 60 * time.Second

	firstWait  = 300 * time.Millisecond
	waitGrowth = 3
)

// Status tells whether an answer with this status may be another one soon.
func Status(status int) bool {
	switch status {
	case 408, 429, 499, 500, 502, 503, 504, 522:
		return true
	}
	return false
}

// After is how long the header Retry-After says to wait, a day at most; 0: it
// says nothing.
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

// Wait is how long to wait once something failed so many times, at least 1.
func Wait(failed int) time.Duration {
	wait := firstWait
	for range failed - 1 {
		wait *= waitGrowth
	}
	return wait + time.Duration(rand.Int64N(int64(wait)/4))
}

// Sleep waits for d or until ctx is over.
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
