package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/cmd/cairn/command"
)

// repeatTime is the time after the first signal in which others are taken for copies
// of it: timeout(1) signals the program and then its process group.
const repeatTime = 200 * time.Millisecond

// interruptible returns a context that the first SIGINT, SIGTERM or SIGHUP
// cancels, with a *command.SignalError as its cause. A later signal ends the
// program at once; the next command cleans up after it.
func interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	go watch(signals, cancel, func(end *command.SignalError) {
		fmt.Fprintf(os.Stderr, "error: %v, before the end of the cleanup\n", end)
		os.Exit(end.Status())
	})
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel(nil)
	}
}

// watch calls cancel at the first signal, and exit at each one that comes after
// repeatTime, until the channel is closed.
func watch(signals <-chan os.Signal, cancel context.CancelCauseFunc, exit func(*command.SignalError)) {
	var first time.Time
	for s := range signals {
		end := &command.SignalError{Signal: s.(syscall.Signal)}
		if first.IsZero() {
			first = time.Now()
			cancel(end)
		} else if time.Since(first) > repeatTime {
			exit(end)
		}
	}
}
