package remote

import (
	"cmp"
	"maps"
	"slices"

	"github.com/cairn-build/cairn/layer"
)

// Limits of a cache. Registries and clients accept configs of up to 8 MiB and
// manifests of up to 4 MiB.
const (
	keepDays  = 30
	mostKept  = 4000    // records
	mostBytes = 6 << 20 // of keys, names and small indexes in the config, approximately
	mostOther = 4000    // indexes of layers without a record
)

// state is a cache in a form for merging: layers are identified by diff ID instead
// of number.
type state struct {
	records []item
	indexes map[layer.Digest]indexed
}

type item struct {
	record
	blob layer.Descriptor // zero: none
}

type indexed struct {
	data []byte
	blob layer.Descriptor // of an index that is too large for data
	used int64
}

func (c *Cache) state() state {
	s := state{indexes: map[layer.Digest]indexed{}}
	if c == nil {
		return s
	}
	seen := map[*record]bool{}
	for _, r := range c.records {
		if seen[r] {
			continue
		}
		seen[r] = true
		it := item{record: *r}
		if r.Layer > 0 {
			it.blob = c.layers[r.Layer-1]
		}
		s.records = append(s.records, it)
	}
	for of, x := range c.indexes {
		in := indexed{data: x.Data, used: x.Used}
		if x.Layer > 0 {
			in.blob = c.layers[x.Layer-1]
		}
		s.indexes[of] = in
	}
	return s
}

// merge adds ours to old. For a key in both, the newer record counts.
func merge(old, ours state, today int64) state {
	all := append(slices.Clone(ours.records), old.records...)
	slices.SortStableFunc(all, func(a, b item) int { return cmp.Compare(b.Created, a.Created) })
	at := map[string]int{} // content key -> index in out
	taken := map[string]bool{}
	var out []item
	for _, it := range all {
		if today-it.Used > keepDays {
			continue
		}
		it.Keys = slices.Clone(it.Keys)
		content := it.Keys[0]
		i, ok := at[content]
		if !ok {
			if taken[content] {
				continue
			}
			i = len(out)
			at[content] = i
			out = append(out, it)
			out[i].Keys = nil
		}
		out[i].Used = max(out[i].Used, it.Used)
		for _, key := range it.Keys {
			if !taken[key] && len(out[i].Keys) < maxKeys {
				taken[key] = true
				out[i].Keys = append(out[i].Keys, key)
			}
		}
	}
	return trim(state{out, mergeIndexes(old, ours)}, today)
}

// mergeIndexes merges the indexes. Of two indexes of a layer, which are equal, it
// keeps the old one.
func mergeIndexes(old, ours state) map[layer.Digest]indexed {
	out := maps.Clone(ours.indexes)
	for of, x := range old.indexes {
		if mine, ok := out[of]; ok {
			x.used = max(x.used, mine.used)
		}
		out[of] = x
	}
	return out
}

// trim drops the least recently used records and indexes above the limits, and
// indexes that have not been used for keepDays.
func trim(s state, today int64) state {
	slices.SortStableFunc(s.records, func(a, b item) int {
		return cmp.Or(cmp.Compare(b.Used, a.Used), cmp.Compare(b.Created, a.Created), cmp.Compare(a.Keys[0], b.Keys[0]))
	})
	size := 0
	for i := range s.records {
		r := &s.records[i]
		size += 200 + 70*len(r.Keys) + len(r.Name) + 2*len(s.indexes[r.blob.DiffID].data)
		if i >= mostKept || size > mostBytes {
			s.records = s.records[:i]
			break
		}
		slices.Sort(r.Keys[1:])
	}
	needed := map[layer.Digest]bool{}
	for _, it := range s.records {
		needed[it.blob.DiffID] = true
	}
	s.trimIndexes(needed, today, mostBytes-size)
	return s
}

// trimIndexes keeps the indexes that records need and the most recently used others,
// which are mostly of base images. free is the number of bytes for those.
func (s state) trimIndexes(needed map[layer.Digest]bool, today int64, free int) {
	var others []layer.Digest
	for of := range s.indexes {
		if !needed[of] {
			others = append(others, of)
		}
	}
	slices.SortFunc(others, func(a, b layer.Digest) int {
		return cmp.Or(cmp.Compare(s.indexes[b].used, s.indexes[a].used), cmp.Compare(a, b))
	})
	for i, of := range others {
		x := s.indexes[of]
		if free -= 200 + 2*len(x.data); i >= mostOther || free < 0 || today-x.used > keepDays {
			delete(s.indexes, of)
		}
	}
}

// document returns the document of the state and its layers, by number.
func (s state) document() (*document, []layer.Descriptor) {
	d := &document{Version: version, Records: []record{}}
	var layers []layer.Descriptor
	number := map[layer.Digest]int{}
	add := func(b layer.Descriptor) int {
		if b.Digest == "" {
			return 0
		}
		if number[b.Digest] == 0 {
			layers = append(layers, b)
			number[b.Digest] = len(layers)
		}
		return number[b.Digest]
	}
	for _, it := range s.records {
		r := it.record
		r.Layer = add(it.blob)
		d.Records = append(d.Records, r)
	}
	for _, of := range slices.Sorted(maps.Keys(s.indexes)) {
		x := s.indexes[of]
		d.Indexes = append(d.Indexes, indexRef{Of: of, Data: x.data, Layer: add(x.blob), Used: x.used})
	}
	return d, layers
}

// holds reports whether s contains all of ours.
func (s state) holds(ours state) bool {
	have := map[string]layer.Digest{}
	for _, it := range s.records {
		for _, key := range it.Keys {
			have[key] = it.blob.DiffID
		}
	}
	for _, it := range ours.records {
		for _, key := range it.Keys {
			if _, ok := have[key]; !ok {
				return false
			}
		}
	}
	for of := range ours.indexes {
		if _, ok := s.indexes[of]; !ok {
			return false
		}
	}
	return true
}
