package report

import (
	"cmp"
	"slices"
	"sort"
	"strings"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

// Listings returns the listing of a layer, or an error if it is not known.
type Listings func(diffID layer.Digest) (*listing.Listing, error)

// SetImages sets the images of target i, in the order of its platforms.
func (b *Build) SetImages(i int, images []layer.Image) {
	if i >= len(b.Targets) {
		return
	}
	t := &b.Targets[i]
	var planned []Image
	if i < len(b.planned) {
		planned = b.planned[i]
	}
	t.Images = nil
	for k, img := range images {
		out := Image{Digest: img.Digest, Config: img.ConfigDigest}
		if k < len(planned) {
			out.Platform = planned[k].Platform
		}
		for n, l := range img.Layers {
			made := Layer{}
			if k < len(planned) && len(planned[k].Layers) == len(img.Layers) {
				made = planned[k].Layers[n]
			}
			made.Digest, made.DiffID, made.Size = l.Digest, l.DiffID, l.Size
			out.Size += l.Size
			out.Layers = append(out.Layers, made)
		}
		t.Images = append(t.Images, out)
	}
}

// The numbers of paths that a report has.
const (
	maxFiles   = 20
	maxFolders = 10
	maxWasted  = 50
)

// AddFiles adds the biggest files of each layer and the wasted bytes.
func (b *Build) AddFiles(read Listings) {
	for i := range b.Targets {
		for k := range b.Targets[i].Images {
			b.Targets[i].Images[k].addFiles(read)
		}
	}
}

func (img *Image) addFiles(read Listings) {
	all := make([]*listing.Listing, len(img.Layers))
	img.Unpacked = 0
	complete := true
	for i := range img.Layers {
		l := &img.Layers[i]
		x, err := read(l.DiffID)
		if l.Listed = err == nil; !l.Listed {
			complete = false
			continue
		}
		all[i] = x
		l.measure(x)
		img.Unpacked += l.Unpacked
	}
	if !complete {
		img.Unpacked = 0
	}
	img.Waste = wasteOf(img.Layers, all)
}

// measure adds the sizes of files and folders. Hard links count once, since only one of
// their entries is a file.
func (l *Layer) measure(x *listing.Listing) {
	l.Entries, l.Unpacked, l.Files = len(x.Entries), 0, nil
	folders := map[string]int64{}
	for i := range x.Entries {
		e := &x.Entries[i]
		if e.Type != listing.TypeFile {
			continue
		}
		l.Unpacked += e.Size
		l.Files = addBiggest(l.Files, Path{"/" + e.Path, e.Size}, maxFiles)
		for dir := listing.Dir(e.Path); dir != "."; dir = listing.Dir(dir) {
			folders[dir] += e.Size
		}
	}
	l.Folders = biggestFolders(folders)
}

// addBiggest adds a path to the biggest ones, which are sorted.
func addBiggest(all []Path, p Path, most int) []Path {
	if p.Size == 0 || len(all) == most && p.Size <= all[most-1].Size {
		return all
	}
	i := sort.Search(len(all), func(i int) bool { return all[i].Size < p.Size })
	all = slices.Insert(all, i, p)
	return all[:min(len(all), most)]
}

// biggestFolders returns the biggest folders, without those that hardly contain more than
// one of their subfolders.
func biggestFolders(sizes map[string]int64) (all []Path) {
	below := map[string]int64{} // the size of the biggest subfolder
	for dir, size := range sizes {
		above := listing.Dir(dir)
		below[above] = max(below[above], size)
	}
	names := make([]string, 0, len(sizes))
	for dir, size := range sizes {
		if size > 0 && below[dir]*10 < size*9 {
			names = append(names, dir)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(sizes[b], sizes[a]), cmp.Compare(a, b)) })
	for _, dir := range names[:min(len(names), maxFolders)] {
		all = append(all, Path{"/" + dir, sizes[dir]})
	}
	return all
}

// wasteOf finds the files that later layers replace or remove.
func wasteOf(layers []Layer, all []*listing.Listing) Waste {
	w := waster{layers: layers, all: all, owner: map[string]int{}, folders: map[string]bool{}, bytes: map[int]int64{}}
	for i, x := range all {
		if x == nil {
			continue
		}
		for k := range x.Entries {
			w.add(i, &x.Entries[k])
		}
	}
	for i, bytes := range w.bytes {
		if l := layers[i]; l.Unpacked > 0 {
			w.waste.Compressed += int64(float64(bytes) * float64(l.Size) / float64(l.Unpacked))
		}
	}
	paths := w.found
	w.waste.Count = len(paths)
	slices.SortFunc(paths, func(a, b WastedPath) int { return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Path, b.Path)) })
	w.waste.Paths = slices.Clone(paths[:min(len(paths), maxWasted)])
	return w.waste
}

type waster struct {
	layers  []Layer
	all     []*listing.Listing
	owner   map[string]int  // path of a file -> layer that has it
	folders map[string]bool // paths that are or were directories
	bytes   map[int]int64   // wasted bytes by layer
	found   []WastedPath
	waste   Waste
}

func (w *waster) add(i int, e *listing.Entry) {
	switch e.Type {
	case listing.TypeDir:
		w.hide(i, e.Path, false)
		w.folders[e.Path] = true
	case listing.TypeOpaque:
		w.hideBelow(i, e.Path)
	case listing.TypeWhiteout:
		w.hide(i, e.Path, true)
		w.hideBelow(i, e.Path)
	default:
		w.hide(i, e.Path, false)
		w.hideBelow(i, e.Path)
		if e.Type == listing.TypeFile {
			w.owner[e.Path] = i
		}
	}
}

// hide notes that layer i hides a file of a layer below.
func (w *waster) hide(i int, path string, removed bool) {
	from, ok := w.owner[path]
	if !ok || from == i {
		return
	}
	delete(w.owner, path)
	e, ok := find(w.all[from], path)
	if !ok || e.Size == 0 {
		return
	}
	w.bytes[from] += e.Size
	w.waste.Bytes += e.Size
	w.found = append(w.found, WastedPath{Path: "/" + path, Size: e.Size, Written: from, Hidden: i, Removed: removed})
}

// hideBelow notes that layer i hides the contents of a directory.
func (w *waster) hideBelow(i int, dir string) {
	if !w.folders[dir] {
		return
	}
	prefix := dir + "/"
	for k := range i {
		if w.all[k] == nil {
			continue
		}
		entries := w.all[k].Entries
		for n := search(entries, prefix); n < len(entries) && strings.HasPrefix(entries[n].Path, prefix); n++ {
			if from, ok := w.owner[entries[n].Path]; ok && from == k {
				w.hide(i, entries[n].Path, true)
			}
		}
	}
}

// search returns the index of the first entry that is not before a path. The root is
// before all others.
func search(entries []listing.Entry, path string) int {
	return sort.Search(len(entries), func(i int) bool { return entries[i].Path != "." && entries[i].Path >= path })
}

func find(x *listing.Listing, path string) (*listing.Entry, bool) {
	for i := search(x.Entries, path); i < len(x.Entries) && x.Entries[i].Path == path; i++ {
		if x.Entries[i].Type == listing.TypeFile {
			return &x.Entries[i], true
		}
	}
	return nil, false
}

// LayerName returns the name of the step that made a layer.
func (img Image) LayerName(i int) string {
	if i < 0 || i >= len(img.Layers) {
		return ""
	}
	return layerName(img.Layers[i])
}

// MoreWaste returns the number of wasted files that Paths leaves out.
func (img Image) MoreWaste() int { return img.Waste.Count - len(img.Waste.Paths) }
