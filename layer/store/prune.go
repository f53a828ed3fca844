package store

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
)

// keepFor is the default time for which unused entries stay.
const keepFor = 7 * 24 * time.Hour

// slowPrune is longer than any Prune takes. An entry that is newer than the start of
// Prune by more than that has the time of a wrong clock; it does not belong to a
// build that began meanwhile.
const slowPrune = time.Hour

// PruneOptions are the options of Prune.
type PruneOptions struct {
	All    bool      // remove all entries that no tag needs, however new, and cache mounts
	Before time.Time // remove entries last used before this time; default: a week ago
	Keep   int64     // if not zero, stop when the entries that no tag needs, with cache mounts, take at most this many bytes; least recently used first

	// History keeps the images that references had since this time, as tags keep their
	// images. The zero time keeps none.
	History time.Time
}

// PruneReport has the number of removed entries of each kind.
type PruneReport struct {
	Blobs, Layers, Records, Trees, Hints, Pins, Caches, Builds int
	Freed                                                      int64 // bytes on disk
}

// Prune removes entries that no tag needs: all of them if All is set, or else those
// not used lately. Entries in use by a running process stay. Unless All is set, the
// listings and descriptors of layers stay as well: they are small, and with them a
// layer's contents are known without pulling it.
func (s *Store) Prune(o PruneOptions) (PruneReport, error) {
	p := &pruner{s: s, all: o.All, history: o.History, fits: o.Keep > 0, blobs: map[string]bool{}, diffIDs: map[string]bool{}, origins: map[string]bool{}}
	before := o.Before
	switch {
	case before.IsZero() && o.Keep > 0:
		before = time.Now()
	case before.IsZero():
		before = time.Now().Add(-keepFor)
	}
	p.cutoff = before.UnixNano()
	if o.Keep > 0 {
		if err := p.fit(o.Keep); err != nil {
			return p.report, s.explain("prune", err)
		}
	}
	if err := p.run(); err != nil {
		return p.report, s.explain("prune", err)
	}
	p.report.Freed += s.trash.sweepNow().bytes
	return p.report, nil
}

type pruner struct {
	s              *Store
	all            bool
	history        time.Time       // images that references had since then are needed
	fits           bool            // the cutoff was set by fit
	alone          bool            // no other process is alive
	cutoff         int64           // entries last used before it are removed
	horizon        int64           // and those used after it, whose time comes from a wrong clock
	blobs, diffIDs map[string]bool // hex digests that are needed
	origins        map[string]bool // file names of the hints that are needed
	report         PruneReport
}

