package worker

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry/reference"
)

// misses finds out why steps were not cached: it compares them with those of the last
// build of the same targets.
type misses struct {
	store   *store.Store
	display *display
	past    []cache.Past

	mu      sync.Mutex
	reasons map[*solve.Step]cache.Miss
	known   map[string]cache.Past // steps of this build by name
	hits    map[string]int        // results by remote cache
	changed map[*solve.Step]int   // entries of the layers of steps that ran
}

func newMisses(s *store.Store, d *display, past []cache.Past) *misses {
	return &misses{store: s, display: d, past: past, reasons: map[*solve.Step]cache.Miss{}, known: map[string]cache.Past{}, hits: map[string]int{}, changed: map[*solve.Step]int{}}
}

// note records and shows why a step runs.
func (m *misses) note(j solve.Job[*Result], files func(*cache.Miss, *cache.Past)) {
	why := cache.Miss{Cause: cache.CauseNew}
	past := cache.Similar(m.past, m.display.steps[j.Step].Name, j.Step.Op)
	switch {
	case j.Step.NoCache:
		why = cache.Miss{Cause: cache.CauseNoCache, Brief: "--no-cache"}
	case past != nil:
		below := j.Step.In[0].Step
		why = past.Compare(j.Step.Op, j.Parts, m.of(below), baseName(below))
	}
	if why.Cause == cache.CauseFiles && files != nil {
		files(&why, past)
	}
	m.mu.Lock()
	m.reasons[j.Step] = why
	m.mu.Unlock()
	if why.Brief != "" {
		m.display.vertex(j.Step).Reason(why.Brief)
	}
}

func (m *misses) count(s *solve.Step, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed[s] = n
}

// of returns the reason of a step, nil if it was cached.
func (m *misses) of(s *solve.Step) *cache.Miss {
	m.mu.Lock()
	defer m.mu.Unlock()
	if why, ok := m.reasons[s]; ok {
		return &why
	}
	return nil
}

// copied adds the files of a COPY that changed to its reason.
func (m *misses) copied(changes snapshot.Changes, o op.Copy) func(*cache.Miss, *cache.Past) {
	return func(why *cache.Miss, past *cache.Past) {
		if past.DiffID == "" {
			return
		}
		old, err := m.store.Listing(past.DiffID)
		if err != nil {
			return // it was removed
		}
		why.AddFiles(old, entries(changes), o.Dest, sourceFile(o))
	}
}

// sourceFile returns the path of the only source of a COPY, "" if it is a pattern or if
// there are several.
func sourceFile(o op.Copy) string {
	if len(o.Sources) != 1 || o.Sources[0].Input == 0 || strings.ContainsAny(o.Sources[0].Path, `*?[\`) {
		return ""
	}
	return strings.TrimPrefix(o.Sources[0].Path, "/")
}

func entries(changes snapshot.Changes) iter.Seq[listing.Entry] {
	return func(yield func(listing.Entry) bool) {
		for c, err := range changes.All() {
			if err != nil || !yield(c.Entry) {
				return
			}
		}
	}
}

// found notes a record that is used, and the remote cache that has it.
func (m *misses) found(s *solve.Step, r *cache.Record, from *remote.Cache) {
	var diffID layer.Digest
	if len(r.Layers) == 1 {
		diffID = r.Layers[0].DiffID
	}
	m.keep(s, r.Key, r.Op, r.Parts, diffID)
	if from != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.hits[from.Location.String()]++
	}
}

// Hits returns the number of results that each remote cache had.
func (w *Worker) Hits() map[string]int {
	w.misses.mu.Lock()
	defer w.misses.mu.Unlock()
	return maps.Clone(w.misses.hits)
}

// keep stores the parts of a key for the next build to compare with.
func (m *misses) keep(s *solve.Step, key, text string, parts []string, diffID layer.Digest) {
	name := m.display.steps[s].Name
	if name == "" || len(parts) == 0 { // records of remote caches have no parts
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[name] = cache.Past{Name: name, Op: text, Parts: parts, DiffID: diffID, Key: key}
}

// baseName returns the short name of an image, "" if the step is another one.
func baseName(s *solve.Step) string {
	if op.Kind(s) != "image" {
		return ""
	}
	o, err := op.Decode(s)
	if err != nil {
		return ""
	}
	return reference.Familiar(o.(op.Image).Extra.Ref)
}

// Miss returns why a step was not cached, nil if it was.
func (w *Worker) Miss(s *solve.Step) *cache.Miss { return w.misses.of(s) }

// Changed returns the number of entries in the layer of a step that ran.
func (w *Worker) Changed(s *solve.Step) int {
	w.misses.mu.Lock()
	defer w.misses.mu.Unlock()
	return w.misses.changed[s]
}

// ShownCached reports whether the display of a step says that it was cached.
func (w *Worker) ShownCached(s *solve.Step) bool {
	w.display.mu.Lock()
	v := w.display.vertices[s]
	w.display.mu.Unlock()
	return v.IsCached()
}

// Number returns the number of a step in the display, 0 if it has not started.
func (w *Worker) Number(s *solve.Step) int {
	w.display.mu.Lock()
	v := w.display.vertices[s]
	w.display.mu.Unlock()
	return v.Number()
}

// Past returns the steps of this build, and of the last one those that this one did not
// reach, to be compared with by the next build.
func (w *Worker) Past() []cache.Past {
	m := w.misses
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []cache.Past
	shown := map[string]bool{}
	for _, step := range w.Steps {
		shown[step.Name] = true
	}
	for _, p := range m.known {
		all = append(all, p)
	}
	for _, p := range m.past {
		if _, ok := m.known[p.Name]; !ok && shown[p.Name] {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b cache.Past) int { return strings.Compare(a.Name, b.Name) })
	return all
}
