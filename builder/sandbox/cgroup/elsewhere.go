package cgroup

// Elsewhere returns a Maker that makes no groups, for commands whose limits another
// program enforces. It is nil if no limits are set, as that of [With].
func Elsewhere(l Limits, others []Limits) *Maker {
	m := &Maker{limits: l, unlimited: true}
	for _, o := range others {
		if o != (Limits{}) && m.Other(o) == nil {
			m.others = append(m.others, &Maker{limits: o, unlimited: true})
		}
	}
	if l == (Limits{}) && len(m.others) == 0 {
		return nil
	}
	return m
}

// Limits returns the limits of a Maker's commands, of which nil has none.
func (m *Maker) Limits() Limits {
	if m == nil {
		return Limits{}
	}
	return m.limits
}
