package compress

import (
	"errors"
	"hash"
	"io"
	"runtime"
)

var errClosed = errors.New("compress: writer is closed")

// A codec compresses blocks.
type codec interface {
	blockSize() int
	dictSize() int // number of bytes of the previous block that a block may refer to
	header() []byte
	// trailer returns the bytes after the last block. It is called when sum has had
	// all input.
	trailer() []byte
	// sum gets all input in order, from one goroutine at a time.
	sum(p []byte)
	// encoder returns a new compressor of blocks for one goroutine at a time.
	encoder() encoder
}

// An encoder appends the compressed form of p to dst. last marks the last block,
// small a stream of one block.
type encoder interface {
	encode(dst, dict, p []byte, last, small bool) ([]byte, error)
}

// maxWorkers limits the cores of a large machine that one stream uses: one goroutine
// cannot read and hash more than eight cores compress.
const maxWorkers = 8

// A stream cuts its input into blocks. The first block is kept until there is more
// input. From then on several goroutines compress blocks, and one hashes the input
// and writes the output in order.
type stream struct {
	codec codec
	out   io.Writer
	diff  hash.Hash

	block *block // being filled
	dict  []byte // the end of the previous block

	parallel bool
	workers  int
	started  int
	todo     chan *block // to be compressed
	order    chan *block // to be written
	free     chan *block
	finished chan error // the result of the writing goroutine
	failed   chan struct{}
}

type block struct {
	in, dict, out []byte
	last          bool
	err           error
	done          chan struct{} // gets one value when the block is compressed
}

func newStream(c codec, out io.Writer, diff hash.Hash) *stream {
	return &stream{codec: c, out: out, diff: diff, block: &block{}}
}

func (s *stream) Write(p []byte) (int, error) {
	written := 0
	size := s.codec.blockSize()
	for len(p) > 0 {
		if len(s.block.in) == size {
			if err := s.submit(); err != nil {
				return written, err
			}
		}
		n := min(len(p), size-len(s.block.in))
		s.block.in = append(grow(s.block.in, n, size), p[:n]...)
		p, written = p[n:], written+n
	}
	return written, nil
}

// grow makes space for n more bytes and doubles the buffer up to size, so that a
// small layer does not pay for a whole block.
func grow(b []byte, n, size int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	bigger := make([]byte, len(b), min(size, max(8<<10, 4*cap(b), len(b)+n)))
	copy(bigger, b)
	return bigger
}

// submit queues the full block and gets an empty one.
func (s *stream) submit() error {
	if !s.parallel {
		s.start()
	}
	b := s.block
	b.dict = append(b.dict[:0], s.dict...)
	if n := min(s.codec.dictSize(), len(b.in)); n > 0 {
		s.dict = append(s.dict[:0], b.in[len(b.in)-n:]...)
	}
	if s.started < s.workers {
		s.started++
		go s.compress()
	}
	select {
	case <-s.failed:
		return s.fail()
	case next := <-s.free:
		s.order <- b
		s.todo <- b
		s.block = next
		next.in = next.in[:0]
	}
	return nil
}

func (s *stream) start() {
	s.parallel = true
	s.workers = min(runtime.GOMAXPROCS(0), maxWorkers)
	blocks := s.workers + 2 // one is being filled, one written
	s.todo = make(chan *block, blocks)
	s.order = make(chan *block, blocks)
	s.free = make(chan *block, blocks)
	s.finished = make(chan error, 1)
	s.failed = make(chan struct{})
	s.block.done = make(chan struct{}, 1)
	for range blocks - 1 {
		s.free <- &block{done: make(chan struct{}, 1)}
	}
	go s.write()
}

func (s *stream) fail() error {
	err := <-s.finished
	s.finished <- err
	return err
}

// compress runs one worker.
func (s *stream) compress() {
	e := s.codec.encoder()
	for b := range s.todo {
		b.out, b.err = e.encode(b.out[:0], b.dict, b.in, b.last, false)
		b.done <- struct{}{}
	}
}

// write writes blocks in order until there are no more, or until the first error.
func (s *stream) write() {
	_, err := s.out.Write(s.codec.header())
	for b := range s.order {
		s.diff.Write(b.in)
		s.codec.sum(b.in)
		<-b.done
		if err == nil {
			err = b.err
		}
		if err == nil {
			_, err = s.out.Write(b.out)
		}
		if err != nil {
			break
		}
		s.free <- b
	}
	if err == nil {
		_, err = s.out.Write(s.codec.trailer())
	}
	s.finished <- err
	close(s.failed)
}

// Close compresses the remaining input and waits for all goroutines.
func (s *stream) Close() error {
	if !s.parallel {
		return s.single()
	}
	s.block.last = true
	err := s.submit()
	close(s.todo)
	close(s.order)
	if err != nil {
		return err
	}
	return <-s.finished
}

// single writes a stream of one block.
func (s *stream) single() error {
	b := s.block
	s.diff.Write(b.in)
	s.codec.sum(b.in)
	out, err := s.codec.encoder().encode(s.codec.header(), nil, b.in, true, true)
	if err != nil {
		return err
	}
	_, err = s.out.Write(append(out, s.codec.trailer()...))
	return err
}
