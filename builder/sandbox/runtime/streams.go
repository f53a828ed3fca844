package runtime

import (
	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
	"golang.org/x/sys/unix"
)

// nameStreams lets the account of a command open the standard streams by name. Those of
// the command get the account as their owner. Those of the caller stay as they are: the
// names of a terminal lead to /dev/tty, and the name of an input that the account may not
// open leads to a copy of it. The returned function must be called after the command.
func (t *tree) nameStreams(files [3]int, account step.Account) (stop func(), err error) {
	stop = func() {}
	if err := account.Own(files, t.req.Own); err != nil {
		return stop, err
	}
	for n, name := range []string{"stdin", "stdout", "stderr"} {
		var st unix.Stat_t
		if err := unix.Fstat(files[n], &st); err != nil {
			return stop, err
		}
		kind, bit := st.Mode&unix.S_IFMT, uint32(2)
		if n == 0 {
			bit = 4
		}
		if kind != unix.S_IFSOCK && account.MayOpen(&st, bit) {
			continue
		}
		switch {
		case kind == unix.S_IFCHR && t.req.Interactive && (t.req.Terminal || step.IsSessionTerminal(files[n])):
			if err = unix.Unlinkat(t.dev, name, 0); err == nil {
				err = unix.Symlinkat("tty", t.dev, name)
			}
		case n == 0 && kind != unix.S_IFCHR:
			if err = unix.Unlinkat(t.dev, name, 0); err == nil {
				stop, err = step.FeedPipe(t.dev, name, files[0], account.UID)
			}
		}
		if err != nil {
			return stop, err
		}
	}
	return stop, nil
}
