package store

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cairn-build/cairn/layer"
)

// failedPrefix begins the references of trees of failed steps. They are kept like images,
// but are none: they are not listed with them.
const failedPrefix = "<failed>@"

// A store keeps this many trees of failed steps, each for this long.
const (
	FailedAge   = 24 * time.Hour
	failedCount = 20
)

// KeepFailed keeps the tree of a failed step under an id. [ImageStore.ExpireFailed]
// removes it.
func (s *ImageStore) KeepFailed(id string, img layer.Image) error {
	return s.Tag(failedPrefix+id, img)
}

// Failed returns the trees of failed steps, the newest first. Their references are ids.
func (s *ImageStore) Failed() (all []Tagged, err error) {
	documents, _, err := s.documents(tagsDir)
	if err != nil {
		return nil, s.explain("list the failed steps", err)
	}
	for _, d := range documents {
		id, ok := strings.CutPrefix(d.Ref, failedPrefix)
		if !ok {
			continue
		}
		t, err := s.tagged(d)
		if err != nil {
			continue // damaged
		}
		t.Ref = id
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Tagged) int {
		if n := b.Created.Compare(a.Created); n != 0 {
			return n
		}
		return strings.Compare(a.Ref, b.Ref)
	})
	return all, nil
}

// ExpireFailed removes the trees of failed steps that are too old or too many at a time,
// or all of them.
func (s *ImageStore) ExpireFailed(now time.Time, all bool) error {
	kept, err := s.Failed()
	for i, t := range kept {
		if all || i >= failedCount || now.Sub(t.Created) > FailedAge {
			err = errors.Join(err, s.Untag(failedPrefix+t.Ref))
		}
	}
	return err
}
