// Package once computes values once, for any number of concurrent callers.
//
// The first caller computes the value; the others wait for it, each for as long
// as its own context lasts, and later callers get the remembered value.
// Unlike sync.OnceValues, a computation that fails is forgotten, and the next
// caller tries again, unless KeepErrors is set. Unlike singleflight, a result
// is remembered.
package once

import (
	"context"
	"sync"
)

// Value is a value that is computed once. The zero Value is ready for use. It
// must not be copied after first use.
type Value[V any] struct {
	// KeepErrors makes an error final: all later callers get it. By default
	// the next caller computes the value again.
	KeepErrors bool

	mu      sync.Mutex
	running chan struct{} // closed when the current computation ends; nil if there is none
	done    bool          // value and err are final
	value   V
	err     error
}

// Do returns the value. It calls compute unless the value is known; if another
// call is computing it, Do waits for that one. If ctx ends while Do waits, Do
// returns the cause. Compute runs in the caller's goroutine and has to watch
// its context itself.
func (o *Value[V]) Do(ctx context.Context, compute func() (V, error)) (V, error) {
	for {
		o.mu.Lock()
		if o.done {
			o.mu.Unlock()
			return o.value, o.err
		}
		running := o.running
		if running == nil {
			o.running = make(chan struct{})
			o.mu.Unlock()
			return o.compute(compute)
		}
		o.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
			var zero V
			return zero, context.Cause(ctx)
		}
	}
}

func (o *Value[V]) compute(compute func() (V, error)) (v V, err error) {
	returned := false
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if returned && (err == nil || o.KeepErrors) { // not after a panic
			o.done, o.value, o.err = true, v, err
		}
		close(o.running)
		o.running = nil
	}()
	v, err = compute()
	returned = true
	return v, err
}

// Map holds a [Value] for each key. The zero Map is ready for use. It must not
// be copied after first use.
type Map[K comparable, V any] struct {
	// KeepErrors makes errors final, as in [Value].
	KeepErrors bool

	mu     sync.Mutex
	values map[K]*Value[V]
}

// Do returns the value of key, computing it like [Value.Do] if it is not known.
func (m *Map[K, V]) Do(ctx context.Context, key K, compute func() (V, error)) (V, error) {
	m.mu.Lock()
	if m.values == nil {
		m.values = map[K]*Value[V]{}
	}
	v, ok := m.values[key]
	if !ok {
		v = &Value[V]{KeepErrors: m.KeepErrors}
		m.values[key] = v
	}
	m.mu.Unlock()
	return v.Do(ctx, compute)
}

// Forget drops the value of key, so that the next call of Do computes it again.
// A computation that is under way still answers the callers that wait for it.
func (m *Map[K, V]) Forget(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
}
