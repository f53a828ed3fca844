package registry

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
	"github.com/cairn-build/cairn/registry/server/faultinject"
)

var faultRuns = flag.Int("faults", 200, "number of runs of TestFaults")

// TestFaults pushes and pulls through a registry with another fault in each run.
// A push or a pull that succeeds must have the right content, and one that fails
// must succeed when it is repeated.
func TestFaults(t *testing.T) {
	t.Parallel()
	var counted atomic.Int64
	count := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			counted.Add(1)
			h.ServeHTTP(w, r)
		})
	}
	faultRun(t, count(registrytest.Handler(t, server.Options{})), "clean", true)
	requests := int(counted.Load())
	stride := max(1, requests*faultinject.Kinds / *faultRuns)
	var pushed, pulled atomic.Int32
	t.Run("seeds", func(t *testing.T) {
		for i := range *faultRuns {
			t.Run(fmt.Sprint(i*stride), func(t *testing.T) {
				t.Parallel()
				h := registrytest.Handler(t, server.Options{})
				ok, read := faultRun(t, faultinject.Seeded(h, uint64(i*stride), requests), fmt.Sprint("seed ", i*stride), i%2 == 1)
				if ok {
					pushed.Add(1)
				}
				if read {
					pulled.Add(1)
				}
				pushAgain(t, h, fmt.Sprint("seed ", i*stride))
			})
		}
	})
	t.Logf("%d runs over %d requests: %d pushes and %d pulls succeeded at once", *faultRuns, requests, pushed.Load(), pulled.Load())
	if least := int32(*faultRuns / 2); pushed.Load() < least || pulled.Load() < least {
		t.Error("the client should survive most faults")
	}
}

var sharedImage struct {
	sync.Once
	imagetest.Image
}

// faultImage returns the image that the tests push. It is made once, since that
// takes longer than a push.
func faultImage(t testing.TB) imagetest.Image {
	sharedImage.Do(func() { sharedImage.Image = imagetest.New(t, "amd64", false, "one", incompressible(300<<10)) })
	return sharedImage.Image
}

// faultRun pushes an image, with streamed uploads if stream is set, and pulls it.
func faultRun(t *testing.T, h http.Handler, what string, stream bool) (pushed, pulled bool) {
	t.Helper()
	s := imagetest.Serve(t, h)
	defer s.Close()
	img := faultImage(t)
	c, _ := newClient(t, Options{})
	p, err := c.NewPush(s.Host + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	p.repo.chunk = 64 << 10
	do := push
	if stream {
		do = pushStreams
	}
	pushed = do(c, s.Host+"/app:1", img) == nil
	fresh, _ := newClient(t, Options{})
	got, err := fresh.Resolve(context.Background(), s.Host+"/app:1", layer.Platform{OS: "linux", Architecture: "amd64"})
	if err != nil {
		return pushed, false
	}
	if got.Digest != img.Digest {
		t.Errorf("%s: another image was pulled", what)
	}
	for _, l := range got.Layers {
		r, err := fresh.OpenBlob(context.Background(), s.Host+"/app:1", l)
		if err != nil {
			return pushed, false
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			return pushed, false
		}
		if !bytes.Equal(b, img.Blobs[l.Digest]) {
			t.Errorf("%s: a layer has other bytes", what)
		}
	}
	return pushed, true
}

func pushStreams(c *Client, ref string, img imagetest.Image) error {
	p, err := c.NewPush(ref)
	if err != nil {
		return err
	}
	for _, l := range img.Layers {
		src := source(img, l)
		src.Stream = p.StartStream(context.Background(), inPieces(img.Blobs[l.Digest]))
		if err := p.Blob(context.Background(), l, src, nil); err != nil {
			return err
		}
	}
	return p.Image(context.Background(), img.Image)
}

// pushAgain pushes the image again, without faults, and pulls it.
func pushAgain(t *testing.T, h http.Handler, what string) {
	t.Helper()
	s := imagetest.Serve(t, h)
	defer s.Close()
	img := faultImage(t)
	c, _ := newClient(t, Options{})
	if err := push(c, s.Host+"/app:1", img); err != nil {
		t.Errorf("%s: second push: %v", what, err)
		return
	}
	fresh, _ := newClient(t, Options{})
	wantPulled(t, fresh, s.Host+"/app:1", img)
}

// TestFaultsForeign does the same with other implementations of registries.
func TestFaultsForeign(t *testing.T) {
	t.Parallel()
	for name, start := range registries(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := &url.URL{Scheme: "http", Host: start(t)}
			proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(to)
				r.Out.Host = r.In.Host
			}, ErrorLog: log.New(io.Discard, "", 0)}
			const requests = 12
			runs := min(*faultRuns, requests*faultinject.Kinds) / 4
			pushed := 0
			for i := range runs {
				if ok, _ := faultRun(t, faultinject.Seeded(proxy, uint64(i)*requests*uint64(faultinject.Kinds)/uint64(runs), requests), fmt.Sprint("run ", i), i%2 == 1); ok {
					pushed++
				}
			}
			pushAgain(t, proxy, "at last")
			if pushed < runs/2 {
				t.Errorf("%d of %d pushes succeeded", pushed, runs)
			}
		})
	}
}
