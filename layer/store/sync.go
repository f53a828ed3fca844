package store

import (
	"errors"
	"os"
	"sync"
)

// syncer makes files durable behind the build: the file at once, its folder when
// many have come, or none will. What a power cut takes until then is made again.
// One goroutine, started by the first file.
type syncer struct {
	once  sync.Once
	mu    sync.RWMutex // held exclusively to close the queue
	queue chan written
	shut  bool
	done  chan struct{}
	err   error // valid after done
}

// written is a file that has its name, or a folder in which a synced file got
// its name (f is nil).
type written struct {
	f      *os.File
	folder string
}

const (
	queueLength = 64 // as many descriptors may be open
	folderEvery = 64 // files, the folders are synced
)

func newSyncer() *syncer {
	return &syncer{queue: make(chan written, queueLength), done: make(chan struct{})}
}

// add takes over the open file.
func (q *syncer) add(w written) {
	q.once.Do(func() { go q.run() })
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.shut {
		if w.f != nil {
			w.f.Close()
		}
		return
	}
	q.queue <- w
}

func (q *syncer) run() {
	defer close(q.done)
	folders := map[string]bool{}
	flush := func() {
		for folder := range folders {
			q.fail(syncFolder(folder))
		}
		clear(folders)
	}
	n := 0
	for w := range q.queue {
		if w.f != nil {
			q.fail(w.f.Sync())
			q.fail(w.f.Close())
		}
		folders[w.folder] = true
		if n++; n%folderEvery == 0 {
			flush()
		}
	}
	flush()
}

func (q *syncer) fail(err error) {
	if q.err == nil {
		q.err = err
	}
}

// close waits until all is durable, and returns the first error.
func (q *syncer) close() error {
	q.once.Do(func() { close(q.done) })
	q.mu.Lock()
	if !q.shut {
		q.shut = true
		close(q.queue)
	}
	q.mu.Unlock()
	<-q.done
	return q.err
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
