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

// keepFor is how long what is not used stays, unless Prune is told otherwise.
const keepFor = 7 * 24 * time.Hour

// slowPrune is longer than a prune takes: what is newer than its beginning by more
// than that was made by a clock that was wrong, not by a build that began meanwhile.
const slowPrune = time.Hour

// PruneOptions say what to remove.
type PruneOptions struct {
	All    bool      // all that no tag needs, however fresh; cache folders too
	Before time.Time // what was not used since; zero is a week ago
	Keep   int64     // only until so many bytes are left that no tag needs, cache folders among them, what was used longest ago first; zero: all of it
}

// PruneReport counts what was removed.
type PruneReport struct {
	Blobs, Layers, Records, Trees, Hints, Pins, Caches int
	Freed                                              int64 // bytes on disk
}

// Prune removes what no tag needs: with All everything, else what was not used
// lately. What a living process has used is kept. Without All, indexes and the
// notes of which blob holds which layer stay for good: they are small, and
// spare pulling a layer to know what is in it.
func (s *Store) Prune(o PruneOptions) (PruneReport, error) {
	p := &pruner{s: s, all: o.All, fits: o.Keep > 0, blobs: map[string]bool{}, diffIDs: map[string]bool{}, origins: map[string]bool{}}
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
	p.report.Freed += s.broom.sweepNow().bytes
	return p.report, nil
}

type pruner struct {
	s              *Store
	all            bool
	fits           bool            // the cutoff is where the store just fits
	alone          bool            // no other process is alive
	cutoff         int64           // what was last used before it goes
	horizon        int64           // and what was used after it, by a clock that was wrong
	blobs, diffIDs map[string]bool // hex of what is needed
	origins        map[string]bool // names of hints that are
	report         PruneReport
}

// run works behind an exclusive lock: nobody can mark an entry as used between
// our look at it and its removal.
func (p *pruner) run() error {
	s := p.s
	// A descriptor of its own: the lock of s.gc is shared by our own readers.
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

// mark collects what the tags need, and the manifests of pins that stay.
func (p *pruner) mark() error {
	if err := p.markTags(); err != nil {
		return err
	}
	return p.prunePins()
}

func (p *pruner) markTags() error {
	tags, err := p.s.documents(tagsDir)
	if err != nil {
		return err
	}
	for _, d := range tags {
		if d.Set != nil {
			p.blobs[d.Set.Digest.Hex()] = true
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
	return nil
}

// layers reads an image without marking it as used: our own lock would wait
// for us. A damaged image has none.
func (p *pruner) layers(d document) []layer.Blob {
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

// remove takes away names before what they name.
func (p *pruner) remove() error {
	var err error
	count := func(n *int, folder string, needed map[string]bool) {
		if err == nil {
			*n, err = p.pruneFolder(folder, needed, nil)
		}
	}
	count(&p.report.Records, recordsDir, nil)
	count(&p.report.Hints, hintsDir, p.origins)
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

// pruneFolder removes the files of a folder that are neither needed nor fresh;
// kept is told of those that are fresh.
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

// pruneTrees moves old trees, and those that no key leads to, to the trash.
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
		err := p.s.broom.take(boot + "/" + name)
		if errors.Is(err, os.ErrNotExist) {
			continue // whoever made it threw it away, or opened the store and swept
		}
		if err != nil {
			return err
		}
		p.report.Trees++
	}
	return nil
}

// pruneKeys removes the keys of old and missing trees and returns the names of
// the trees that the others lead to.
func (p *pruner) pruneKeys() (map[string]bool, error) {
	boot := p.s.boot
	keys, err := readNames(boot + "/" + keysDir)
	if err != nil && !os.IsNotExist(err) { // gone if somebody began to delete the store by hand
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
	if d.Set != nil {
		err = errors.Join(err, d.Set.Digest.Validate())
		for _, part := range d.Set.Images {
			err = errors.Join(err, part.Digest.Validate(), part.ConfigDigest.Validate())
		}
	}
	return err
}
