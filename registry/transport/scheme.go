package transport

import (
	"slices"
	"sync/atomic"
)

// A scheme is a way to speak to a host.
type scheme struct {
	name   string // http or https
	verify bool   // the certificate
}

// schemes are the schemes that a host may speak, in the order in which they are
// tried. The last one that worked stays current.
type schemes struct {
	all   []scheme
	index atomic.Int32 // of the current one
}

func schemesFor(config HostConfig, insecure bool) []scheme {
	switch {
	case config.PlainHTTP:
		return []scheme{{"http", false}}
	case isLoopback(config.Domain):
		return []scheme{{"http", false}, {"https", !insecure}}
	case insecure:
		return []scheme{{"https", false}, {"http", false}}
	}
	return []scheme{{"https", true}}
}

func (s *schemes) current() scheme { return s.all[s.index.Load()] }

// switchFrom makes the scheme after from the current one and reports whether
// there is one. After the last it returns to the first, for the next request.
// If a concurrent request has switched already, it only reports true.
func (s *schemes) switchFrom(from scheme) bool {
	i := int32(slices.Index(s.all, from))
	if s.index.Load() != i {
		return true
	}
	if int(i)+1 < len(s.all) {
		s.index.CompareAndSwap(i, i+1)
		return true
	}
	s.index.CompareAndSwap(i, 0)
	return false
}
