package cache

import (
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
)

// DropOn drops the results of all steps that may have read the files of a layer that
// is corrupt on disk, and returns the number of steps. bases are the keys of roots
// that do not have the layer; other roots may have it.
//
// Records do not say when the damage happened, so every step that may have read the
// layer is dropped. All recipe keys are dropped too: they depend on the results of
// other stages, which records do not name. Content keys stay usable and restore the
// recipe keys.
func (c *Cache) DropOn(of layer.Digest, bases map[string]bool) (int, error) {
	stored, err := c.store.Records()
	if err != nil {
		return 0, err
	}
	var all []storedRecord
	for _, f := range stored {
		if r, err := decode(f.Bytes); err == nil && r.Version == version {
			all = append(all, storedRecord{r, f})
		}
	}
	drop := unsound(all, of, bases)
	for _, r := range all {
		if drop[r.Key] || !r.file.Under(r.Key) {
			if err := c.store.Forget(r.file); err != nil {
				return 0, err
			}
		}
	}
	return len(drop), nil
}

type storedRecord struct {
	*Record
	file store.StoredRecord
}

// unsound returns the keys of results on top of a layer, or that depend on such a
// result.
func unsound(all []storedRecord, of layer.Digest, bases map[string]bool) map[string]bool {
	above, found := map[string]bool{}, map[string]bool{} // above: results on top of these are unsound
	for _, r := range all {
		for _, b := range r.Layers {
			above[r.Key] = above[r.Key] || b.DiffID == of
		}
	}
	for more := true; more; {
		more = false
		for _, r := range all {
			if !found[r.Key] && (r.mayRead(bases) || r.dependsOn(above)) {
				found[r.Key], above[r.Key], more = true, true, true
			}
		}
	}
	return found
}

// mayRead reports whether a step is on a base that may have the layer, or had files
// of other stages mounted, which its record does not name.
func (r *Record) mayRead(bases map[string]bool) bool {
	if kind(Entry{Record: *r}) == "run" && len(r.Parts) > 1 {
		return true
	}
	return r.Below == "" && (len(r.Parts) == 0 || !bases[r.Parts[0]])
}

// dependsOn reports whether the result is made from one of the results in above.
func (r *Record) dependsOn(above map[string]bool) bool {
	if above[r.Below] || above[r.Over] {
		return true
	}
	for _, part := range r.Parts {
		if above[part] {
			return true
		}
	}
	return false
}
