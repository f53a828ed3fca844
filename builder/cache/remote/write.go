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
	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/tarball"
	"github.com/cairn-build/cairn/registry"
)

// Known is a step's result that a cache is to hold.
type Known struct {
	Keys   []string     // recipe keys; the content key is the record's
	Record cache.Record // its layer, if any, in the form that is to be kept
	Source Source       // of the layer
}

// record is a step as a cache has it.
func (k Known) record(used int64) record {
	others := slices.DeleteFunc(slices.Clone(k.Keys), func(key string) bool { return key == k.Record.Key })
	return record{
		Keys:  append([]string{k.Record.Key}, others...),
		Below: k.Record.Below, Over: k.Record.Over, Name: printable(k.Record.Name), Created: k.Record.Created, Used: used,
	}
}

// Content is what a build has for a cache.
type Content struct {
	Steps []Known
	// Layers are the diff IDs of the steps' layers and of those below. Index is
	// asked for what the cache does not know of them; a missing one is
	// fs.ErrNotExist.
	Layers []layer.Digest
	Index  func(layer.Digest) (*index.Index, error)
}

const tries = 10

// Write adds to a cache, which is made if there is none.
func Write(ctx context.Context, client *registry.Client, w Where, c Content) error {
	at, err := w.place(client, layer.HostPlatform())
	if err == nil {
		err = write(ctx, at, w, c)
	}
	if err != nil {
		return fmt.Errorf("cache %s: %w", w, err)
	}
	return nil
}

func write(ctx context.Context, at place, w Where, c Content) error {
	done, err := at.edit(ctx)
	if err != nil {
		return err
	}
	defer done()
	writer := &writer{at: at, w: w, from: map[layer.Digest]Source{}}
	for range tries {
		old, digest, err := writer.old(ctx)
		if err != nil {
			return err
		}
		ok, err := writer.add(ctx, c, old, digest)
		if old != nil && isGone(err) && ctx.Err() == nil { // what it lists: begin anew
			ok, err = writer.add(ctx, c, nil, digest)
		}
		if ok || err != nil {
			return err
		}
	}
	return errors.New("others write it all the time")
}

// isGone tells that a place lacks what it lists. Trouble of other kinds passes, and
// is no reason to give up what others wrote.
func isGone(err error) bool {
	return errors.Is(err, registry.ErrNotFound) || errors.Is(err, fs.ErrNotExist)
}

type writer struct {
	at   place
	w    Where
	from map[layer.Digest]Source
}

// old reads what is there. What is no image, or the cache of another version or
// program, is replaced; an image that is no cache is left alone.
func (w *writer) old(ctx context.Context) (*Cache, layer.Digest, error) {
	img, err := w.at.current(ctx)
	if errors.Is(err, ErrNone) {
		return nil, "", nil
	}
	if err != nil {
		if digest, derr := w.at.digest(ctx); derr == nil && digest != "" {
			return nil, digest, nil // there, and unreadable
		}
		return nil, "", err
	}
	doc, err := decode(img.Config, len(img.Layers))
	if errors.Is(err, ErrNone) {
		return nil, "", errors.New("there is an image that is no cache: choose another name")
	}
	if err != nil {
		return nil, img.Digest, nil
	}
	return newCache(w.w, w.at, doc, img.Layers), img.Digest, nil
}

// add merges and writes once. It tells false when another writer was there.
func (w *writer) add(ctx context.Context, c Content, old *Cache, digest layer.Digest) (bool, error) {
	before := old.state()
	ours, err := w.ours(ctx, c, before)
	if err != nil {
		return false, err
	}
	merged := merge(before, ours, today())
	doc, layers := merged.document()
	if was, _ := trim(before, today()).document(); old != nil && same(was, doc) {
		return true, nil
	}
	config, err := configOf(field, doc, layers)
	if err != nil {
		return false, err
	}
	img, err := layer.NewImage(config, layers, nil, false)
	if err != nil {
		return false, err
	}
	fresh := slices.DeleteFunc(slices.Clone(layers), func(b layer.Blob) bool { _, ok := w.from[b.Digest]; return !ok })
	if err := w.at.send(ctx, fresh, w.from); err != nil {
		return false, err
	}
	return w.swap(ctx, img, digest, ours)
}

// swap puts img in the place of what was there, if that is there still.
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
	next, _, err := w.old(ctx)
	return err == nil && next.state().holds(ours), err
}

// taken is err unless that only says that another writer was faster.
func taken(err error) error {
	if errors.Is(err, errTaken) {
		return nil
	}
	return err
}

// ours is what the build has, with an index for each layer that the cache has
// none of yet.
func (w *writer) ours(ctx context.Context, c Content, old state) (state, error) {
	s := state{indexes: map[layer.Digest]indexed{}}
	for _, k := range c.Steps {
		it := item{record: k.record(today())}
		if len(k.Record.Layers) == 1 {
			it.blob = plainBlob(k.Record.Layers[0])
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
			continue // nobody has looked into that layer yet
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

// plainBlob leaves out what a manifest's descriptor would say besides.
func plainBlob(b layer.Blob) layer.Blob {
	return layer.Blob{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size, DiffID: b.DiffID}
}

// smallIndex is the most bytes of an index that lies in the config.
const smallIndex = 1 << 10

const indexFile = "index"

// packIndex makes a layer of an index that is not small.
func (w *writer) packIndex(x *index.Index) (indexed, error) {
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
		Entry: index.Entry{Path: indexFile, Type: index.TypeFile, Mode: 0o644, Size: int64(len(raw))},
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

// Inline gives an image's config with a cache in it, of those steps whose layers
// the image has. It depends on nothing but its arguments.
func Inline(config []byte, layers []layer.Blob, c Content) ([]byte, error) {
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
			continue // it is not needed
		}
		if raw := x.Encode(); len(raw) <= smallIndex {
			d.Indexes = append(d.Indexes, indexRef{Of: of, Data: raw})
		}
	}
	return embed(config, field, d)
}
