package wire

import (
	"encoding/binary"
	"errors"
)

// Message is a value that can be sent. The method Code passes its fields to a Coder in a
// fixed order.
type Message interface{ Code(c *Coder) }

func (r *Request) Code(c *Coder) {
	c.List(&r.Lowers)
	c.List(&r.CgroupFiles)
	c.List(&r.Groups)
	c.Texts(&r.Upper, &r.Work, &r.Root, &r.MountPoints, &r.Dir, &r.User, &r.Hostname, &r.HostsFile, &r.ResolvConf, &r.Probe)
	c.List(&r.Args)
	c.List(&r.Env)
	c.Flags(&r.MakeDir, &r.NoNetwork, &r.NoHosts, &r.Interactive, &r.Terminal, &r.Insecure, &r.OptionText)
	c.Number(&r.ShmSize)
	c.Number(&r.Own)
	c.Number(&r.DropCaps)
	Slice(c, &r.Ulimits, func(l *Ulimit) {
		c.Texts(&l.Name)
		for _, n := range []*int64{&l.Resource, &l.Soft, &l.Hard} {
			c.Number(n)
		}
	})
	Slice(c, &r.Mounts, func(m *Mount) {
		c.Texts(&m.Type, &m.Source, &m.Target, &m.Upper, &m.Work, &m.Subpath, &m.Data)
		c.Flags(&m.ReadOnly)
		c.List(&m.Lowers)
		for _, n := range []*int64{&m.Size, &m.UID, &m.GID, &m.Mode} {
			c.Number(n)
		}
	})
}

func (r *Reply) Code(c *Coder) {
	c.Texts(&r.Error, &r.Touched)
	c.Number(&r.Errno)
	c.Number(&r.Status)
	c.Number(&r.CPU)
	c.Number(&r.Memory)
}

// Coder encodes fields or, when a message is received, decodes them.
type Coder struct {
	buf     []byte // fields are appended to it, or taken from its front
	reading bool
	err     error
}

var errShort = errors.New("truncated message")

// Number codes a number.
func (c *Coder) Number(n *int64) {
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

// Flags codes booleans.
func (c *Coder) Flags(list ...*bool) {
	for _, b := range list {
		var n int64
		if *b {
			n = 1
		}
		c.Number(&n)
		*b = n == 1
	}
}

// Texts codes strings.
func (c *Coder) Texts(list ...*string) {
	for _, s := range list {
		n := int64(len(*s))
		c.Number(&n)
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

// List codes a list of strings.
func (c *Coder) List(l *[]string) { Slice(c, l, func(s *string) { c.Texts(s) }) }

// Slice codes a list by a call of each for every element.
func Slice[T any](c *Coder, list *[]T, each func(*T)) {
	n := int64(len(*list))
	c.Number(&n)
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
