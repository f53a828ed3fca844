package retry

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"
)

func TestWaitGrows(t *testing.T) {
	t.Parallel()
	var last time.Duration
	for failed := 1; failed < Tries; failed++ {
		wait := Wait(failed)
		if wait <= last {
			t.Errorf("%s after %d failures, %s before", wait, failed, last)
		}
		last = wait
	}
	if last > LongestAsk {
		t.Errorf("waits %s", last)
	}
}

func TestAfter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"": 0, "soon": 0, "-3": 0, "7": 7 * time.Second, "Tue, 03 Jan 2006 15:04:05 GMT": time.Second,
	} {
		if got := After(http.Header{"Retry-After": {text}}); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{200: false, 404: false, 401: false, 429: true, 500: true, 501: false, 503: true} {
		if Status(status) != want {
			t.Errorf("%d: %t", status, !want)
		}
	}
}

func TestSleepEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if err := Sleep(ctx, time.Hour); !errors.Is(err, enough) {
		t.Error(err)
	}
	if err := Sleep(t.Context(), time.Nanosecond); err != nil {
		t.Error(err)
	}
}
