package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
	"github.com/cairn-build/cairn/registry"
)

// Step is a step's result to export.
type Step struct {
	Keys   []string     // recipe keys; the content key is in Record
	Record cache.Record // with the layer, if any, in the compression to export
	Source Source       // of the layer
}

// record returns the record for a document.
func (k Step) record(used int64) record {
	others := slices.DeleteFunc(slices.Clone(k.Keys), func(key string) bool { return key == k.Record.Key })
	return record{
		Keys:  append([]string{k.Record.Key}, others...),
		Below: k.Record.Below, On: k.Record.On, Over: k.Record.Over, Name: printable(k.Record.Name), Created: k.Record.Created, Used: used,
	}
}

// Content is the data of a build to export.
type Content struct {
	Steps []Step
	// Layers are the diff IDs of the steps' layers and of those below. Index returns
	// the listing of one; it is called for layers whose listing the cache does not
	// have. It returns fs.ErrNotExist if there is none.
	Layers []layer.Digest
	Index  func(layer.Digest) (*listing.Listing, error)
}

// Write adds content to the cache at a location, and creates the cache if there is
// none.
func Write(ctx context.Context, client *registry.Client, w Location, c Content) error {
	ctx, cancel := w.limit(ctx)
	defer cancel()
	at, err := w.backend(client, layer.HostPlatform())
	if err == nil {
		err = overdue(ctx, write(ctx, at, w, c))
	}
	if err != nil {
		return fmt.Errorf("cache %s: %w", w, err)
	}
	return nil
}

func write(ctx context.Context, at backend, w Location, c Content) error {
	done, err := at.edit(ctx)
	if err != nil {
		return err
	}
	defer done()
	writer := &writer{at: at, w: w, from: map[layer.Digest]Source{}}
	for {
		old, digest, err := writer.old(ctx)
		if err != nil {
			return err
		}
		ok, err := writer.add(ctx, c, old, digest)
		if old != nil && isMissing(err) && ctx.Err() == nil { // layers of the old cache are missing: replace it
			ok, err = writer.add(ctx, c, nil, digest)
		}
		if ok || err != nil {
			return err
		}
		if err := writer.others.wait(ctx); err != nil {
			return err
		}
	}
}

// isMissing reports whether an error means that a listed layer is missing. Other
// errors may be temporary, and are no reason to drop the content of other writers.
func isMissing(err error) bool {
	return errors.Is(err, registry.ErrNotFound) || errors.Is(err, fs.ErrNotExist)
}

type writer struct {
	at     backend
	w      Location
	from   map[layer.Digest]Source
	others rivals
}

// old reads the current cache. An unreadable image or a cache of another version is
// replaced. An image that is not a cache is an error.
func (w *writer) old(ctx context.Context) (*Cache, layer.Digest, error) {
	img, err := w.at.current(ctx)
	if errors.Is(err, ErrNotFound) {
		return nil, "", nil
	}
	if err != nil {
		if digest, derr := w.at.digest(ctx); derr == nil && digest != "" {
			return nil, digest, nil // unreadable
		}
		return nil, "", err
	}
	doc, err := decode(img.Config, len(img.Layers))
	if errors.Is(err, ErrNotFound) {
		return nil, "", errors.New("the image there is not a cache: choose another name")
	}
	if err != nil {
		return nil, img.Digest, nil
	}
	return newCache(w.w, w.at, doc, img.Layers), img.Digest, nil
}

// add merges and writes once. It returns false if another writer interfered.
func (w *writer) add(ctx context.Context, c Content, old *Cache, digest layer.Digest) (bool, error) {
	before := old.state()
	ours, err := w.ours(ctx, c, before)
	if err != nil {
		return false, err
	}
	merged := merge(before, ours, today())
	doc, layers := merged.document()
	if was, _ := trim(before, today()).document(); old != nil && same(was, doc) {
		if w.others.lost == 0 {
			return true, nil
		}
		return w.kept(ctx, ours, longestWait/2)
	}
	config, err := configOf(field, doc, layers)
	if err != nil {
		return false, err
	}
	img, err := layer.NewImage(config, layers, nil, false)
	if err != nil {
		return false, err
	}
	fresh := slices.DeleteFunc(slices.Clone(layers), func(b layer.Descriptor) bool { _, ok := w.from[b.Digest]; return !ok })
	if err := w.at.send(ctx, fresh, w.from); err != nil {
		return false, err
	}
	return w.swap(ctx, img, digest, ours)
}

