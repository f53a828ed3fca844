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
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/internal/imagetest"
	"github.com/cairn-build/cairn/registry/serve"
)

var faultRuns = flag.Int("faults", 200, "how many times TestFaults pushes and pulls")

// TestFaults pushes and pulls through a registry that misbehaves, each time in
// another way: whatever succeeds is right, whatever fails can be done again.
func TestFaults(t *testing.T) {
	requests := 0
	count := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests++
			h.ServeHTTP(w, r)
		})
	}
	faultRun(t, count(handler(t, serve.Options{})), "clean", true)
	stride := max(1, requests*serve.SeededKinds / *faultRuns)
	var pushed, pulled int
	for i := range *faultRuns {
		h := handler(t, serve.Options{})
		ok, read := faultRun(t, serve.Seeded(h, uint64(i*stride), requests), fmt.Sprint("seed ", i*stride), i%2 == 1)
		if ok {
			pushed++
		}
		if read {
			pulled++
		}
		again(t, h, fmt.Sprint("seed ", i*stride))
	}
	t.Logf("%d runs over %d requests: %d pushes and %d pulls succeeded at once", *faultRuns, requests, pushed, pulled)
	if pushed < *faultRuns/2 || pulled < *faultRuns/2 {
		t.Error("most faults should be got over")
	}
}

func faultImage(t testing.TB) imagetest.Image {
	return imagetest.New(t, "amd64", false, "one", incompressible(300<<10))
}

// faultRun pushes an image, or begins to before its layers are done, and pulls it.
func faultRun(t *testing.T, h http.Handler, what string, ahead bool) (pushed, pulled bool) {
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
	if ahead {
		do = pushAhead
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

func pushAhead(c *Client, ref string, img imagetest.Image) error {
	p, err := c.NewPush(ref)
	if err != nil {
		return err
	}
	for _, l := range img.Layers {
		src := source(img, l)
		src.Ahead = p.Ahead(context.Background(), written(img.Blobs[l.Digest]))
		if err := p.Blob(context.Background(), l, src, nil); err != nil {
			return err
		}
	}
	return p.Image(context.Background(), img.Image)
}

// again pushes once more, without faults, and reads all of it.
func again(t *testing.T, h http.Handler, what string) {
	t.Helper()
	s := imagetest.Serve(t, h)
	defer s.Close()
	img := faultImage(t)
	c, _ := newClient(t, Options{})
	if err := push(c, s.Host+"/app:1", img); err != nil {
		t.Errorf("%s: a push after that: %v", what, err)
		return
	}
	fresh, _ := newClient(t, Options{})
	wantPulled(t, fresh, s.Host+"/app:1", img)
}

// The same through registries that others wrote.
func TestFaultsForeign(t *testing.T) {
	for name, start := range registries(t) {
		t.Run(name, func(t *testing.T) {
			to := &url.URL{Scheme: "http", Host: start(t)}
			proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(to)
				r.Out.Host = r.In.Host
			}, ErrorLog: log.New(io.Discard, "", 0)}
			const requests = 12
			runs := min(*faultRuns, requests*serve.SeededKinds) / 4
			pushed := 0
			for i := range runs {
				if ok, _ := faultRun(t, serve.Seeded(proxy, uint64(i)*requests*uint64(serve.SeededKinds)/uint64(runs), requests), fmt.Sprint("run ", i), i%2 == 1); ok {
					pushed++
				}
			}
			again(t, proxy, "at last")
			if pushed < runs/2 {
				t.Errorf("%d of %d pushes succeeded", pushed, runs)
			}
		})
	}
}
