package registry

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
	"github.com/cairn-build/cairn/registry/transport"
)

// forgetful is a registry that answers the first PUTs of manifests below a path with an
// error that a blob is missing, and counts uploads.
type forgetful struct {
	http.Handler
	path string

	mu      sync.Mutex
	refuse  int
	uploads int
}

func (f *forgetful) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	refuse := f.refuse > 0 && r.Method == http.MethodPut && strings.Contains(r.URL.Path, f.path)
	if refuse {
		f.refuse--
	}
	if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/uploads/") {
		f.uploads++
	}
	f.mu.Unlock()
	if refuse {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"},{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}`))
		return
	}
	f.Handler.ServeHTTP(w, r)
}

// A registry that loses sight of blobs for some moments gets the manifest again after
// growing pauses, and the blobs once more without being asked for them.
func TestPushToForgetfulRegistry(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "a", "b")
	for _, test := range []struct{ refuse, waits, uploads int }{{0, 0, 3}, {1, 0, 3}, {2, 1, 3}, {3, 2, 6}, {5, 4, 6}, {6, 4, 6}} {
		f := &forgetful{Handler: registrytest.Handler(t, server.Options{}), path: "/manifests/", refuse: test.refuse}
		s := imagetest.Serve(t, f)
		c, waits := newClient(t, Options{})
		err := push(c, s.Host+"/app:1", img)
		if fails := test.refuse > 5; fails != transport.MissingBlob(err) || !fails && err != nil {
			t.Errorf("%d refusals: error %v", test.refuse, err)
		}
		if len(*waits) != test.waits || f.uploads != test.uploads {
			t.Errorf("%d refusals: waits %v and %d uploads, want %d and %d", test.refuse, *waits, f.uploads, test.waits, test.uploads)
		}
		for i := 1; i < len(*waits); i++ {
			if (*waits)[i] < 2*(*waits)[i-1] {
				t.Errorf("the waits do not grow: %v", *waits)
			}
		}
		if err == nil {
			wantPulled(t, c, s.Host+"/app:1", img)
		}
	}
}

// The same for an index, whose images are put again.
func TestPushIndexToForgetfulRegistry(t *testing.T) {
	t.Parallel()
	one, two := imagetest.New(t, "amd64", false, "a"), imagetest.New(t, "arm64", false, "b")
	x, err := layer.NewIndex([]layer.Image{one.Image, two.Image}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	s := imagetest.Serve(t, &forgetful{Handler: registrytest.Handler(t, server.Options{}), path: "/manifests/1", refuse: 3})
	c, waits := newClient(t, Options{})
	p, err := c.NewPush(s.Host + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range []imagetest.Image{one, two} {
		for _, l := range img.Layers {
			if err := p.Blob(t.Context(), l, source(img, l), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.Index(t.Context(), x); err != nil || len(*waits) != 2 {
		t.Errorf("error %v after waits %v", err, *waits)
	}
}

// Many clients push the same image to one repository of Debian's registry.
func TestPushesAtOnce(t *testing.T) {
	t.Parallel()
	host := imagetest.Distribution(t, imagetest.DebianRegistry(t), "", "")
	img := imagetest.New(t, "amd64", false, "a", "b", "c", "d")
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			c, err := New(Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if err := push(c, fmt.Sprintf("%s/app:%d", host, i), img); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