// run holds an exclusive lock, so that no process can mark an entry as used between
// the check of its time and its removal.
func (p *pruner) run() error {
	s := p.s
	// This needs a file description of its own: s.gc is locked shared by readers of
	// this process.
	gc, err := os.OpenFile(s.path(gcFile), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer gc.Close()
	if err := flock(gc, unix.LOCK_EX); err != nil {
		return err
	}
	s.sweep()
	live, alone := s.oldestLease()
	p.alone = alone
	p.horizon = math.MaxInt64
	if p.all {
		p.cutoff = live
	}
	if p.all && alone {
		now, err := fileClock()
		if err != nil {
			return err
		}
		p.horizon = max(now, live) + int64(slowPrune)
	}
	p.cutoff = min(p.cutoff, live)
	if err := p.mark(); err != nil {
		return err
	}
	return p.remove()
}

// mark collects the entries that tags need, and the manifests of the pins that stay.
func (p *pruner) mark() error {
	if err := p.markTags(); err != nil {
		return err
	}
	return p.prunePins()
}

func (p *pruner) markTags() error {
	tags, _, err := p.s.documents(tagsDir)
	if err != nil {
		return err
	}
	for _, d := range tags {
		p.markTagged(d)
	}
	if p.history.IsZero() {
		return nil
	}
	return p.markLogs(p.history)
}

// markTagged marks the images of a document with their layers.
func (p *pruner) markTagged(d document) {
	if d.Index != nil {
		p.blobs[d.Index.Digest.Hex()] = true
	}
	for _, part := range d.parts() {
		p.markDocument(part)
		for _, b := range p.layers(part) {
			p.blobs[b.Digest.Hex()] = true
			p.diffIDs[b.DiffID.Hex()] = true
			p.origins[keyName(originKey(b.Digest))] = true
		}
	}
}

// layers reads an image without marking it as used, since that would wait for the
// lock of this Prune. It returns nil for a damaged image.
func (p *pruner) layers(d document) []layer.Descriptor {
	manifest, err := os.ReadFile(p.s.blobPath(d.Digest))
	if err != nil {
		return nil
	}
	config, err := os.ReadFile(p.s.blobPath(d.ConfigDigest))
	if err != nil {
		return nil
	}
	img, err := layer.ParseImage(d.MediaType, manifest, config)
	if err != nil {
		return nil
	}
	return img.Layers
}

func (p *pruner) markDocument(d document) {
	p.blobs[d.Digest.Hex()] = true
	p.blobs[d.ConfigDigest.Hex()] = true
}

func (p *pruner) prunePins() error {
	var err error
	p.report.Pins, err = p.pruneFolder(pinsDir, nil, func(path string) {
		var d document
		if readDocument(path, &d) {
			p.markDocument(d)
		}
	})
	return err
}

// remove removes references before the entries they refer to.
func (p *pruner) remove() error {
	var err error
	count := func(n *int, folder string, needed map[string]bool) {
		if err == nil {
			*n, err = p.pruneFolder(folder, needed, nil)
		}
	}
	count(&p.report.Records, recordsDir, nil)
	count(&p.report.Hints, hintsDir, p.origins)
	count(&p.report.Builds, buildsDir, nil)
	if err == nil {
		err = p.pruneLogs()
	}
	if p.all {
		var indexes int
		count(&p.report.Layers, layersDir, p.diffIDs)
		count(&indexes, indexesDir, p.diffIDs)
	}
	if err == nil {
		err = p.pruneTrees()
	}
	if err == nil && (p.all || p.fits) {
		err = p.pruneCaches()
	}
	count(&p.report.Blobs, blobsDir, p.blobs)
	return err
}

// pruneFolder removes the files of a directory that are neither needed nor recently
// used. It calls kept for the recently used ones.
func (p *pruner) pruneFolder(folder string, needed map[string]bool, kept func(path string)) (int, error) {
	names, err := readNames(p.s.path(folder))
	if err != nil {
		return 0, err
	}
	removed := 0
	for _, name := range names {
		if needed[name] {
			continue
		}
		path := p.s.path(folder, name)
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			continue
		}
		if p.stays(st) {
			if kept != nil {
				kept(path)
			}
			continue
		}
		if err := os.Remove(path); err != nil {
			return removed, err
		}
		removed++
		p.report.Freed += st.Blocks * 512
	}
	return removed, nil
}

// pruneTrees moves trees to the trash that are old or that no key refers to.
func (p *pruner) pruneTrees() error {
	boot := p.s.boot
	containers, err := readNames(boot)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	reachable, err := p.pruneKeys()
	if err != nil {
		return err
	}
	for _, name := range containers {
		if name == keysDir || reachable[name] || p.fresh(boot+"/"+name) {
			continue
		}
		err := p.s.trash.take(boot + "/" + name)
		if errors.Is(err, os.ErrNotExist) {
			continue // its maker removed it, or another process swept
		}
		if err != nil {
			return err
		}
		p.report.Trees++
	}
	return nil
}

// pruneKeys removes the keys of old and missing trees. It returns the names of the
// trees that the remaining keys refer to.
func (p *pruner) pruneKeys() (map[string]bool, error) {
	boot := p.s.boot
	keys, err := readNames(boot + "/" + keysDir)
	if err != nil && !os.IsNotExist(err) { // missing if the store is being deleted by hand
		return nil, err
	}
	reachable := map[string]bool{}
	for _, key := range keys {
		path := boot + "/" + keysDir + "/" + key
		target, err := os.Readlink(path)
		if err != nil {
			return nil, err
		}
		if name := filepath.Base(target); p.fresh(boot + "/" + name) {
			reachable[name] = true
		} else if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	return reachable, nil
}

func (p *pruner) fresh(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && p.stays(st)
}

func (p *pruner) stays(st unix.Stat_t) bool {
	used := st.Mtim.Nano()
	return used >= p.cutoff && used <= p.horizon
}

func readDocument(path string, d *document) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	body, ok := unseal(path, b)
	return ok && json.Unmarshal(body, d) == nil && d.validate() == nil
}

func (d document) validate() error {
	err := errors.Join(d.Digest.Validate(), d.ConfigDigest.Validate())
	if d.Index != nil {
		err = errors.Join(err, d.Index.Digest.Validate())
		for _, part := range d.Index.Images {
			err = errors.Join(err, part.Digest.Validate(), part.ConfigDigest.Validate())
		}
	}
	return err
}
