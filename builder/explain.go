package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/layer/index"
)

// Cached lists what the store knows of steps, what was used last first.
func (b *Builder) Cached() ([]cache.Entry, error) { return cache.New(b.Store).List() }

// Explain tells why steps ran when they ran last: what differed from what was
// known before. want is a part of a step's name or the beginning of its key; ""
// is every step.
func (b *Builder) Explain(want string) ([]cache.Reason, error) {
	all, err := b.Cached()
	if err != nil {
		return nil, err
	}
	reasons := cache.Explain(all, want)
	for i := range reasons {
		if r := &reasons[i]; r.Files {
			files, err := b.changed(r.Before, &r.Step)
			if err != nil {
				return nil, err
			}
			if files != "" {
				r.Why = append(r.Why, files)
			}
		}
	}
	return reasons, nil
}

const mostFiles = 5

// changed names files in which the layers of two steps differ; "" if that is not
// known any more.
func (b *Builder) changed(old, now *cache.Entry) (string, error) {
	var x [2]*index.Index
	for i, e := range []*cache.Entry{old, now} {
		if len(e.Layers) != 1 {
			return "", nil
		}
		var err error
		if x[i], err = b.Store.Index(e.Layers[0].DiffID); errors.Is(err, fs.ErrNotExist) {
			return "", nil
		} else if err != nil {
			return "", err
		}
	}
	names := diffNames(x[0].Entries, x[1].Entries)
	if len(names) > mostFiles {
		names = append(names[:mostFiles], fmt.Sprintf("and %d more", len(names)-mostFiles))
	}
	if len(names) == 0 {
		return "", nil
	}
	return "in the layer differ " + strings.Join(names, ", "), nil
}

// diffNames walks two sorted lists.
func diffNames(a, b []index.Entry) (names []string) {
	for len(a) > 0 || len(b) > 0 {
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = index.Compare(a[0], b[0])
		}
		switch {
		case order < 0:
			names, a = append(names, "/"+a[0].Path+" (gone)"), a[1:]
		case order > 0:
			names, b = append(names, "/"+b[0].Path+" (new)"), b[1:]
		default:
			if a[0].Digest != b[0].Digest || a[0].Mode != b[0].Mode || a[0].UID != b[0].UID || a[0].GID != b[0].GID || a[0].Link != b[0].Link {
				names = append(names, "/"+b[0].Path)
			}
			a, b = a[1:], b[1:]
		}
	}
	return names
}
