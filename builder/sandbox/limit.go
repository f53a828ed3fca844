package sandbox

import (
	"fmt"

	"github.com/cairn-build/cairn/builder/sandbox/helper"
	"golang.org/x/sys/unix"
)

// Limit is one of setrlimit(2); -1 is none.
type Limit struct {
	Name       string // without RLIMIT_, in lower case
	Soft, Hard int64
}

// limits puts them into the helper's terms.
func limits(list []Limit) ([]helper.Limit, error) {
	numbers := map[string]int64{
		"core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
		"locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE,
		"nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS,
		"rtprio": unix.RLIMIT_RTPRIO, "rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING,
		"stack": unix.RLIMIT_STACK,
	}
	var out []helper.Limit
	for _, l := range list {
		number, ok := numbers[l.Name]
		if !ok {
			return nil, fmt.Errorf("limit %q is not known", l.Name)
		}
		out = append(out, helper.Limit{Name: l.Name, Resource: number, Soft: l.Soft, Hard: l.Hard})
	}
	return out, nil
}
