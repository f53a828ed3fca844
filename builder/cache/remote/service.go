package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/actions"
	"github.com/cairn-build/cairn/registry/retry"
)

// Service is a cache in GitHub's cache service. Its blobs are entries that are
// named by their digests and shared by all scopes. Its image is an entry too, with
// a number behind its name: entries never change, so a new image has the next
// number, which the service gives to one writer only.
type Service struct {
	*actions.Cache
	Scope string
}

func (s *Service) String() string { return "GitHub's cache, scope " + s.Scope }

// numbered is the name of an image but for its number. Neither a comma nor a slash
// may be in a key.
func (s serviced) numbered() string { return s.kind + "-" + url.QueryEscape(s.Scope) + "#" }

func blobKey(d layer.Digest) string { return "cairn-blob-" + d.Hex() }

// serviced is a cache or the cache mounts of a service's scope.
type serviced struct {
	*Service
	kind string
	seen *seen
}

// seen is what a writer has read last.
type seen struct {
	mu     sync.Mutex
	number int
	img    layer.Image
}

func (s *Service) place(kind string) serviced { return serviced{s, kind, &seen{}} }

// pair is what an image's entry holds.
type pair struct {
	Manifest []byte `json:"manifest"`
	Config   []byte `json:"config"`
}

const maxPair = 32 << 20

func (s serviced) read(ctx context.Context) (layer.Image, error) {
	e, err := s.Find(ctx, s.numbered(), true)
	if errors.Is(err, actions.ErrNone) {
		return layer.Image{}, ErrNone
	}
	if err != nil {
		return layer.Image{}, err
	}
	number, err := strconv.Atoi(strings.TrimPrefix(e.Key, s.numbered()))
	if err != nil {
		return layer.Image{}, fmt.Errorf("the entry %.300q has no number", e.Key)
	}
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	if number == s.seen.number && s.seen.img.Digest != "" {
		return s.seen.img, nil
	}
	s.seen.number, s.seen.img = number, layer.Image{}
	body, err := s.Open(ctx, e)
	if err != nil {
		return layer.Image{}, err
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, maxPair))
	if err != nil {
		return layer.Image{}, err
	}
	var p pair
	if err := json.Unmarshal(raw, &p); err != nil {
		return layer.Image{}, fmt.Errorf("entry %s: %w", e.Key, err)
	}
	s.seen.img, err = layer.ParseImage("", p.Manifest, p.Config)
	return s.seen.img, err
}

// layer finds a layer's entry. The service drops what was not used for a week, which is
// registry.ErrNotFound as elsewhere.
func (s serviced) layer(ctx context.Context, d layer.Digest) (actions.Entry, error) {
	e, err := s.Find(ctx, blobKey(d), false)
	if errors.Is(err, actions.ErrNone) {
		err = fmt.Errorf("layer %s: %w", d, registry.ErrNotFound)
	}
	return e, err
}

func (s serviced) open(ctx context.Context, b layer.Blob) (io.ReadCloser, error) {
	e, err := s.layer(ctx, b.Digest)
	if err != nil {
		return nil, err
	}
	body, err := s.Open(ctx, e)
	if err != nil {
		return nil, err
	}
	return layer.Verify(body, b.Digest, b.Size), nil
}

func (s serviced) edit(context.Context) (func(), error) { return func() {}, nil }

func (s serviced) current(ctx context.Context) (layer.Image, error) { return s.read(ctx) }

func (s serviced) digest(ctx context.Context) (layer.Digest, error) {
	img, err := s.read(ctx)
	if errors.Is(err, ErrNone) {
		return "", nil
	}
	return img.Digest, err
}

func (s serviced) send(ctx context.Context, blobs []layer.Blob, from map[layer.Digest]Source) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(together)
	for _, b := range blobs {
		g.Go(func() error {
			_, err := s.layer(ctx, b.Digest)
			if !errors.Is(err, registry.ErrNotFound) {
				return err
			}
			err = s.Save(ctx, blobKey(b.Digest), b.Size, from[b.Digest].Open)
			if errors.Is(err, actions.ErrExists) { // another job sends it
				err = nil
			}
			return err
		})
	}
	return g.Wait()
}

// write takes the next number, if nobody else has. That what others listed is still
// there is asked first.
func (s serviced) write(ctx context.Context, img layer.Image, from map[layer.Digest]Source) error {
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(together)
	for _, b := range img.Layers {
		if _, ours := from[b.Digest]; ours {
			continue
		}
		g.Go(func() error {
			_, err := s.layer(within, b.Digest)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	raw, err := json.Marshal(pair{img.Manifest, img.Config})
	if err != nil {
		return err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(raw))), nil }
	return s.number(ctx, int64(len(raw)), open)
}

// number files an image under the number after the one that was read. One that
// nobody finishes, since its writer was killed, is passed over after a while.
func (s serviced) number(ctx context.Context, size int64, open func() (io.ReadCloser, error)) error {
	s.seen.mu.Lock()
	read := s.seen.number
	s.seen.mu.Unlock()
	failed := 0
	for number := read + 1; ; {
		err := s.Save(ctx, s.numbered()+strconv.Itoa(number), size, open)
		if !errors.Is(err, actions.ErrExists) {
			return err
		}
		e, err := s.Find(ctx, s.numbered(), true)
		if err == nil && e.Key != s.numbered()+strconv.Itoa(read) {
			return errTaken
		}
		if err != nil && !errors.Is(err, actions.ErrNone) {
			return err
		}
		if failed++; failed == retry.Tries-1 {
			failed, number = 0, number+1
			continue
		}
		if err := retry.Sleep(ctx, retry.Wait(failed)); err != nil {
			return err
		}
	}
}

// errTaken says that another writer was faster.
var errTaken = errors.New("another job writes it at the same time")

// settle has nothing to wait for: a number is given once.
func (s serviced) settle(context.Context, time.Duration) error { return nil }
