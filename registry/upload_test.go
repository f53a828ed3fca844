package registry

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/auth"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
	"github.com/cairn-build/cairn/registry/server/faultinject"
)

const testChunk = 256 << 10

// send uploads one blob of 1 MiB, in chunks of 256 KiB after an interruption.
func send(t *testing.T, h http.Handler) (s *imagetest.Server, c *Client, b layer.Descriptor, content []byte, err error) {
	t.Helper()
	s = imagetest.Serve(t, h)
	c, _ = newClient(t, Options{})
	content = []byte(incompressible(1 << 20))
	b = layer.Descriptor{Digest: layer.FromBytes(content), Size: int64(len(content))}
	p, err := c.NewPush(s.Host + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	p.repo.chunk = testChunk
	src := Source{Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }}
	return s, c, b, content, p.Blob(context.Background(), b, src, nil)
}

func wantBlob(t *testing.T, s *imagetest.Server, c *Client, b layer.Descriptor, content []byte, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if got := mustRead(t, c, s.Host+"/app:1", b); !bytes.Equal(got, content) {
		t.Error("another blob came back")
	}
}

// counting adds the bytes of uploads that reach h to n.
func counting(h http.Handler, n *int64) http.Handler {
	var mu sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut || r.Method == http.MethodPatch {
			mu.Lock()
			*n += max(r.ContentLength, 0)
			mu.Unlock()
		}
		h.ServeHTTP(w, r)
	})
}

func isPatch(r *http.Request) bool { return r.Method == http.MethodPatch }

func TestUploadResumes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		faults []faultinject.Fault
		most   int64 // limit of the bytes sent beyond the first attempt
	}{
		"all is lost":           {[]faultinject.Fault{{Match: isUpload, Times: 1, CutRequest: 100 << 10}}, 1 << 20},
		"a chunk breaks":        {[]faultinject.Fault{{Match: isUpload, Times: 1, CutRequest: 1}, {Match: isPatch, Times: 3, CutRequest: 1}}, 1<<20 + 3*testChunk},
		"a chunk is answered 5": {[]faultinject.Fault{{Match: isUpload, Times: 1, CutRequest: 1}, {Match: isPatch, Times: 2, Status: 502}}, 1<<20 + 2*testChunk},
		"the answer is lost":    {[]faultinject.Fault{{Match: isUpload, Times: 2, Drop: true}}, 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := registrytest.Handler(t, server.Options{})
			for _, f := range test.faults {
				h = faultinject.Handler(h, f)
			}
			var sent int64
			s, c, b, content, err := send(t, counting(h, &sent))
			wantBlob(t, s, c, b, content, err)
			if sent > b.Size+test.most {
				t.Errorf("%d bytes were sent", sent)
			}
		})
	}
}

// Bytes of an interrupted request that the registry has stored are not sent again.
func TestUploadGoesOnWithin(t *testing.T) {
	t.Parallel()
	h := registrytest.Handler(t, server.Options{})
	var sent int64
	var broke atomic.Bool
	s, c, b, content, err := send(t, counting(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && broke.CompareAndSwap(false, true) {
			r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, 3*testChunk), errReader{}))
			h.ServeHTTP(discard{http.Header{}}, r)
			panic(http.ErrAbortHandler)
		}
		h.ServeHTTP(w, r)
	}), &sent))
	wantBlob(t, s, c, b, content, err)
	if sent != b.Size+testChunk {
		t.Errorf("%d bytes were sent, want all and the last chunk", sent)
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// Registries may reject chunks, accept only chunks, or drop uploads.
func TestUploadRestarts(t *testing.T) {
	t.Parallel()
	lose := func(h http.Handler) http.Handler {
		return faultinject.Handler(h, faultinject.Fault{Match: isUpload, Times: 1, CutRequest: 1})
	}
	for name, test := range map[string]struct {
		h    func(http.Handler) http.Handler
		want string
	}{
		"no chunks": {func(h http.Handler) http.Handler {
			return lose(faultinject.Handler(h, faultinject.Fault{Match: isPatch, Status: 405}))
		}, ""},
		"no upload status": {func(h http.Handler) http.Handler {
			return lose(faultinject.Handler(h, faultinject.Fault{Match: func(r *http.Request) bool {
				return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/uploads/")
			}, Status: 404}))
		}, ""},
		"only small requests": {func(h http.Handler) http.Handler {
			return faultinject.Handler(h, faultinject.Fault{Match: func(r *http.Request) bool { return r.ContentLength > testChunk }, Status: 413})
		}, ""},
		"a chunk out of place": {func(h http.Handler) http.Handler {
			return lose(faultinject.Handler(h, faultinject.Fault{Match: isPatch, Times: 1, Status: 416}))
		}, ""},
		"only smaller requests": {func(h http.Handler) http.Handler {
			return faultinject.Handler(h, faultinject.Fault{Match: func(r *http.Request) bool { return r.ContentLength > testChunk/2 }, Status: 413})
		}, "request is too large for registry"},
		"nothing": {func(h http.Handler) http.Handler {
			return lose(faultinject.Handler(faultinject.Handler(h, faultinject.Fault{Match: isPatch, Status: 400}), faultinject.Fault{Match: isUpload, Status: 400}))
		}, "400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c, b, content, err := send(t, test.h(registrytest.Handler(t, server.Options{})))
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v, want %q", err, test.want)
				}
				return
			}
			wantBlob(t, s, c, b, content, err)
		})
	}
}

// A refused immutable tag is not an error if it refers to the image already.
func TestImmutableTag(t *testing.T) {
	t.Parallel()
	h := registrytest.Handler(t, server.Options{})
	img := imagetest.New(t, "amd64", false, "a")
	other, _ := newClient(t, Options{})
	inner := imagetest.Serve(t, h)
	raced := img
	s := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			mustPush(t, other, inner.Host+"/app:1", raced)
			w.WriteHeader(http.StatusConflict)
			return
		}
		h.ServeHTTP(w, r)
	}))
	c, _ := newClient(t, Options{})
	mustPush(t, c, s.Host+"/app:1", img)
	raced = imagetest.New(t, "amd64", false, "b")
	c, _ = newClient(t, Options{})
	if err := push(c, s.Host+"/app:1", imagetest.New(t, "amd64", false, "c")); err == nil || !strings.Contains(err.Error(), "409") || !strings.Contains(err.Error(), "the tag refers to another image, "+string(raced.Digest)+": ") {
		t.Errorf("a tag of another image: %v", err)
	}
}

// A registry that admits all readers checks the right to push at an upload.
func TestCheckRights(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h, err := server.Handler(dir, server.Options{NoSync: true, Auth: func(user, _ string, write bool) bool { return !write || user == "bob" }})
	if err != nil {
		t.Fatal(err)
	}
	s := imagetest.Serve(t, h)
	check := func(o Options) error {
		c, _ := newClient(t, o)
		p, err := c.NewPush(s.Host + "/app:1")
		if err == nil {
			err = p.Check(context.Background())
		}
		if err != nil {
			t.Fatal(err)
		}
		return p.CheckRights(context.Background())
	}
	if err := check(Options{}); err == nil || !strings.Contains(err.Error(), "not authorized") {
		t.Errorf("without credentials: %v", err)
	}
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	registrytest.WriteConfig(t, o.Credentials.DockerDir, s.Host, "bob", "x")
	if err := check(o); err != nil {
		t.Error(err)
	}
	wantNoUploads(t, dir)
}
