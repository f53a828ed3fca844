package sandbox

import (
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// streams are the standard streams of a command. Output to a writer is copied from a
// pipe if the writer is not a file, or a file that the command could not open by name.
type streams struct {
	std    [3]*os.File
	own    int64      // bit n: std[n] was made for this command, which may own it
	opened []*os.File // closed by wait
	copies chan error
	count  int
}

func openStreams(s *Spec) (*streams, error) {
	st := &streams{copies: make(chan error, 2)}
	if s.Terminal != nil {
		st.std, st.own = [3]*os.File{s.Terminal, s.Terminal, s.Terminal}, 7
		return st, nil
	}
	err := st.input(s.Stdin)
	root := isRoot(s.User)
	for i, w := range []io.Writer{s.Stdout, s.Stderr} {
		switch {
		case err != nil:
		case i == 1 && (same(s.Stdout, s.Stderr) || st.own != 0 && sameFile(s.Stdout, s.Stderr)):
			// A single pipe keeps the order of writes.
			st.std[2] = st.std[1]
			st.own |= st.own << 1
		default:
			err = st.output(i+1, w, root)
		}
	}
	if err != nil {
		return nil, errors.Join(err, st.wait())
	}
	return st, nil
}

// isRoot reports whether a user specification names root. A user of another name may
// still have the id 0.
func isRoot(spec string) bool {
	name, _, _ := strings.Cut(spec, ":")
	return name == "" || name == "0" || name == "root"
}

func (st *streams) files() [3]*os.File { return st.std }

func (st *streams) input(f *os.File) (err error) {
	if f == nil {
		if f, err = os.Open(os.DevNull); err != nil {
			return err
		}
		st.opened = append(st.opened, f)
	}
	st.std[0] = f
	return nil
}

// output opens the stream n, whose output goes to w.
func (st *streams) output(n int, w io.Writer, root bool) (err error) {
	if f, ok := w.(*os.File); ok && f != nil {
		if opensAgain(f, root) {
			st.std[n] = f
			return nil
		}
		return st.pipe(n, w, true)
	}
	if w == nil {
		f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err == nil {
			st.opened = append(st.opened, f)
		}
		st.std[n] = f
		return err
	}
	return st.pipe(n, w, false)
}

// opensAgain reports whether a command can open a file of the caller by the name of its
// descriptor. Nothing can open a socket again. Files and pipes belong to the caller, and
// so do terminals, but the terminal of the command's session has the name /dev/tty.
func opensAgain(f *os.File, root bool) bool {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return true
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return false
	case unix.S_IFREG, unix.S_IFIFO:
		return root || st.Mode&0o002 != 0
	}
	return true
}

// pipe makes a pipe for the stream n and copies from it. If writing fails, the rest is
// discarded or, if hangUp is set, the pipe is closed, as if the command had written to w.
func (st *streams) pipe(n int, w io.Writer, hangUp bool) error {
	r, pipe, err := os.Pipe()
	if err != nil {
		return err
	}
	st.std[n] = pipe
	st.own |= 1 << n
	st.opened = append(st.opened, pipe)
	st.count++
	go func() {
		defer r.Close()
		_, err := io.Copy(w, r)
		switch {
		case err != nil && !hangUp:
			// The command must not block on a full pipe.
			io.Copy(io.Discard, r)
		case errors.Is(err, unix.EPIPE):
			err = nil // the command fails, or does not care
		}
		st.copies <- err
	}()
	return nil
}

// wait closes the command's ends of the streams and returns when all output has been
// copied. The command must have ended.
func (st *streams) wait() (err error) {
	for _, f := range st.opened {
		f.Close()
	}
	for range st.count {
		err = errors.Join(err, <-st.copies)
	}
	return err
}

// same reports whether two writers are equal. Writers that cannot be compared are not.
func same(a, b io.Writer) bool {
	defer func() { _ = recover() }() // from comparing an incomparable type
	return a != nil && a == b
}

// sameFile reports whether two writers are open files that are the same file.
func sameFile(a, b io.Writer) bool {
	one, ok := a.(*os.File)
	two, both := b.(*os.File)
	if !ok || !both || one == nil || two == nil {
		return false
	}
	i, err := one.Stat()
	j, err2 := two.Stat()
	return err == nil && err2 == nil && os.SameFile(i, j)
}
