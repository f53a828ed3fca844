package helper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Argument is the name under which a helper process is started, by which it knows
// what it is.
const Argument = "cairn-sandbox"

// ControlFD is the helper's end of a SOCK_SEQPACKET pair. Each packet carries the four
// descriptors of one request: a stream socket, standard input, output and error. On
// the stream come the Request and then single bytes, each the number of a signal for
// the command; the end of the stream kills it. The Reply goes back on it.
const ControlFD = 3

// Request is one command to run, or with Probe set a test of what can be mounted.
type Request struct {
	Lowers      []string
	Upper, Work string
	Root        string // a plain tree, in place of the three
	Stubs       string
	Mounts      []Mount
	Args, Env   []string
	Dir         string
	MakeDir     bool
	User        string
	Hostname    string
	HostsFile   string
	ResolvConf  string
	NoNetwork   bool
	ShmSize     int64
	Limits      []Limit
	Groups      []string // files that the command writes itself into before anything else
	Interactive bool
	Insecure    bool
	OptionText  bool   // give overlay its options as one text even where it takes them one by one
	Probe       string // a folder on the file system to test
}

// Limit is one of setrlimit(2); -1 is none.
type Limit struct {
	Name                 string
	Resource, Soft, Hard int64
}

// Mount is one more file system in the tree, as the sandbox's own describes it.
type Mount struct {
	Type           string
	Source, Target string
	ReadOnly       bool
	Lowers         []string
	Upper, Work    string
	Subpath        string
	Size           int64
	Data           string
	UID, GID       int64
	Mode           int64
}

// Reply says how a request ended.
type Reply struct {
	Error   string // why it could not be started
	Errno   int64  // the number of the error below it, 0 for none
	Touched string // paths of a plain tree that are as before, but for their ctime; a zero byte after each
	Status  int64  // wait status of the command; with an Error 1 when it is what a probe found
}

// message is a value that can cross the socket; code visits its fields in order.
type message interface{ code(c *coder) }

func (r *Request) code(c *coder) {
	c.list(&r.Lowers)
	c.list(&r.Groups)
	c.texts(&r.Upper, &r.Work, &r.Root, &r.Stubs, &r.Dir, &r.User, &r.Hostname, &r.HostsFile, &r.ResolvConf, &r.Probe)
	c.list(&r.Args)
	c.list(&r.Env)
	c.flags(&r.MakeDir, &r.NoNetwork, &r.Interactive, &r.Insecure, &r.OptionText)
	c.number(&r.ShmSize)
	slice(c, &r.Limits, func(l *Limit) {
		c.texts(&l.Name)
		for _, n := range []*int64{&l.Resource, &l.Soft, &l.Hard} {
			c.number(n)
		}
	})
	slice(c, &r.Mounts, func(m *Mount) {
		c.texts(&m.Type, &m.Source, &m.Target, &m.Upper, &m.Work, &m.Subpath, &m.Data)
		c.flags(&m.ReadOnly)
		c.list(&m.Lowers)
		for _, n := range []*int64{&m.Size, &m.UID, &m.GID, &m.Mode} {
			c.number(n)
		}
	})
}

func (r *Reply) code(c *coder) {
	c.texts(&r.Error, &r.Touched)
	c.number(&r.Errno)
	c.number(&r.Status)
}

// coder writes fields to buf or, reading, takes them from it. Texts are kept byte for
// byte, which JSON would not do.
type coder struct {
	buf     []byte
	reading bool
	err     error
}

var errShort = errors.New("a message ends too early")

func (c *coder) number(n *int64) {
	if !c.reading {
		c.buf = binary.AppendVarint(c.buf, *n)
		return
	}
	v, size := binary.Varint(c.buf)
	if size <= 0 {
		c.err, c.buf = errShort, nil
		return
	}
	*n, c.buf = v, c.buf[size:]
}

func (c *coder) flags(list ...*bool) {
	for _, b := range list {
		var n int64
		if *b {
			n = 1
		}
		c.number(&n)
		*b = n == 1
	}
}

func (c *coder) texts(list ...*string) {
	for _, s := range list {
		n := int64(len(*s))
		c.number(&n)
		switch {
		case !c.reading:
			c.buf = append(c.buf, *s...)
		case n < 0 || n > int64(len(c.buf)):
			c.err, c.buf = errShort, nil
		default:
			*s, c.buf = string(c.buf[:n]), c.buf[n:]
		}
	}
}

func (c *coder) list(l *[]string) { slice(c, l, func(s *string) { c.texts(s) }) }

func slice[T any](c *coder, list *[]T, each func(*T)) {
	n := int64(len(*list))
	c.number(&n)
	if c.reading {
		// Every element takes a byte at least.
		if n < 0 || n > int64(len(c.buf)) {
			c.err, c.buf = errShort, nil
			return
		}
		if *list = nil; n > 0 {
			*list = make([]T, n)
		}
	}
	for i := range *list {
		each(&(*list)[i])
	}
}

// maxMessage bounds a message; the kernel takes less than this for one execve.
const maxMessage = 64 << 20

// Send writes one message.
func Send(w io.Writer, m message) error {
	c := coder{buf: make([]byte, 4, 4096)}
	m.code(&c)
	if len(c.buf) > maxMessage {
		return fmt.Errorf("a request of %d bytes is too large", len(c.buf))
	}
	binary.LittleEndian.PutUint32(c.buf, uint32(len(c.buf)-4))
	_, err := w.Write(c.buf)
	return err
}

// Receive reads one message.
func Receive(r io.Reader, m message) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > maxMessage {
		return fmt.Errorf("a message of %d bytes is too large", size)
	}
	c := coder{buf: make([]byte, size), reading: true}
	if _, err := io.ReadFull(r, c.buf); err != nil {
		return err
	}
	m.code(&c)
	return c.err
}
