package remote

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cairn-build/cairn/layer"
)

// slow is a memory that takes time, as a registry does.
type slow struct{ *memory }

func (s slow) current(ctx context.Context) (layer.Image, error) {
	time.Sleep(30 * time.Millisecond)
	return s.memory.current(ctx)
}

func (s slow) digest(ctx context.Context) (layer.Digest, error) {
	time.Sleep(5 * time.Millisecond)
	defer time.Sleep(5 * time.Millisecond)
	return s.memory.digest(ctx)
}

func (s slow) write(ctx context.Context, img layer.Image, from map[layer.Digest]Source) error {
	time.Sleep(20 * time.Millisecond)
	defer time.Sleep(10 * time.Millisecond)
	return s.memory.write(ctx, img, from)
}

func (s slow) settle(ctx context.Context, took time.Duration) error {
	return registryBackend{}.settle(ctx, took)
}

// All of many writers that begin at once get their results into the cache.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	l := newLab()
	const writers = 150
	contents := make([]Content, writers)
	for i := range contents {
		name := fmt.Sprint("step ", i)
		contents[i] = l.content(l.step(l.layer(t, name, 1), name, "", 1))
	}
	synctest.Test(t, func(t *testing.T) {
		m := slow{&memory{}}
		began := time.Now()
		var all sync.WaitGroup
		for _, c := range contents {
			all.Go(func() {
				if err := write(t.Context(), m, Location{}, c); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		took := time.Since(began)
		doc, err := decode(m.img.Config, len(m.img.Layers))
		if err != nil {
			t.Fatal(err)
		}
		if len(doc.Records) != writers {
			t.Errorf("the cache has the results of %d of %d writers", len(doc.Records), writers)
		}
		t.Logf("%d writers took %v", writers, took)
		if took > patience/4 {
			t.Errorf("%d writers took %v, with a patience of %v", writers, took, patience)
		}
	})
}

// Writers of the same cache mount do not wait until theirs is the last.
func TestManyCacheMountWriters(t *testing.T) {
	t.Parallel()
	l := newLab()
	var mounts [50]CacheMount
	for i := range mounts {
		mounts[i] = l.mount(t, "go", fmt.Sprint(i))
	}
	synctest.Test(t, func(t *testing.T) {
		m := slow{&memory{}}
		var all sync.WaitGroup
		for _, mount := range mounts {
			all.Go(func() {
				if err := writeCacheMounts(t.Context(), m, Location{}, []CacheMount{mount}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		f, _, err := oldCacheMounts(t.Context(), m, Location{})
		if err != nil || !f.has(mounts[:1]) || len(f.list) != 1 {
			t.Errorf("the cache mounts are %v, %v", f.list, err)
		}
	})
}

// A writer gives up when others have changed the image at each attempt for long, and at
// once when its build ends.
func TestWritersGiveUp(t *testing.T) {
	t.Parallel()
	l := newLab()
	mounts := []CacheMount{l.mount(t, "go", "1")}
	content := l.content(l.step(l.layer(t, "a", 1), "a", "", 1))
	synctest.Test(t, func(t *testing.T) {
		for name, write := range map[string]func(context.Context) error{
			"cache mounts": func(ctx context.Context) error { return writeCacheMounts(ctx, &restless{}, Location{}, mounts) },
			"results":      func(ctx context.Context) error { return write(ctx, &restless{}, Location{}, content) },
		} {
			const want = "other builds update it all the time; gave up after "
			if err := write(t.Context()); err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%s: error %v, want %s", name, err, want)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience/2)
			if err := write(ctx); err == nil || ctx.Err() == nil {
				t.Errorf("%s: error %v", name, err)
			}
			cancel()
		}
	})
}

// restless is a backend whose image has another digest each time.
type restless struct {
	memory
	n int
}

func (r *restless) digest(context.Context) (layer.Digest, error) {
	r.n++
	return layer.FromBytes(fmt.Append(nil, r.n)), nil
}
