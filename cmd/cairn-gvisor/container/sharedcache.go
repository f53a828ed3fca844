package container

import (
	"fmt"
	"sync"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
)

// sharedCache is a cache that several commands may use at once. It is one file system for
// them. When the last of them has ended, its changes are written to the host.
type sharedCache struct {
	mu    sync.Mutex // held while the cache is opened or written
	users int
	cache *cache // nil without users
}

// sharedCache returns the cache with a source.
func (s *Server) sharedCache(source string) *sharedCache {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.caches[source]
	if c == nil {
		c = &sharedCache{}
		s.caches[source] = c
	}
	return c
}

// joinCache makes the command a user of a cache.
func (t *tree) joinCache(m *guest.Mount) (*cache, error) {
	s := t.s.sharedCache(m.Source)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cache == nil {
		c, err := t.openCache(m)
		if err != nil {
			c.close(t.ctx)
			return nil, err
		}
		s.cache = c
	}
	s.users++
	t.caches = append(t.caches, s.cache)
	return s.cache, nil
}

// leaveCache undoes joinCache. Also a command that could not be started writes the changes
// of others.
func (t *tree) leaveCache(c *cache) error {
	s := t.s.sharedCache(c.source)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users > 0 {
		return nil
	}
	s.cache = nil
	t.unused = append(t.unused, c)
	if err := t.saveCache(c); err != nil {
		return fmt.Errorf("save the cache %s: %w", c.dir, plain(err))
	}
	return nil
}
