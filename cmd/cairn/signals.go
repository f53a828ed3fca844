package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/cmd/cairn/command"
)

// interruptible returns a context that the first SIGINT, SIGTERM or SIGHUP
// cancels, with a *command.SignalError as its cause. The second signal ends the
// program at once; the next command cleans up after it.
func interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	go func() {
		for n := 0; ; n++ {
			s, ok := <-signals
			if !ok {
				return
			}
			end := &command.SignalError{Signal: s.(syscall.Signal)}
			if n > 0 {
				os.Exit(end.Status())
			}
			cancel(end)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel(nil)
	}
}
