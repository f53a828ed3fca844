package sbom

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/layer/listing"
)

// Inventory is the list of the packages of an image.
type Inventory struct {
	OS       *OS         `json:"os,omitempty"`
	Packages []Installed `json:"packages,omitempty"` // sorted by type, name, version and package URL
	Problems []Problem   `json:"problems,omitempty"` // sorted by path
}

// Installed is a package of an image. Packages that are equal but for their places are one.
type Installed struct {
	Package
	PURL   string  `json:"p,omitempty"`
	Places []Place `json:"w"` // sorted by path

	id string // of hash
}

// Place is a file that describes a package.
type Place struct {
	Path  string `json:"p"`
	Layer int    `json:"l"` // number of the layer that the package came with, 0 at the bottom
}

// Merger collects the layers of an image, the bottom one first.
type Merger struct {
	view  *listing.View
	n     int
	files map[string][]version // by path
}

// version is a file in one of the layers.
type version struct {
	*File
	layer int
}

// Add adds a layer.
func (m *Merger) Add(l *Layer, x *listing.Listing) {
	if m.view == nil {
		m.view, m.files = listing.Empty(), map[string][]version{}
	}
	m.view = m.view.WithLayer(x)
	for i := range l.Files {
		f := &l.Files[i]
		path := m.inView(f.Path)
		m.files[path] = append(m.files[path], version{f, m.n})
	}
	m.n++
}

// inView returns the path of a file of the last layer in the view. A parent may be a symlink
// of a lower layer.
func (m *Merger) inView(path string) string {
	if n, ok := m.view.Lookup(path); ok && n.Layer == m.n {
		return path
	}
	if real, _, ok, err := m.view.Resolve(path, false); ok && err == nil {
		return real
	}
	return path
}

// top returns the file that a path of the image is, and its versions in the layers, or nil.
func (m *Merger) top(path string) []version {
	all := m.files[path]
	n, ok := m.view.Lookup(path)
	if !ok || len(all) == 0 || n.Type != listing.TypeFile && n.Type != listing.TypeHardlink {
		return nil
	}
	last := all[len(all)-1]
	if last.layer != n.Layer || n.Digest != "" && n.Digest != last.Digest {
		return nil
	}
	return all
}

// Inventory returns the list of packages.
func (m *Merger) Inventory() (*Inventory, error) {
	v := &Inventory{}
	if m.view == nil {
		return v, nil
	}
	v.OS = m.os()
	vcs := map[string]string{} // directory of a Python package -> source
	var paths []string
	for path := range m.files {
		all := m.top(path)
		if all == nil {
			continue
		}
		last := all[len(all)-1]
		if last.Problem != "" {
			v.Problems = append(v.Problems, Problem{"/" + path, last.Problem})
		}
		if last.Kind == directURL.name {
			for _, p := range last.Packages {
				vcs[listing.Dir(path)] = p.VCS
			}
			continue
		}
		paths = append(paths, path)
	}
	slices.SortFunc(v.Problems, func(a, b Problem) int { return cmp.Compare(a.Path, b.Path) })
	if n := len(v.Problems) - maxProblems; n > 0 {
		v.Problems = append(v.Problems[:maxProblems], Problem{"/", fmt.Sprintf("%d more files have a problem", n)})
	}
	slices.Sort(paths)
	index := map[Package]int{}
	for _, path := range paths {
		for p, from := range origins(m.top(path)) {
			if p.Type == PyPI {
				p.VCS = vcs[listing.Dir(path)]
			}
			i, ok := index[p]
			if !ok {
				if i = len(v.Packages); i >= maxOfImage {
					return nil, fmt.Errorf("list the packages: more than %d", maxOfImage)
				}
				index[p] = i
				v.Packages = append(v.Packages, Installed{Package: p, PURL: p.PURL(v.OS)})
			}
			places := &v.Packages[i].Places
			if n := len(*places); n == 0 || (*places)[n-1].Path != "/"+path {
				*places = append(*places, Place{"/" + path, from})
			}
		}
	}
	slices.SortFunc(v.Packages, func(a, b Installed) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version),
			cmp.Compare(a.PURL, b.PURL), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.Source, b.Source), cmp.Compare(a.License, b.License))
	})
	return v, nil
}

// origins calls yield with the packages of a file, each with the layer that it came with: the
// lowest of those above which every version of the file has it.
func origins(all []version) func(yield func(Package, int) bool) {
	return func(yield func(Package, int) bool) {
		last := all[len(all)-1]
		from := make(map[Package]int, len(last.Packages))
		for _, p := range last.Packages {
			from[p] = last.layer
		}
		for i := len(all) - 2; i >= 0; i-- {
			for _, p := range all[i].Packages {
				if at, ok := from[p]; ok && at == all[i+1].layer {
					from[p] = all[i].layer
				}
			}
		}
		for _, p := range last.Packages {
			if !yield(p, from[p]) {
				return
			}
		}
	}
}

// os returns the distribution, or nil. Of Debian it has the point release.
func (m *Merger) os() *OS {
	for _, path := range []string{"etc/os-release", "usr/lib/os-release"} {
		o := m.release(path)
		if o == nil || o.ID == "" && o.VersionID == "" {
			continue
		}
		if strings.EqualFold(o.ID, "debian") {
			if d := m.release("etc/debian_version"); d != nil && d.VersionID != "" {
				exact := *o
				exact.VersionID = d.VersionID
				return &exact
			}
		}
		return o
	}
	return nil
}

// release returns the contents of a file that names the distribution, or nil.
func (m *Merger) release(path string) *OS {
	real, _, ok, err := m.view.Resolve(path, true)
	if !ok || err != nil {
		return nil
	}
	if all := m.top(real); all != nil {
		return all[len(all)-1].OS
	}
	return nil
}

// layers returns the numbers of the layers that a package came with.
func (p *Installed) layers() (all []int) {
	for _, w := range p.Places {
		if !slices.Contains(all, w.Layer) {
			all = append(all, w.Layer)
		}
	}
	slices.Sort(all)
	return all
}

// maxShown is the number of files of a package that documents list.
const maxShown = 20

// paths returns the files that describe the package.
func (p *Installed) paths() string {
	var all []string
	for i, w := range p.Places {
		if i == maxShown {
			all = append(all, fmt.Sprintf("and %d more", len(p.Places)-i))
			break
		}
		all = append(all, w.Path)
	}
	return strings.Join(all, ", ")
}
