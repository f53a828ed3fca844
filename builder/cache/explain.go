package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cairn-build/cairn/layer/listing"
)

// Explain returns why steps ran when they ran last: the differences from the results
// that were cached before. want is a part of a step's name or the beginning of its key;
// "" selects every step.
func (c *Cache) Explain(want string) ([]Reason, error) {
	all, err := c.List()
	if err != nil {
		return nil, err
	}
	reasons := Explain(all, want)
	for i := range reasons {
		if r := &reasons[i]; r.Files {
			files, err := c.changedFiles(r.Before, &r.Step)
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

// maxFiles is the number of changed files that Explain names.
const maxFiles = 5

// changedFiles names the files in which the layers of two steps differ. It returns ""
// if the store no longer has their listings.
func (c *Cache) changedFiles(old, now *Entry) (string, error) {
	var x [2]*listing.Listing
	for i, e := range []*Entry{old, now} {
		if len(e.Layers) != 1 {
			return "", nil
		}
		var err error
		if x[i], err = c.store.Listing(e.Layers[0].DiffID); errors.Is(err, fs.ErrNotExist) {
			return "", nil
		} else if err != nil {
			return "", err
		}
	}
	names := diffNames(x[0].Entries, x[1].Entries)
	if len(names) > maxFiles {
		names = append(names[:maxFiles], fmt.Sprintf("and %d more", len(names)-maxFiles))
	}
	if len(names) == 0 {
		return "", nil
	}
	return "changed in the layer: " + strings.Join(names, ", "), nil
}

// diffNames returns the paths in which two sorted listings differ.
func diffNames(a, b []listing.Entry) (names []string) {
	for len(a) > 0 || len(b) > 0 {
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = listing.Compare(a[0], b[0])
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
