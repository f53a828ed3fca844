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

// CheckOptions say how a store is checked.
type CheckOptions struct {
	Repair bool // drop what is wrong
	// Record says what is wrong with the bytes of a record; nil: only their seal counts.
	Record func([]byte) error
	// LayerKey is the key of a layer's tree, if it is filed; nil: trees are not read.
	LayerKey func(diffID layer.Digest) string
	// Unsound drops what was made with the files of a layer's tree that turned out to
	// be wrong, and counts that; a repair asks for it before it drops the tree, so that
	// nothing outlives an interrupted one. It gets the layers of all images that are
	// known, and must not use the store's entries: they are locked. It may be nil.
	Unsound func(diffID layer.Digest, images [][]layer.Digest) (int, error)
	// Progress hears how many bytes of blobs and trees were read; total is 0 when
	// it is not known. It may be nil, and is called once at a time.
	Progress func(what string, done, total int64)
}

// Damage is something that is not what its name says.
type Damage struct {
	What    string   // as in "blob sha256:..."
	Why     string   // what is wrong with it
	Images  []string // references of the images that need it
	Above   []string // of a layer's tree: references of the images that go on from it
	Results int      // of a layer's tree: steps whose results were dropped with it
	Dropped bool     // it is gone, so that it is made or fetched anew
}

// CheckReport says what was looked at and what was wrong.
type CheckReport struct {
	Blobs, Layers, Indexes, Records, Hints, Images, Pins, Trees int
	Bytes                                                       int64 // of blobs
	Wrong                                                       []Damage
}

// Check reads all that is in the store and verifies it: each blob against its
// digest, each small file against its checksum and what it must say, each image's
// manifest and config, each layer's tree against the layer's index. Nothing is
// marked as used. Builds may go on meanwhile: what looks wrong is looked at again,
// and dropped, while nobody can begin to use it.
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
	needed map[string][]string // hex of a blob -> images
	above  map[layer.Digest][]string
	images [][]layer.Digest        // the layers of each, bottom first
	trees  map[string]layer.Digest // name of a key -> the layer

	mu     sync.Mutex
	bad    map[string]bool // hex of damaged blobs
	done   int64           // bytes read of a kind
	total  int64
	report CheckReport
}

// kind is one kind of files: where they lie, and what must hold of each. A file
// that is gone meanwhile is fs.ErrNotExist.
type kind struct {
	name, folder string
	count        *int
	look         func(path, name string) error
}

// run looks at names before what they name, and at trees while their indexes are
// still there.
func (c *checker) run() error {
	if err := c.listImages(); err != nil {
		return err
	}
	if err := c.checkTrees(); err != nil {
		return err
	}
	r := &c.report
	for _, k := range []kind{
		{"image", c.s.path(tagsDir), &r.Images, c.tag},
		{"pin", c.s.path(pinsDir), &r.Pins, c.pin},
		{"record", c.s.path(recordsDir), &r.Records, c.record},
		{"hint", c.s.path(hintsDir), &r.Hints, c.hint},
		{"index of layer", c.s.path(indexesDir), &r.Indexes, c.index},
	} {
		if err := c.files(k, 1); err != nil {
			return err
		}
	}
	if err := c.files(kind{"blob", c.s.path(blobsDir), &r.Blobs, c.blob}, runtime.GOMAXPROCS(0)); err != nil {
		return err
	}
	return c.files(kind{"note of layer", c.s.path(layersDir), &r.Layers, c.note}, 1)
}

// listImages notes which image needs which blobs, and which lie on which layers.
func (c *checker) listImages() error {
	tags, err := c.s.documents(tagsDir)
	if err != nil {
		return err
	}
	p := &pruner{s: c.s}
	for _, d := range tags {
		all := map[layer.Digest]bool{d.Digest: true, d.ConfigDigest: true}
		for _, b := range p.layers(d) {
			all[b.Digest] = true
		}
		for digest := range all {
			c.needed[digest.Hex()] = append(c.needed[digest.Hex()], d.Ref)
		}
		c.listLayers(p, d, d.Ref)
	}
	pins, err := c.s.documents(pinsDir)
	for _, d := range pins {
		c.listLayers(p, d, "")
	}
	return err
}

// listLayers notes the layers of an image; with a name, also which lie below others.
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

// files looks at all files of a kind, some at once.
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

// begin finds out how much of blobs there is to be read.
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

// advance shows that n more bytes were read.
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
	if k.name != "tree" && (len(name) != 64 || !isHex(name)) {
		return errors.New("its name is none of the store's")
	}
	return k.look(path, name)
}

// settle looks again at what seems wrong, behind a lock that keeps others from
// beginning to use it and from pruning, and drops it if that was asked for.
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
	diffID := c.trees[name]
	if k.name == "tree" && diffID != "" {
		d.Above = slices.Sorted(slices.Values(c.above[diffID]))
		if c.o.Repair && c.o.Unsound != nil {
			if d.Results, err = c.o.Unsound(diffID, c.images); err != nil {
				return fmt.Errorf("drop what was made with %s: %w", d.What, err)
			}
		}
	}
	if c.o.Repair {
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

// called is how people know a file.
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
