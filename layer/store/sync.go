package store

import (
	"errors"
	"os"
	"sync"
)

// syncer syncs files in the background: each file at once, and its directory after a
// number of files or at the end. Files lost in a power failure are made again. The
// first file starts its goroutine.
type syncer struct {
	once  sync.Once
	mu    sync.RWMutex // held exclusively to close the queue
	queue chan written
	shut  bool
	done  chan struct{}
	err   error // valid after done
}

// written is a file that was renamed into place, or the directory of a file that is
// synced already (f is nil).
type written struct {
	f      *os.File
	folder string
}

const (
	queueLength = 64 // also the maximum number of open files
	folderEvery = 64 // number of files after which the directories are synced
)

func newSyncer() *syncer {
	return &syncer{queue: make(chan written, queueLength), done: make(chan struct{})}
}

// add queues a file, which the syncer closes.
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

// close waits until everything is durable and returns the first error.
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
