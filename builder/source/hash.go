package source

import (
	"context"
	"crypto/sha256"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

const (
	hashBuffer = 256 << 10
	jobFiles   = 64      // maximum number of files of a job
	jobBytes   = 1 << 20 // size at which a job is complete
	pieceFiles = 4 * jobFiles
)

// Digest returns the SHA-256 of a regular file's content. It reads the file if that is not
// known.
func (d *Dir) Digest(f File) (layer.Digest, error) {
	if f.Digest == "" {
		if err := d.hash(&f, make([]byte, max(1, min(f.stamp.size, hashBuffer)))); err != nil {
			return "", err
		}
	}
	return f.Digest, nil
}

// Hash sets the Digest of the regular files among files, using all CPUs.
func (d *Dir) Hash(ctx context.Context, files []File) error {
	p := d.newPool(ctx)
	p.add(&piece{files: files})
	return p.wait()
}

// Scan is like Walk, with the digests of all regular files, which it computes on all CPUs
// during the walk. It calls emit with consecutive parts of the files as soon as their
// digests are known. It does not keep the files, as a context may have very many. After
// an error the emitted files are not complete.
func (d *Dir) Scan(ctx context.Context, path string, o WalkOptions, emit func([]File)) error {
	p := d.newPool(ctx)
	var waiting []*piece
	ready := func() {
		for len(waiting) > 0 && waiting[0].left.Load() == 0 {
			emit(waiting[0].files)
			waiting[0] = nil
			waiting = waiting[1:]
		}
	}
	last := &piece{}
	var count Count
	send := func() {
		p.add(last)
		waiting = append(waiting, last)
		ready()
	}
	err := d.Walk(p.ctx, path, o, func(f File) error {
		if len(last.files) == pieceFiles {
			send()
			last = &piece{files: make([]File, 0, pieceFiles)}
		}
		last.files = append(last.files, f)
		if f.Type != listing.TypeDir {
			count.Files++
			count.Bytes += f.Size
		}
		return nil
	})
	send()
	d.scans.note(clean(path), count)
	if failed := p.wait(); failed != nil {
		return failed // it has ended the walk too
	}
	if err == nil {
		ready()
	}
	return err
}

// piece is a part of a walk.
type piece struct {
	files []File
	left  atomic.Int32 // number of unfinished jobs
}

// pool hashes files in place.
type pool struct {
	*Dir
	*errgroup.Group
	parent, ctx context.Context
	jobs        chan job
}

// job is a part of a piece.
type job struct {
	files []File
	left  *atomic.Int32
}

func (d *Dir) newPool(ctx context.Context) *pool {
	group, inner := errgroup.WithContext(ctx)
	return &pool{Dir: d, Group: group, parent: ctx, ctx: inner}
}

// start starts the workers. It is called for the first file that must be read.
func (p *pool) start() {
	n := runtime.GOMAXPROCS(0)
	p.jobs = make(chan job, 16*n)
	for range n {
		p.Go(p.work)
	}
}

func (p *pool) work() error {
	buf := make([]byte, hashBuffer)
	for j := range p.jobs {
		for i := range j.files {
			if err := p.ctx.Err(); err != nil {
				return err
			}
			if !needsDigest(&j.files[i]) {
				continue
			}
			if err := p.hash(&j.files[i], buf); err != nil {
				return err
			}
		}
		j.left.Add(-1)
	}
	return nil
}

// needsDigest reports whether a file is regular and its digest is not known.
func needsDigest(f *File) bool { return f.Type == listing.TypeFile && f.Digest == "" }

// add splits a piece into jobs.
func (p *pool) add(all *piece) {
	files := all.files
	from, count, size := 0, 0, int64(0)
	for i := range files {
		if !needsDigest(&files[i]) {
			continue
		}
		count++
		size += files[i].stamp.size
		if count == jobFiles || size >= jobBytes {
			p.send(all, files[from:i+1])
			from, count, size = i+1, 0, 0
		}
	}
	if count > 0 {
		p.send(all, files[from:])
	}
}

func (p *pool) send(all *piece, files []File) {
	all.left.Add(1)
	if p.jobs == nil {
		p.start()
	}
	select {
	case p.jobs <- job{files, &all.left}:
	case <-p.ctx.Done():
	}
}

// wait waits for the workers. It returns the first error of a worker, or the error of the
// caller's context.
func (p *pool) wait() error {
	if p.jobs != nil {
		close(p.jobs)
	}
	if err := p.Wait(); err != nil {
		return err
	}
	return p.parent.Err()
}

// hash reads one file and sets its Digest.
func (d *Dir) hash(f *File, buf []byte) error {
	if err := f.regular(); err != nil {
		return err
	}
	fd, err := f.open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	h := sha256.New()
	for left := f.stamp.size; left > 0; {
		n, err := f.read(fd, buf, left)
		if err != nil {
			return err
		}
		h.Write(buf[:n])
		left -= int64(n)
	}
	if err := f.check(fd); err != nil {
		return err
	}
	sum := [sha256.Size]byte(h.Sum(nil))
	f.Digest = layer.FromSum(sum[:])
	d.hints.learn(f, sum)
	return nil
}
