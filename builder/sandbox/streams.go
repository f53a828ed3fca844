package sandbox

import (
	"errors"
	"io"
	"os"
)

// streams are the three standard streams of a command, and the copying from pipes to
// writers that are no files.
type streams struct {
	std    [3]*os.File
	close  []*os.File // the command's ends of pipes
	copies chan error
	count  int
}

func openStreams(s *Spec) (*streams, error) {
	st := &streams{copies: make(chan error, 2)}
	err := st.input(s.Stdin)
	for i, w := range []io.Writer{s.Stdout, s.Stderr} {
		switch {
		case err != nil:
		case i == 1 && same(s.Stdout, s.Stderr):
			// One pipe for both keeps their order.
			st.std[2] = st.std[1]
		default:
			st.std[i+1], err = st.output(w)
		}
	}
	if err != nil {
		return nil, errors.Join(err, st.wait())
	}
	return st, nil
}

func (st *streams) files() [3]*os.File { return st.std }

func (st *streams) input(f *os.File) (err error) {
	if f == nil {
		if f, err = os.Open(os.DevNull); err != nil {
			return err
		}
		st.close = append(st.close, f)
	}
	st.std[0] = f
	return nil
}

func (st *streams) output(w io.Writer) (*os.File, error) {
	if f, ok := w.(*os.File); ok && f != nil {
		return f, nil
	}
	if w == nil {
		f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err == nil {
			st.close = append(st.close, f)
		}
		return f, err
	}
	r, pipe, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	st.close = append(st.close, pipe)
	st.count++
	go func() {
		defer r.Close()
		_, err := io.Copy(w, r)
		if err != nil {
			// The command must not stop at a full pipe.
			io.Copy(io.Discard, r)
		}
		st.copies <- err
	}()
	return pipe, nil
}

// wait returns when all output has been copied. The command has ended by then.
func (st *streams) wait() (err error) {
	for _, f := range st.close {
		f.Close()
	}
	for range st.count {
		err = errors.Join(err, <-st.copies)
	}
	return err
}

// same tells whether two writers are one, as far as they can be compared.
func same(a, b io.Writer) bool {
	defer func() { _ = recover() }() // of a type that cannot be compared
	return a != nil && a == b
}
