package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
)

// CheckOptions are the options of Check.
type CheckOptions struct {
	Repair bool // remove damaged entries
	// Record checks the contents of a record. If nil, only checksums of records are
	// verified.
	Record func([]byte) error
	// LayerKey returns the key under which the tree of a layer is stored. If nil,
	// trees are not verified.
	LayerKey func(diffID layer.Digest) string
	// Unsound drops the results that were made with the files of a damaged tree and
	// returns their number. A repair calls it before it removes the tree, so that no
	// result survives an interrupted repair. It gets the layers of all known images.
	// It must not look up entries in the store, which is locked. It may be nil.
	Unsound func(diffID layer.Digest, images [][]layer.Digest) (int, error)
	// Progress gets the number of bytes read so far of blobs or trees; total is 0 if
	// it is not known. It is not called concurrently. It may be nil.
	Progress func(what string, done, total int64)
}

// Damage describes a damaged entry.
type Damage struct {
	What    string   // such as "blob sha256:..."
	Why     string   // the problem
	Images  []string // references of the images that need it
	Above   []string // for the tree of a layer: references of the images with layers above it
	Results int      // for the tree of a layer: number of step results dropped with it
	Dropped bool     // it was removed, so that it is made or fetched again
	Lost    bool     // the image's layers cannot be restored: it must be built or pulled again
}

// CheckReport has the number of entries of each kind and the damaged ones.
type CheckReport struct {
	Blobs, Layers, Indexes, Records, Hints, Images, Pins, Builds, Trees int
	Bytes                                                               int64 // of blobs
	Wrong                                                               []Damage
}

// Check reads the whole store and verifies each blob against its digest, each small
// file against its checksum and its name, the manifest and config of each image, and
// the tree of each layer against the layer's listing. It marks nothing as used.
// Builds may run meanwhile: an entry that looks damaged is checked again, and
// removed, under a lock that keeps other processes from starting to use it.
func (s *Store) Check(ctx context.Context, o CheckOptions) (CheckReport, error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	c := &checker{s: s, ctx: ctx, o: o, needed: map[string][]string{}, above: map[layer.Digest][]string{}, trees: map[string]layer.Digest{}, bad: map[string]bool{}}
	if err := c.run(); err != nil {
		return c.report, s.explain("check the store", err)
	}
	slices.SortStableFunc(c.report.Wrong, func(a, b Damage) int { return strings.Compare(a.What, b.What) })
	return c.report, nil
}

type checker struct {
	s      *Store
	ctx    context.Context
	o      CheckOptions
	needed map[string][]string // hex digest of a blob -> references of images
	above  map[layer.Digest][]string
	images [][]layer.Digest        // the layers of each image, bottom first
	trees  map[string]layer.Digest // file name of a key -> the layer

	mu     sync.Mutex
	bad    map[string]bool // hex digests of damaged blobs
	done   int64           // bytes read of the current kind
	total  int64
	report CheckReport
}

// kind describes the files in one directory. look verifies one of them; it returns
// fs.ErrNotExist if the file was removed meanwhile.
type kind struct {
	name, folder string
	count        *int
	look         func(path, name string) error
}

// run verifies references before the entries they refer to, and trees while their
// listings still exist.
func (c *checker) run() error {
	if err := c.listImages(); err != nil {
		return err
	}
	if err := c.checkTrees(); err != nil {
		return err
	}
	var logs int
	if err := c.files(kind{"history of image", c.s.path(historyDir), &logs, c.log}, 1); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r := &c.report
	for _, k := range []kind{
		{"image", c.s.path(tagsDir), &r.Images, c.tag},
		{"pin", c.s.path(pinsDir), &r.Pins, c.pin},
		{"record", c.s.path(recordsDir), &r.Records, c.record},
		{"hint", c.s.path(hintsDir), &r.Hints, c.hint},
		{"build", c.s.path(buildsDir), &r.Builds, c.hint},
		{"listing of layer", c.s.path(indexesDir), &r.Indexes, c.index},
	} {
		if err := c.files(k, 1); err != nil {
			return err
		}
	}
	if err := c.files(kind{"blob", c.s.path(blobsDir), &r.Blobs, c.blob}, runtime.GOMAXPROCS(0)); err != nil {
		return err
	}
	return c.files(kind{"descriptors of layer", c.s.path(layersDir), &r.Layers, c.note}, 1)
}

