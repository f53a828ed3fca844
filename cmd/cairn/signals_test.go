package main

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/cmd/cairn/command"
)

// The second signal of timeout(1) is no second request to end.
func TestRepeatedSignals(t *testing.T) {
	for _, test := range []struct {
		name  string
		waits []time.Duration // before each signal after the first
		exits int
	}{
		{"one", nil, 0},
		{"of timeout", []time.Duration{0}, 0},
		{"of timeout, passed on into a user namespace", []time.Duration{0, time.Millisecond, 20 * time.Millisecond}, 0},
		{"pressed twice", []time.Duration{300 * time.Millisecond}, 1},
		{"pressed twice after a copy", []time.Duration{0, time.Second}, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			signals := make(chan os.Signal)
			ctx, cancel := context.WithCancelCause(t.Context())
			exits := 0
			go watch(signals, cancel, func(*command.SignalError) { exits++ })
			signals <- unix.SIGTERM
			for _, wait := range test.waits {
				time.Sleep(wait)
				signals <- unix.SIGTERM
			}
			close(signals)
			synctest.Wait()
			if end, ok := context.Cause(ctx).(*command.SignalError); !ok || end.Signal != unix.SIGTERM || exits != test.exits {
				t.Errorf("%s: cause %v, ended %d times", test.name, context.Cause(ctx), exits)
			}
		})
	}
}
