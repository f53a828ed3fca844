package sandbox

import (
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"

	"fmt"

	"golang.org/x/sys/unix"
)

// Ulimit is a resource limit of setrlimit(2). The value -1 is unlimited.
type Ulimit struct {
	Name       string // without RLIMIT_, in lower case
	Soft, Hard int64
}

// ulimits converts limits for the runtime process.
func ulimits(list []Ulimit) ([]wire.Ulimit, error) {
	numbers := map[string]int64{
		"core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
		"locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE,
		"nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS,
		"rtprio": unix.RLIMIT_RTPRIO, "rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING,
		"stack": unix.RLIMIT_STACK,
	}
	var out []wire.Ulimit
	for _, l := range list {
		number, ok := numbers[l.Name]
		if !ok {
			return nil, fmt.Errorf("unknown ulimit %q", l.Name)
		}
		out = append(out, wire.Ulimit{Name: l.Name, Resource: number, Soft: l.Soft, Hard: l.Hard})
	}
	return out, nil
}
