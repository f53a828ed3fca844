package taghistory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
)

// Numbers of entries that a history may keep.
const (
	MinKeep     = 2
	MaxKeep     = 200
	DefaultKeep = 20
)

// attempts is how often a history is written until no other writer has overwritten it.
const attempts = 5

// Manifests are the manifests of a repository. [*registry.Manifests] implements it.
type Manifests interface {
	Get(ctx context.Context, id string) (layer.Image, error)
	Digest(ctx context.Context, id string) (layer.Digest, error)
	Put(ctx context.Context, id string, img layer.Image) error
}

// Log is the history of one tag.
type Log struct {
	manifests Manifests
	tag       string
	keep      int

	pause func(ctx context.Context, attempt int) error // between attempts
}

// New returns the history of a tag, which keeps the given number of earlier images.
func New(m Manifests, tag string, keep int) *Log {
	return &Log{manifests: m, tag: tag, keep: keep, pause: jitter}
}

// jitter waits for a random time, the longer the more attempts have failed.
func jitter(ctx context.Context, attempt int) error {
	t := time.NewTimer(rand.N(time.Duration(attempt+1) * 200 * time.Millisecond))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// State is the present and the earlier images of a tag.
type State struct {
	Now     *Entry  // nil: the tag does not exist
	Earlier []Entry // newest first
	Kept    bool    // the registry has a history of the tag
}

// State returns the present and the earlier images. Those that the registry has lost are
// marked.
func (l *Log) State(ctx context.Context) (State, error) {
	old, err := l.present(ctx)
	if err != nil {
		return State{}, err
	}
	have, kept, err := l.read(ctx)
	if err != nil {
		return State{}, err
	}
	s := State{Earlier: have.earlier(old), Kept: kept}
	if old != nil {
		s.Now, s.Earlier = &s.Earlier[0], s.Earlier[1:]
	}
	return s, l.markGone(ctx, s.Earlier)
}

// present returns the image that the tag refers to, or nil.
func (l *Log) present(ctx context.Context) (*Entry, error) {
	img, err := l.manifests.Get(ctx, l.tag)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e := NewEntry(img)
	return &e, nil
}

// NewEntry returns an entry for an image or index without a time. Only the manifest is
// needed of img.
func NewEntry(img layer.Image) Entry {
	var m struct {
		MediaType string       `json:"mediaType"`
		Layers    []descriptor `json:"layers"`
	}
	e := Entry{MediaType: img.MediaType, Digest: img.Digest, Bytes: int64(len(img.Manifest))}
	if json.Unmarshal(img.Manifest, &m) != nil {
		return e
	}
	if e.MediaType == "" {
		e.MediaType = m.MediaType
	}
	for _, d := range m.Layers {
		e.ImageSize += max(d.Size, 0)
	}
	return e
}

// earlier returns the images that the tag has had, the newest first, with old, to which it
// refers now, unless that is nil.
func (have list) earlier(old *Entry) []Entry {
	entries := slices.Clone(have.entries)
	last := have.announced
	switch {
	case last != nil && old != nil && last.Digest == old.Digest:
		return append([]Entry{*last}, entries...)
	case last != nil && have.confirmed: // something else has set or removed the tag since
		entries = append([]Entry{*last}, entries...)
	case old != nil && len(entries) > 0 && entries[0].Digest == old.Digest:
		return entries // a push has ended before it set the tag
	}
	if old != nil {
		entries = append([]Entry{*old}, entries...)
	}
	return entries
}

// read returns the history, and reports whether there is one.
func (l *Log) read(ctx context.Context) (list, bool, error) {
	id := TagFor(l.tag)
	img, err := l.manifests.Get(ctx, id)
	if errors.Is(err, registry.ErrNotFound) {
		return list{tag: l.tag}, false, nil
	}
	if err != nil {
		return list{}, false, fmt.Errorf("reading the history of tag %s: %w", l.tag, err)
	}
	have, err := parse(img.Manifest, l.tag)
	if err != nil {
		return list{}, false, fmt.Errorf("reading the history of tag %s at tag %s: %w", l.tag, id, err)
	}
	return have, true, nil
}

// write writes the history. Images that the registry has lost are then listed as gone.
func (l *Log) write(ctx context.Context, have list) error {
	err := l.put(ctx, have)
	if !registry.Lacks(err) {
		return err
	}
	entries := slices.Clone(have.entries)
	if gone := l.markGone(ctx, entries); gone != nil {
		return errors.Join(err, gone)
	}
	if slices.Equal(entries, have.entries) {
		return err
	}
	have.entries = entries
	return l.put(ctx, have)
}

func (l *Log) put(ctx context.Context, have list) error {
	img, err := have.index()
	if err == nil {
		err = l.manifests.Put(ctx, TagFor(l.tag), img)
	}
	if err != nil {
		return fmt.Errorf("writing the history of tag %s: %w", l.tag, err)
	}
	return nil
}

// markGone marks the entries whose images the registry does not have.
func (l *Log) markGone(ctx context.Context, entries []Entry) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i := range entries {
		if entries[i].Gone {
			continue
		}
		g.Go(func() error {
			_, err := l.manifests.Digest(ctx, string(entries[i].Digest))
			if errors.Is(err, registry.ErrNotFound) {
				entries[i].Gone, err = true, nil
			}
			return err
		})
	}
	return g.Wait()
}

