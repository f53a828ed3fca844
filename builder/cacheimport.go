package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/layer"
)

// cacheImports are the remote caches of a build, which are read in the background.
type cacheImports struct {
	done chan struct{}
	list []*remote.Cache
}

// startCacheImports starts to read the caches, in parallel. The build waits for them
// only when it needs a step that the store does not have. It returns nil if there is
// nothing to import.
func (s *Session) startCacheImports(ctx context.Context, targets []*planned) *cacheImports {
	var platforms []layer.Platform // a cache inside an image is for one platform
	for _, p := range targets {
		for _, platform := range p.platforms() {
			same := func(q layer.Platform) bool { return q.Full() == platform.Full() }
			if !p.NoCache && !slices.ContainsFunc(platforms, same) {
				platforms = append(platforms, platform)
			}
		}
	}
	if len(s.CacheFrom) == 0 || len(platforms) == 0 {
		return nil
	}
	in := &cacheImports{done: make(chan struct{})}
	var found []chan *remote.Cache
	for _, from := range s.CacheFrom {
		for _, p := range platforms {
			name := "importing cache from " + from.String()
			if len(platforms) > 1 {
				name += " for " + p.String()
			}
			c := make(chan *remote.Cache, 1)
			found = append(found, c)
			go func() { c <- s.importCache(ctx, name, from, p) }()
		}
	}
	go func() {
		defer close(in.done)
		for _, c := range found {
			if c := <-c; c != nil {
				in.list = append(in.list, c)
			}
		}
	}()
	return in
}

// importCache reads one cache. If that fails it warns, and the build goes on without
// the cache.
func (s *Session) importCache(ctx context.Context, name string, from remote.Location, p layer.Platform) *remote.Cache {
	v := s.Progress.Vertex(name)
	v.Start()
	c, err := remote.Read(ctx, s.Registry, from, p)
	if err != nil && ctx.Err() != nil { // the build has ended without it
		v.Done(context.Canceled)
		return nil
	}
	defer v.Done(nil)
	switch {
	case err == nil:
		v.Log(2, []byte(results(c.Len())))
		return c
	case errors.Is(err, remote.ErrNotFound):
		v.Log(2, []byte("there is no cache yet\n"))
	default:
		v.Warn("%v: building without it", err)
	}
	return nil
}

func results(n int) string {
	if n == 1 {
		return "1 result\n"
	}
	return fmt.Sprintf("%d results\n", n)
}

// ended waits until no cache is being read any more. The context has ended.
func (in *cacheImports) ended() {
	if in != nil {
		<-in.done
	}
}

// wait returns the caches when they have been read. A nil value has none.
func (in *cacheImports) wait(ctx context.Context) []*remote.Cache {
	if in == nil {
		return nil
	}
	select {
	case <-in.done:
		return in.list
	case <-ctx.Done():
		return nil
	}
}

// cacheMountImports are the cache mounts to import, which are read when the first RUN
// needs one.
type cacheMountImports struct {
	session *Session
	once    sync.Once
	list    []*remote.CacheMounts
}

// get returns a function that reads the cache mounts, or nil if there is nothing to
// import.
func (in *cacheMountImports) get() func(context.Context) []*remote.CacheMounts {
	if len(in.session.CacheMountFrom) == 0 {
		return nil
	}
	return func(ctx context.Context) []*remote.CacheMounts {
		in.once.Do(func() {
			for _, from := range in.session.CacheMountFrom {
				if f := in.session.importCacheMounts(ctx, from); f != nil {
					in.list = append(in.list, f)
				}
			}
		})
		return in.list
	}
}

func (s *Session) importCacheMounts(ctx context.Context, from remote.Location) *remote.CacheMounts {
	v := s.Progress.Vertex("importing cache mounts from " + from.String())
	v.Start()
	defer v.Done(nil)
	f, err := remote.ReadCacheMounts(ctx, s.Registry, from)
	switch {
	case err == nil:
		return f
	case errors.Is(err, remote.ErrNotFound):
		v.Log(2, []byte("there are none yet\n"))
	case ctx.Err() == nil:
		v.Warn("%v: they begin empty", err)
	}
	return nil
}
