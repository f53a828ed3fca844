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

	"github.com/cairn-build/cairn/builder/cache/gha"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/retry"
)

// Service is a scope of GitHub's cache service. Blobs are entries whose names contain
// their digests; all scopes share them. The image is an entry with a number in its
// name: entries are immutable, so a new image gets the next number, which only one
// writer can reserve.
type Service struct {
	*gha.Cache
	Scope string
}

func (s *Service) String() string { return "GitHub's cache, scope " + s.Scope }

// numbered returns the name of an image without its number. Keys must not contain a
// comma or a slash.
func (s ghaBackend) numbered() string { return s.kind + "-" + url.QueryEscape(s.Scope) + "#" }

func blobKey(d layer.Digest) string { return "cairn-blob-" + d.Hex() }

// ghaBackend stores a cache or cache mounts in a scope of the service.
type ghaBackend struct {
	*Service
	kind string
	seen *seen
}

// seen is the image that was read last.
type seen struct {
	mu     sync.Mutex
	number int
	img    layer.Image
}

func (s *Service) backend(kind string) ghaBackend { return ghaBackend{s, kind, &seen{}} }

// pair is the content of an image's entry.
type pair struct {
	Manifest []byte `json:"manifest"`
	Config   []byte `json:"config"`
}

const maxPair = 32 << 20

func (s ghaBackend) read(ctx context.Context) (layer.Image, error) {
	e, err := s.Find(ctx, s.numbered(), true)
	if errors.Is(err, gha.ErrNotFound) {
		return layer.Image{}, ErrNotFound
	}
	if err != nil {
		return layer.Image{}, err
	}
	number, err := strconv.Atoi(strings.TrimPrefix(e.Key, s.numbered()))
	if err != nil {
		return layer.Image{}, fmt.Errorf("entry %.300q: no number in its name", e.Key)
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

// layer returns a layer's entry. The service drops entries that were not used for a
// week; the error is then registry.ErrNotFound.
func (s ghaBackend) layer(ctx context.Context, d layer.Digest) (gha.Entry, error) {
	e, err := s.Find(ctx, blobKey(d), false)
	if errors.Is(err, gha.ErrNotFound) {
		err = fmt.Errorf("layer %s: %w", d, registry.ErrNotFound)
	}
	return e, err
}

func (s ghaBackend) open(ctx context.Context, b layer.Descriptor) (io.ReadCloser, error) {
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

func (s ghaBackend) edit(context.Context) (func(), error) { return func() {}, nil }

func (s ghaBackend) current(ctx context.Context) (layer.Image, error) { return s.read(ctx) }

func (s ghaBackend) digest(ctx context.Context) (layer.Digest, error) {
	return digestOf(s.read(ctx))
}

func (s ghaBackend) send(ctx context.Context, blobs []layer.Descriptor, from map[layer.Digest]Source) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(together)
	for _, b := range blobs {
		g.Go(func() error {
			_, err := s.layer(ctx, b.Digest)
			if !errors.Is(err, registry.ErrNotFound) {
				return err
			}
			err = s.Save(ctx, blobKey(b.Digest), b.Size, from[b.Digest].Open)
			if errors.Is(err, gha.ErrExists) { // another job uploads it
				err = nil
			}
			return err
		})
	}
	return g.Wait()
}

// write writes img under the next number, unless another writer has it. Before, it
// checks that the layers from the previous image still exist.
func (s ghaBackend) write(ctx context.Context, img layer.Image, from map[layer.Digest]Source) error {
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

// number saves an image under the number after the one that was read. A number that
// was reserved by a writer that does not finish is skipped after some attempts.
func (s ghaBackend) number(ctx context.Context, size int64, open func() (io.ReadCloser, error)) error {
	s.seen.mu.Lock()
	read := s.seen.number
	s.seen.mu.Unlock()
	failed := 0
	for number := read + 1; ; {
		err := s.Save(ctx, s.numbered()+strconv.Itoa(number), size, open)
		if !errors.Is(err, gha.ErrExists) {
			return err
		}
		e, err := s.Find(ctx, s.numbered(), true)
		if err == nil && e.Key != s.numbered()+strconv.Itoa(read) {
			return errTaken
		}
		if err != nil && !errors.Is(err, gha.ErrNotFound) {
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

// errTaken means that another writer was faster.
var errTaken = errors.New("another job updates it at the same time")

// settle does not wait: a number can be reserved only once.
func (s ghaBackend) settle(context.Context, time.Duration) error { return nil }
