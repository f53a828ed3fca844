package guest

import "github.com/cairn-build/cairn/builder/sandbox/runtime/wire"

func numbers(c *wire.Coder, list ...*int64) {
	for _, n := range list {
		c.Number(n)
	}
}

// Code implements [wire.Message].
func (r *Request) Code(c *wire.Coder) {
	c.Texts(&r.Version, &r.Kind)
	r.Layer.code(c)
	r.Run.code(c)
}

func (l *Layer) code(c *wire.Coder) {
	c.Texts(&l.ID, &l.Tree, &l.Listing)
	wire.Slice(c, &l.Times, func(t *Time) {
		c.Texts(&t.Path)
		numbers(c, &t.Sec, &t.Nsec)
	})
}

func (r *Run) code(c *wire.Coder) {
	c.List(&r.Layers)
	c.List(&r.Args)
	c.List(&r.Env)
	c.List(&r.Groups)
	c.Texts(&r.Upper, &r.Scratch, &r.Dir, &r.User, &r.Hostname, &r.HostsFile, &r.ResolvConf)
	c.Flags(&r.MakeDir, &r.NoNetwork, &r.NoHosts, &r.Interactive, &r.Insecure)
	numbers(c, &r.DropCaps, &r.ShmSize, &r.Memory, &r.Processes)
	wire.Slice(c, &r.Ulimits, func(l *wire.Ulimit) {
		c.Texts(&l.Name)
		numbers(c, &l.Resource, &l.Soft, &l.Hard)
	})
	wire.Slice(c, &r.Mounts, func(m *Mount) {
		c.Texts(&m.Type, &m.Target, &m.Subpath, &m.Source, &m.Record, &m.Data)
		c.Flags(&m.ReadOnly)
		c.List(&m.Layers)
		numbers(c, &m.Size, &m.UID, &m.GID, &m.Mode)
	})
}

// Code implements [wire.Message].
func (r *Reply) Code(c *wire.Coder) {
	r.Reply.Code(c)
	c.Texts(&r.Limit)
}

// Code implements [wire.Message].
func (r *Changes) Code(c *wire.Coder) {
	wire.Slice(c, &r.List, func(e *Change) {
		c.Texts(&e.Path, &e.Link)
		c.Flags(&e.Opaque)
		numbers(c, &e.Mode, &e.UID, &e.GID, &e.Size, &e.Sec, &e.Nsec, &e.Major, &e.Minor, &e.Inode, &e.Links)
		wire.Slice(c, &e.XAttrs, func(a *Attribute) { c.Texts(&a.Name, &a.Value) })
	})
}
