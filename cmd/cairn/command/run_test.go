package command

import (
	"bytes"
	"context"
	"os"
	"strings"
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

// Commands and flags of docker that have no equivalent name a replacement.
func TestDockerErrors(t *testing.T) {
	t.Parallel()
	p := newTestProgram(t)
	for _, test := range []struct{ args, err string }{
		{"login -u me -p x --password-stdin", "--password and --password-stdin exclude each other"},
		{"rm", "IMAGE is missing: with --force, a list that may be empty is no error"},
		{"run -p 8080:80 app", "the command is on the network of the host, at its own port 80: configure it to listen on 8080"},
		{"run --network bridge app", "the command is on the network of the host: want host, or none for only a loopback device"},
		{"run -d app", "the command runs in the foreground"},
		{"run --privileged app", "a command has the rights of a RUN"},
		{"run --mount type=volume,src=a,dst=/a app", "there are no volumes: want type=bind with a directory of the host, or type=tmpfs"},
		{"run --mount type=bind,src=/,dst=/a,z app", `unknown key "z": want type, source, target or readonly`},
		{"run --mount type=bind,src=/ app", "want type=bind,source=HOST,target=PATH"},
		{"ps -a", "ps: cairn runs no containers in the background"},
		{"logs -f app", "logs: cairn runs no containers in the background"},
		{"image ls", "image: use the command without image"},
		{"volume ls", "volume: there are no volumes"},
		{"history", "IMAGE is missing"},
		{"system dff", `unknown command "dff" for "cairn system" (did you mean df?)`},
	} {
		_, err := p.run(strings.Fields(test.args)...)
		checkError(t, test.args, err, test.err)
		if err != nil && !p.isUsage(err) {
			t.Errorf("%s: no error of the command line: %v", test.args, err)
		}
	}
}