// listImages records the blobs that each image needs and the layers of each image.
func (c *checker) listImages() error {
	tags, _, err := c.s.documents(tagsDir)
	if err != nil {
		return err
	}
	p := &pruner{s: c.s}
	for _, d := range tags {
		all := map[layer.Digest]bool{}
		if d.Index != nil {
			all[d.Index.Digest] = true
		}
		for _, part := range d.parts() {
			all[part.Digest], all[part.ConfigDigest] = true, true
			for _, b := range p.layers(part) {
				all[b.Digest] = true
			}
		}
		for digest := range all {
			c.needed[digest.Hex()] = append(c.needed[digest.Hex()], d.Ref)
		}
		c.listLayers(p, d, d.Ref)
	}
	pins, _, err := c.s.documents(pinsDir)
	for _, d := range pins {
		c.listLayers(p, d, "")
	}
	return err
}

// listLayers records the layers of an image and, if it has a reference, which layers
// have others above them.
func (c *checker) listLayers(p *pruner, d document, ref string) {
	for _, part := range d.parts() {
		var ids []layer.Digest
		for _, b := range p.layers(part) {
			ids = append(ids, b.DiffID)
		}
		if len(ids) == 0 {
			continue
		}
		c.images = append(c.images, ids)
		for _, id := range ids[:len(ids)-1] {
			if ref != "" && !slices.Contains(c.above[id], ref) {
				c.above[id] = append(c.above[id], ref)
			}
		}
	}
}

// files verifies all files of a kind, atOnce of them concurrently.
func (c *checker) files(k kind, atOnce int) error {
	names, err := readNames(k.folder)
	if err != nil {
		return err
	}
	slices.Sort(names)
	c.begin(k, names)
	queue := make(chan string)
	errs := make([]error, atOnce)
	var workers sync.WaitGroup
	for i := range errs {
		workers.Go(func() {
			for name := range queue {
				if errs[i] == nil && c.ctx.Err() == nil {
					errs[i] = c.file(k, name)
				}
			}
		})
	}
	for _, name := range names {
		queue <- name
	}
	close(queue)
	workers.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	*k.count = len(names)
	return context.Cause(c.ctx)
}

// begin resets the progress and sums up the sizes of blobs.
func (c *checker) begin(k kind, names []string) {
	c.done, c.total = 0, 0
	if k.name != "blob" {
		return
	}
	for _, name := range names {
		var st unix.Stat_t
		if unix.Lstat(k.folder+"/"+name, &st) == nil {
			c.total += st.Size
		}
	}
	c.report.Bytes = c.total
}

// advance reports n more bytes as read.
func (c *checker) advance(what string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += n
	c.o.Progress(what, c.done, c.total)
}

func (c *checker) file(k kind, name string) error {
	path := k.folder + "/" + name
	err := c.checkName(k, path, name)
	if err == nil || errors.Is(err, fs.ErrNotExist) || c.ctx.Err() != nil {
		return nil
	}
	return c.settle(k, path, name)
}

func (c *checker) checkName(k kind, path, name string) error {
	if k.name == "build" && !buildName().MatchString(name) || k.name != "tree" && k.name != "build" && (len(name) != 64 || !isHex(name)) {
		return errors.New("unexpected file name")
	}
	return k.look(path, name)
}

// settle verifies a file again that looked damaged, under a lock that keeps other
// processes from starting to use it and from pruning. It removes the file if this is
// a repair.
func (c *checker) settle(k kind, path, name string) error {
	gc, err := os.OpenFile(c.s.path(gcFile), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer gc.Close()
	if err := flock(gc, unix.LOCK_EX); err != nil {
		return err
	}
	var was unix.Stat_t
	if unix.Lstat(path, &was) != nil {
		return nil
	}
	wrong := c.checkName(k, path, name)
	if wrong == nil || errors.Is(wrong, fs.ErrNotExist) {
		return nil
	}
	d := Damage{What: k.name + " " + c.called(k, path, name), Why: wrong.Error()}
	if k.name == "blob" {
		d.Images = c.needed[name]
	}
	var lost *lostError
	d.Lost = errors.As(wrong, &lost)
	diffID := c.layerOf(name)
	if k.name == "tree" && diffID != "" {
		d.Above = slices.Sorted(slices.Values(c.above[diffID]))
		if c.o.Repair && c.o.Unsound != nil {
			if d.Results, err = c.o.Unsound(diffID, c.images); err != nil {
				return fmt.Errorf("drop the results made with %s: %w", d.What, err)
			}
		}
	}
	if c.o.Repair && !d.Lost {
		if d.Dropped, err = c.s.drop(path, was); err != nil {
			return fmt.Errorf("drop %s: %w", d.What, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Wrong = append(c.report.Wrong, d)
	c.bad[name] = c.bad[name] || k.name == "blob"
	return nil
}

// called returns the name of a file as shown to users.
func (c *checker) called(k kind, path, name string) string {
	var d document
	switch {
	case k.name == "blob", strings.HasSuffix(k.name, " of layer"):
		return "sha256:" + name
	case (k.name == "image" || k.name == "pin") && readDocument(path, &d):
		return d.Ref
	}
	return name
}
