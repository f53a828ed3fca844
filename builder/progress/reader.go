package progress

import "io"

// moves is the number of bytes between two calls of a counted reader's moved.
const moves = 256 << 10

// Counted returns a reader of r that calls moved with the number of bytes read so
// far every 256 KiB and at the end.
func Counted(r io.Reader, moved func(n int64)) io.Reader {
	return &counted{r: r, moved: moved}
}

type counted struct {
	r        io.Reader
	n, shown int64
	moved    func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.n += int64(n); c.n-c.shown >= moves || err != nil {
		c.shown = c.n
		c.moved(c.n)
	}
	return n, err
}
