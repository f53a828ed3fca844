package solve

import "sync"

// memo calls a function once for each key; later callers get the first one's
// answer, or wait for it.
type memo[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]*call[V]
}

type call[V any] struct {
	done  chan struct{}
	value V
	err   error
}

func (m *memo[K, V]) do(key K, f func() (V, error)) (V, error) {
	m.mu.Lock()
	if m.m == nil {
		m.m = map[K]*call[V]{}
	}
	c, ok := m.m[key]
	if !ok {
		c = &call[V]{done: make(chan struct{})}
		m.m[key] = c
	}
	m.mu.Unlock()
	if ok {
		<-c.done
		return c.value, c.err
	}
	defer close(c.done)
	c.value, c.err = f()
	return c.value, c.err
}
