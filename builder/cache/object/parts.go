package object

import "io"

// Parts reads parts of an object, and opens it again to go back.
type Parts struct {
	Open func() (io.ReadCloser, error)
	body io.ReadCloser
	at   int64 // offset of body
}

// Close closes the object.
func (s *Parts) Close() {
	if s.body != nil {
		s.body.Close()
		s.body = nil
	}
}

// From returns a reader of n bytes at off. It invalidates the previous one.
func (s *Parts) From(off, n int64) (io.ReadCloser, error) {
	if s.body == nil || s.at != off {
		s.Close()
		body, err := s.Open()
		if err != nil {
			return nil, err
		}
		s.body, s.at = body, off
		if _, err := io.CopyN(io.Discard, body, off); err != nil {
			return nil, err
		}
	}
	return io.NopCloser(io.LimitReader(counter{s}, n)), nil
}

// counter reads from the body of parts.
type counter struct{ s *Parts }

func (c counter) Read(b []byte) (int, error) {
	if c.s.body == nil {
		return 0, io.ErrClosedPipe
	}
	n, err := c.s.body.Read(b)
	c.s.at += int64(n)
	return n, err
}
