package command

import (
	"bytes"
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// A command that ignores signals can be ended.
func TestForwardedSignals(t *testing.T) {
	const (
		still   = "cairn: still running; press Ctrl-C again to kill it\n"
		killing = "cairn: killing the command, which runs 10 seconds after SIGTERM\n"
	)
	type at struct {
		after  time.Duration
		signal os.Signal
	}
	for _, test := range []struct {
		name    string
		signals []at
		wait    time.Duration
		killed  bool
		said    string
	}{
		{"one", []at{{0, unix.SIGINT}}, time.Minute, false, still},
		{"one, and the command ends", []at{{0, unix.SIGINT}}, time.Second / 2, false, ""},
		{"several at once", []at{{0, unix.SIGINT}, {0, unix.SIGINT}, {0, unix.SIGINT}}, time.Second / 2, false, ""},
		{"two", []at{{0, unix.SIGINT}, {2 * time.Second, unix.SIGINT}}, 0, true, still},
		{"two, far apart", []at{{0, unix.SIGINT}, {time.Hour, unix.SIGINT}}, 0, true, still},
		{"two soon, one later", []at{{0, unix.SIGINT}, {0, unix.SIGINT}, {2 * time.Second, unix.SIGINT}}, 0, true, still},
		{"TERM", []at{{0, unix.SIGTERM}}, 9 * time.Second, false, ""},
		{"TERM, and no end", []at{{0, unix.SIGTERM}, {5 * time.Second, unix.SIGTERM}}, 6 * time.Second, true, killing},
		{"others", []at{{0, unix.SIGHUP}, {0, unix.SIGUSR1}}, time.Hour, false, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			in, over := make(chan os.Signal, 8), make(chan struct{})
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var said bytes.Buffer
			out := forwardSignals(in, over, &said, cancel)
			for _, s := range test.signals {
				time.Sleep(s.after)
				in <- s.signal
			}
			time.Sleep(test.wait)
			synctest.Wait()
			close(over)
			synctest.Wait()
			if killed := ctx.Err() != nil; killed != test.killed || said.String() != test.said {
				t.Errorf("%s: killed %v, said %q", test.name, killed, said.String())
			}
			if len(out) != len(test.signals) {
				t.Errorf("%s: %d signals forwarded of %d", test.name, len(out), len(test.signals))
			}
		})
	}
}
