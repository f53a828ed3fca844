package source

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// prefetch has the directories that a walk enters next, for other goroutines to load. The
// first to be walked is on top of the stack.
type prefetch struct {
	mu      sync.Mutex
	more    sync.Cond
	stack   []*child
	loaded  int // loaded by helpers and not walked yet
	stopped bool
	helpers sync.WaitGroup
	started bool
}

const (
	maxHelpers = 8
	maxAhead   = 64 // directories loaded and kept open ahead of the walk
)

// child is a directory below the one being walked. It is loaded by the goroutine that
// claims it.
type child struct {
	frame
	name    string // a NUL byte follows
	part    bool   // only files below it that are included again are walked
	parent  int    // descriptor, open until the child is loaded or claimed
	claimed atomic.Bool
	done    chan struct{} // closed when a helper has loaded it; nil if none will, or after collect
	entries []entry
	err     error
}

func newChild(fr *frame, it item, st states, part bool) *child {
	return &child{
		frame:  frame{fd: -1, path: it.path, depth: fr.depth + 1, states: st},
		name:   it.name,
		part:   part,
		parent: fr.fd,
	}
}

func (c *child) claim() bool { return c.claimed.CompareAndSwap(false, true) }

// loadChild opens and reads a directory.
func (w *walker) loadChild(c *child, parent int, buf []byte) {
	if c.fd, c.err = openDir(parent, c.name); c.err != nil {
		c.fd, c.err = -1, pathError("open", c.path, c.err)
		return
	}
	if c.entries, c.err = w.load(&c.frame, buf); c.err != nil {
		c.close()
	}
}

// offer lets helpers load the children of a directory that are surely part of the walk.
// Children of deep directories are not offered, because their parents may be closed.
func (w *walker) offer(fr *frame, entries []entry) {
	procs := runtime.GOMAXPROCS(0)
	if fr.depth >= maxOpen || procs == 1 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	before := len(w.stack)
	for i := range entries {
		if e := &entries[len(entries)-1-i]; e.in && e.child != nil {
			e.child.done = make(chan struct{})
			w.stack = append(w.stack, e.child)
		}
	}
	if len(w.stack) == before {
		return
	}
	if !w.started {
		w.started = true
		w.more.L = &w.mu
		for range min(procs-1, maxHelpers) {
			w.helpers.Go(w.help)
		}
	}
	w.more.Broadcast()
}

// help loads directories until the walk ends.
func (w *walker) help() {
	buf := make([]byte, listBuffer)
	for c := w.take(); c != nil; c = w.take() {
		w.loadChild(c, c.parent, buf)
		close(c.done)
	}
}

// take claims the next directory. It returns nil when the walk has ended.
func (w *walker) take() *child {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for !w.stopped && (len(w.stack) == 0 || w.loaded >= maxAhead) {
			w.more.Wait()
		}
		if w.stopped {
			return nil
		}
		c := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		if c.claim() {
			w.loaded++
			return c
		}
	}
}

// collect waits until a helper has loaded a directory that it has claimed.
func (w *walker) collect(c *child) {
	<-c.done
	c.done = nil
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.loaded--; w.loaded == maxAhead-1 {
		w.more.Broadcast()
	}
}

// abandon waits, when a walk ends early, until no helper uses the directory, and closes
// the children that were loaded but not walked.
func (w *walker) abandon(entries []entry) {
	for i := range entries {
		if c := entries[i].child; c != nil && !c.claim() && c.done != nil {
			w.collect(c)
			c.close()
		}
	}
}

// stop ends the helpers.
func (w *walker) stop() {
	if !w.started {
		return
	}
	w.mu.Lock()
	w.stopped = true
	w.more.Broadcast()
	w.mu.Unlock()
	w.helpers.Wait()
}