// A change is a change of the tag that is being made.
type change struct {
	log     *Log
	next    Entry
	entries []Entry // that were written before the change
}

// begin records the present image as an earlier one and announces the next one. The tag
// still refers to the recorded image then.
func (l *Log) begin(ctx context.Context, next Entry) (*change, error) {
	for attempt := 0; ; attempt++ {
		old, err := l.present(ctx)
		if err != nil {
			return nil, err
		}
		have, _, err := l.read(ctx)
		if err != nil {
			return nil, err
		}
		entries := have.earlier(old)
		entries = entries[:min(len(entries), l.keep)]
		err = l.write(ctx, list{tag: l.tag, announced: &next, entries: entries})
		if len(entries) == 0 && registry.Lacks(err) {
			return &change{l, next, nil}, nil // the registry takes no empty index
		}
		if err != nil {
			return nil, err
		}
		now, err := l.manifests.Digest(ctx, l.tag)
		switch {
		case errors.Is(err, registry.ErrNotFound):
			now = ""
		case err != nil:
			return nil, err
		}
		if old == nil && now == "" || old != nil && now == old.Digest || attempt == attempts {
			return &change{l, next, entries}, nil
		}
	}
}

// end writes the entries again that another writer has overwritten meanwhile. The tag has
// been set.
func (c *change) end(ctx context.Context) error {
	l := c.log
	for attempt := range attempts {
		have, _, err := l.read(ctx)
		if err != nil {
			return err
		}
		now, err := l.manifests.Digest(ctx, l.tag)
		if err != nil {
			return err
		}
		want := list{tag: l.tag, announced: have.announced, confirmed: have.confirmed}
		own := c.entries
		if now == c.next.Digest {
			want.announced, want.confirmed = &c.next, true
		} else { // another writer has set the tag since
			own = append([]Entry{c.next}, own...)
		}
		want.entries = merge(have.entries, own, l.keep)
		if want.equal(have) {
			return nil
		}
		if err := l.write(ctx, want); err != nil {
			if len(want.entries) == 0 && registry.Lacks(err) {
				return nil // the registry takes no empty index
			}
			return err
		}
		if err := l.pause(ctx, attempt); err != nil {
			return err
		}
	}
	return nil
}

// equal reports whether two lists have the same images.
func (have list) equal(other list) bool {
	a, b := have.announced, other.announced
	return slices.EqualFunc(have.entries, other.entries, Entry.same) && have.confirmed == other.confirmed &&
		(a == nil) == (b == nil) && (a == nil || a.same(*b))
}

// Set calls set, which sets the tag to the image of next, and records the image that the
// tag refers to before. If that fails, set is not called.
func (l *Log) Set(ctx context.Context, next Entry, set func(context.Context) error) error {
	c, err := l.begin(ctx, next.clean())
	if err != nil {
		return err
	}
	if err := set(ctx); err != nil {
		return err
	}
	if err := c.end(ctx); err != nil {
		return fmt.Errorf("the tag has been set, but its history may lack an image: %w", err)
	}
	return nil
}

// Rollback sets the tag to an image that the repository has, and records that. It returns
// the entry of the image.
func (l *Log) Rollback(ctx context.Context, d layer.Digest, by, note string, now time.Time) (Entry, error) {
	img, err := l.manifests.Get(ctx, string(d))
	if err != nil {
		return Entry{}, err
	}
	e := NewEntry(img)
	e.Time, e.By, e.Note = now, by, note
	if err := checkImage(img, e); err != nil {
		return Entry{}, fmt.Errorf("%s: %w", d, err)
	}
	img.MediaType = e.MediaType
	return e, l.Set(ctx, e, func(ctx context.Context) error {
		if err := l.manifests.Put(ctx, l.tag, img); err != nil {
			return err
		}
		got, err := l.manifests.Digest(ctx, l.tag)
		if err == nil && got != d {
			err = fmt.Errorf("tag %s refers to %s right after it was set to %s: another push was faster, or the registry keeps its tags", l.tag, got, d)
		}
		return err
	})
}

// checkImage returns an error if a manifest is not that of an image.
func checkImage(img layer.Image, e Entry) error {
	var m struct {
		ArtifactType string `json:"artifactType"`
	}
	switch err := layer.Unmarshal(img.Manifest, &m); {
	case err != nil:
		return err
	case m.ArtifactType == ArtifactType:
		return errors.New("it is the history of a tag, not an image")
	case !e.valid():
		return fmt.Errorf("it has the media type %.100q, which no image has", e.MediaType)
	}
	return nil
}

// Recorder records the images that pushes replace. A nil Recorder records none.
type Recorder struct {
	Client *registry.Client
	Keep   int    // number of earlier images of a tag
	By     string // user or job that pushes
}

// Set calls set, which sets the tag in ref to an image or index, and records the image
// that the tag refers to before.
func (r *Recorder) Set(ctx context.Context, ref string, next Entry, set func(context.Context) error) error {
	if r == nil {
		return set(ctx)
	}
	m, err := r.Client.Manifests(ref, true)
	if err != nil {
		return err
	}
	tag := m.Reference().Tag
	if tag == "" {
		return set(ctx)
	}
	next.Time, next.By = time.Now(), r.By
	return New(m, tag, r.Keep).Set(ctx, next, set)
}
