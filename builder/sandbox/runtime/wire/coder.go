package wire

import (
	"encoding/binary"
	"errors"
)

// message is a value that can be sent. The method code passes its fields to a coder in a
// fixed order.
type message interface{ code(c *coder) }

func (r *Request) code(c *coder) {
	c.list(&r.Lowers)
	c.list(&r.CgroupFiles)
	c.texts(&r.Upper, &r.Work, &r.Root, &r.MountPoints, &r.Dir, &r.User, &r.Hostname, &r.HostsFile, &r.ResolvConf, &r.Probe)
	c.list(&r.Args)
	c.list(&r.Env)
	c.flags(&r.MakeDir, &r.NoNetwork, &r.Interactive, &r.Insecure, &r.OptionText)
	c.number(&r.ShmSize)
	c.number(&r.Own)
	slice(c, &r.Ulimits, func(l *Ulimit) {
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

// coder appends fields to buf or, if reading is set, takes them from its front.
type coder struct {
	buf     []byte
	reading bool
	err     error
}

var errShort = errors.New("truncated message")

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
		// Every element takes at least one byte.
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
