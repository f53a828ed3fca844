package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// interrupted is the end of a command by a signal.
type interrupted struct{ signal syscall.Signal }

func (e *interrupted) Error() string {
	return "stopped by " + unix.SignalName(e.signal)
}

// status is what a shell gives for a command that died of the signal.
func (e *interrupted) status() int { return 128 + int(e.signal) }

// interruptible gives a context that the first SIGINT or SIGTERM cancels, with
// an *interrupted as cause. The second one ends the program at once: what the
// kernel does not clean up then, the next command does.
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
			end := &interrupted{s.(syscall.Signal)}
			if n > 0 {
				os.Exit(end.status())
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

// cause puts the signal that ended a context in the place of what came of it.
func cause(ctx context.Context, err error) error {
	if end := context.Cause(ctx); err != nil && end != nil {
		return end
	}
	return err
}
