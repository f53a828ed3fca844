package cache

import (
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
)

// DropOn drops the results of all steps that may have read the files of a layer, which
// turned out to be wrong on disk, and counts the steps. bases are the keys of the roots
// that do not have the layer; of others nobody knows.
//
// Who ran before the damage cannot be told, so all are dropped. So is every name by
// recipe: it stands for whatever other stages gave, and a record does not say which
// they were. Names by content still serve, and give the others anew.
func (c *Cache) DropOn(of layer.Digest, bases map[string]bool) (int, error) {
	filed, err := c.store.Records()
	if err != nil {
		return 0, err
	}
	var all []filedRecord
	for _, f := range filed {
		if r, err := decode(f.Bytes); err == nil && r.Version == version {
			all = append(all, filedRecord{r, f})
		}
	}
	unsound := unsound(all, of, bases)
	for _, r := range all {
		if unsound[r.Key] || !r.file.Under(r.Key) {
			if err := c.store.Forget(r.file); err != nil {
				return 0, err
			}
		}
	}
	return len(unsound), nil
}

type filedRecord struct {
	*Record
	file store.Filed
}

// unsound gives the keys of the results that lie on a layer, or on one that does.
func unsound(all []filedRecord, of layer.Digest, bases map[string]bool) map[string]bool {
	above, found := map[string]bool{}, map[string]bool{} // above: what goes on from these is unsound
	for _, r := range all {
		for _, b := range r.Layers {
			above[r.Key] = above[r.Key] || b.DiffID == of
		}
	}
	for more := true; more; {
		more = false
		for _, r := range all {
			if !found[r.Key] && (r.mayRead(bases) || r.goesOn(above)) {
				found[r.Key], above[r.Key], more = true, true, true
			}
		}
	}
	return found
}

// mayRead tells whether a step is on a base that may have the layer, or had files of
// others mounted, which it does not name.
func (r *Record) mayRead(bases map[string]bool) bool {
	if kind(Entry{Record: *r}) == "run" && len(r.Parts) > 1 {
		return true
	}
	return r.Below == "" && (len(r.Parts) == 0 || !bases[r.Parts[0]])
}

func (r *Record) goesOn(above map[string]bool) bool {
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