// swap replaces the image by img if its digest is still was. It reports whether the
// cache has our content now.
func (w *writer) swap(ctx context.Context, img layer.Image, was layer.Digest, ours state) (bool, error) {
	begin := time.Now()
	if now, err := w.at.digest(ctx); err != nil || now != was {
		return false, err
	}
	if err := w.at.write(ctx, img, w.from); err != nil {
		return false, taken(err)
	}
	if err := w.at.settle(ctx, time.Since(begin)); err != nil {
		return false, err
	}
	if now, err := w.at.digest(ctx); err != nil || now == img.Digest {
		return err == nil, err
	}
	return w.kept(ctx, ours, time.Since(begin))
}

// kept reports whether the images of other writers keep our content.
func (w *writer) kept(ctx context.Context, ours state, took time.Duration) (bool, error) {
	return kept(ctx, w.at, took, func() (bool, layer.Digest, error) {
		next, digest, err := w.old(ctx)
		return err == nil && next.state().holds(ours), digest, err
	})
}

// taken returns err, or nil if it is errTaken.
func taken(err error) error {
	if errors.Is(err, errTaken) {
		return nil
	}
	return err
}

// ours returns the content of the build, with an index for each layer of which the
// cache has none.
func (w *writer) ours(ctx context.Context, c Content, old state) (state, error) {
	s := state{indexes: map[layer.Digest]indexed{}}
	for _, k := range c.Steps {
		it := item{record: k.record(today())}
		if len(k.Record.Layers) == 1 {
			it.blob = bareDescriptor(k.Record.Layers[0])
			w.from[it.blob.Digest] = k.Source
		}
		s.records = append(s.records, it)
	}
	for _, of := range c.Layers {
		if _, ok := old.indexes[of]; ok {
			s.indexes[of] = indexed{used: today()}
			continue
		}
		x, err := c.Index(of)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the layer has not been listed
		}
		if err != nil {
			return s, err
		}
		packed, err := w.packIndex(x)
		if err != nil {
			return s, err
		}
		packed.used = today()
		s.indexes[of] = packed
	}
	return s, ctx.Err()
}

// bareDescriptor returns a descriptor without annotations and URLs.
func bareDescriptor(b layer.Descriptor) layer.Descriptor {
	return layer.Descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size, DiffID: b.DiffID}
}

// smallIndex is the largest size, in bytes, of an index in the config.
const smallIndex = 1 << 10

const indexFile = "index"

// packIndex encodes an index, as a layer if it is not small.
func (w *writer) packIndex(x *listing.Listing) (indexed, error) {
	raw := x.Encode()
	if len(raw) <= smallIndex {
		return indexed{data: raw}, nil
	}
	var b bytes.Buffer
	out, err := compress.NewWriter(&b, compress.Options{})
	if err != nil {
		return indexed{}, err
	}
	file := tarball.Change{
		Entry: listing.Entry{Path: indexFile, Type: listing.TypeFile, Mode: 0o644, Size: int64(len(raw))},
		Open:  func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
	}
	_, err = tarball.Write(out, func(yield func(tarball.Change, error) bool) { yield(file, nil) })
	if err := errors.Join(err, out.Close()); err != nil {
		return indexed{}, err
	}
	blob := out.Blob()
	w.from[blob.Digest] = Source{Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }}
	return indexed{blob: blob}, nil
}

func same(a, b *document) bool {
	x, errX := embed([]byte("{}"), field, a)
	y, errY := embed([]byte("{}"), field, b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func today() int64 { return time.Now().Unix() / (24 * 60 * 60) }

// Inline returns an image's config with an inline cache of the steps whose layers
// are in the image. It is a pure function of its arguments.
func Inline(config []byte, layers []layer.Descriptor, c Content) ([]byte, error) {
	number := map[layer.Digest]int{}
	for i, b := range layers {
		number[b.Digest] = i + 1
	}
	d := &document{Version: version, Records: []record{}}
	for _, k := range c.Steps {
		r := k.record(0)
		if len(k.Record.Layers) == 1 {
			if r.Layer = number[k.Record.Layers[0].Digest]; r.Layer == 0 {
				continue
			}
		}
		d.Records = append(d.Records, r)
	}
	for _, of := range c.Layers {
		x, err := c.Index(of)
		if err != nil {
			continue // indexes are optional
		}
		if raw := x.Encode(); len(raw) <= smallIndex {
			d.Indexes = append(d.Indexes, indexRef{Of: of, Data: raw})
		}
	}
	return embed(config, field, d)
}
