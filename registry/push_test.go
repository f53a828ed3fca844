package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/auth"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
	"github.com/cairn-build/cairn/registry/server/faultinject"
)

// newClient returns a client without credentials that does not wait before
// retries, and a list of the waits that it skipped.
func newClient(t testing.TB, o Options) (*Client, *[]time.Duration) {
	t.Helper()
	if o.Credentials.DockerDir == "" {
		o.Credentials.DockerDir = t.TempDir()
	}
	var mu sync.Mutex
	waits := &[]time.Duration{}
	o.Transport.Sleep = func(ctx context.Context, d time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		*waits = append(*waits, d)
		return ctx.Err()
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, waits
}

func source(img imagetest.Image, b layer.Descriptor) Source {
	return Source{Open: func() (io.ReadCloser, error) { return img.Open(b) }}
}

func push(c *Client, ref string, img imagetest.Image) error {
	p, err := c.NewPush(ref)
	if err != nil {
		return err
	}
	for _, l := range img.Layers {
		if err := p.Blob(context.Background(), l, source(img, l), nil); err != nil {
			return err
		}
	}
	return p.Image(context.Background(), img.Image)
}

func mustPush(t testing.TB, c *Client, ref string, img imagetest.Image) {
	t.Helper()
	if err := push(c, ref, img); err != nil {
		t.Fatal(err)
	}
}

// wantPulled pulls ref and checks that it is img.
func wantPulled(t testing.TB, c *Client, ref string, img imagetest.Image) {
	t.Helper()
	got, err := c.Resolve(context.Background(), ref, layer.Platform{OS: "linux", Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, img.Image) {
		t.Fatalf("%s: got %+v, want %+v", ref, got, img.Image)
	}
	for _, l := range img.Layers {
		if b := mustRead(t, c, ref, l); !bytes.Equal(b, img.Blobs[l.Digest]) {
			t.Fatalf("%s: layer %s came back different", ref, l.Digest)
		}
	}
}

func mustRead(t testing.TB, c *Client, ref string, b layer.Descriptor) []byte {
	t.Helper()
	r, err := c.OpenBlob(context.Background(), ref, b)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// The package comment states the number of requests.
func TestPushRequests(t *testing.T) {
	t.Parallel()
	s := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	ref := s.Host + "/team/app:1"
	img := imagetest.New(t, "amd64", false, "one", "two")
	same := slices.Repeat([]string{"POST /v2/team/app/blobs/uploads/", "PUT /v2/team/app/blobs/uploads/"}, 3)
	for _, step := range []struct {
		name string
		ref  string
		img  imagetest.Image
		want []string
	}{
		{"new", ref, img, append(append([]string{"GET /v2/team/app/manifests/1"}, same...), "PUT /v2/team/app/manifests/1")},
		{"unchanged", ref, img, []string{"GET /v2/team/app/manifests/1"}},
		{"one more layer", ref, imagetest.New(t, "amd64", false, "one", "two", "three"),
			append(append([]string{"GET /v2/team/app/manifests/1"}, same[:4]...), "PUT /v2/team/app/manifests/1")},
		{"other tag", s.Host + "/team/app:2", img, []string{
			"GET /v2/team/app/manifests/2", "POST /v2/team/app/blobs/uploads/", "POST /v2/team/app/blobs/uploads/", "POST /v2/team/app/blobs/uploads/",
			"PUT /v2/team/app/manifests/2"}},
	} {
		c, _ := newClient(t, Options{}) // like a build of its own
		mustPush(t, c, step.ref, step.img)
		if got := s.Requests(); !slices.Equal(got, step.want) {
			t.Errorf("%s: requests\n%s\nwant\n%s", step.name, strings.Join(got, "\n"), strings.Join(step.want, "\n"))
		}
		wantPulled(t, c, step.ref, step.img)
		s.Requests()
	}
}

func TestPushSeveralTags(t *testing.T) {
	t.Parallel()
	s := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	c, _ := newClient(t, Options{})
	img := imagetest.New(t, "amd64", false, "one")
	mustPush(t, c, s.Host+"/app:1", img)
	s.Requests()
	mustPush(t, c, s.Host+"/app:latest", img)
	want := []string{"GET /v2/app/manifests/latest", "PUT /v2/app/manifests/latest"}
	if got := s.Requests(); !slices.Equal(got, want) {
		t.Errorf("second tag: %q, want %q", got, want)
	}
	wantPulled(t, c, s.Host+"/app:latest", img)
	ref := s.Host + "/app@" + string(img.Digest)
	wantPulled(t, c, ref, img)
}

func TestPushMounts(t *testing.T) {
	t.Parallel()
	s := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	base := imagetest.New(t, "amd64", false, "one")
	first, _ := newClient(t, Options{})
	mustPush(t, first, s.Host+"/base:1", base)
	s.Requests()

	c, _ := newClient(t, Options{})
	p, err := c.NewPush(s.Host + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	src := Source{From: s.Host + "/base:1", Open: func() (io.ReadCloser, error) { return nil, errors.New("opened") }}
	var there int64
	if err := p.Blob(context.Background(), base.Layers[0], src, func(n int64) { there = n }); err != nil {
		t.Fatal(err)
	}
	if there != base.Layers[0].Size {
		t.Errorf("progress ended at %d, want %d", there, base.Layers[0].Size)
	}
	want := []string{"GET /v2/app/manifests/1", "POST /v2/app/blobs/uploads/"}
	if got := s.Requests(); !slices.Equal(got, want) {
		t.Errorf("mount: %q, want %q", got, want)
	}
	if err := p.Image(context.Background(), base.Image); err != nil {
		t.Fatal(err)
	}
	wantPulled(t, c, s.Host+"/app:1", base)

	// Blobs are also mounted from a repository that this client has pushed to.
	s.Requests()
	mustPush(t, c, s.Host+"/third:1", base)
	for _, r := range s.Requests() {
		if strings.HasPrefix(r, "PUT") && strings.Contains(r, "uploads") {
			t.Errorf("uploaded instead of mounted: %s", r)
		}
	}
}

// A blob that was pulled from a mirror is mounted from it in a push to the mirror.
func TestPushMountsFromAMirror(t *testing.T) {
	t.Parallel()
	s := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	base := imagetest.New(t, "amd64", false, "one")
	c, _ := newClient(t, Options{Mirrors: map[string][]string{"docker.io": {s.Host + "/hub"}}})
	mustPush(t, c, s.Host+"/hub/library/base:1", base)

	c, _ = newClient(t, Options{Mirrors: map[string][]string{"docker.io": {s.Host + "/hub"}}})
	p, err := c.NewPush(s.Host + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	src := Source{From: "docker.io/library/base:1", Open: func() (io.ReadCloser, error) { return nil, errors.New("opened") }}
	if err := p.Blob(context.Background(), base.Layers[0], src, nil); err != nil {
		t.Error(err)
	}
}

// A registry that rejects mounts gets HEAD and a plain upload.
func TestPushMountRefused(t *testing.T) {
	t.Parallel()
	refuse := faultinject.Fault{Status: http.StatusBadRequest, Match: func(r *http.Request) bool { return r.URL.Query().Has("mount") }}
	s := imagetest.Serve(t, faultinject.Handler(registrytest.Handler(t, server.Options{}), refuse))
	c, _ := newClient(t, Options{})
	img := imagetest.New(t, "amd64", false, "one")
	mustPush(t, c, s.Host+"/app:1", img)
	wantPulled(t, c, s.Host+"/app:1", img)
}

func TestPushOncePerDigest(t *testing.T) {
	t.Parallel()
	s := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	c, _ := newClient(t, Options{})
	img := imagetest.New(t, "amd64", false, strings.Repeat("x", 1<<20))
	p, err := c.NewPush(s.Host + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	var opened atomic.Int32
	src := Source{Open: func() (io.ReadCloser, error) { opened.Add(1); return img.Open(img.Layers[0]) }}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := p.Blob(context.Background(), img.Layers[0], src, nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := p.Image(context.Background(), img.Image); err != nil {
		t.Fatal(err)
	}
	if opened.Load() != 1 {
		t.Errorf("the layer was opened %d times", opened.Load())
	}
	if n := len(s.Requests()); n != 6 {
		t.Errorf("%d requests, want 6: one GET, twice POST and PUT, the manifest", n)
	}
}

func isUpload(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/uploads/")
}

func TestPushRetries(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, incompressible(1<<20))
	for _, test := range []struct {
		name   string
		faults faultinject.Fault
		waits  int
		wait   time.Duration // exactly, if not 0
	}{
		{"upload broken off", faultinject.Fault{Match: isUpload, Times: 2, CutRequest: 100 << 10}, 2, 0},
		{"upload answered by 500", faultinject.Fault{Match: isUpload, Times: 1, Status: 500}, 1, 0},
		{"everything answered by 503 at first", faultinject.Fault{Times: 4, Status: 503}, 4, 0},
		{"asked to wait", faultinject.Fault{Times: 1, Status: 429, RetryAfter: "17"}, 1, 17 * time.Second},
		{"no answer", faultinject.Fault{Times: 3, Drop: true}, 3, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := imagetest.Serve(t, faultinject.Handler(registrytest.Handler(t, server.Options{}), test.faults))
			c, waits := newClient(t, Options{})
			mustPush(t, c, s.Host+"/app:1", img)
			wantPulled(t, c, s.Host+"/app:1", img)
			if len(*waits) != test.waits || test.wait != 0 && (*waits)[0] != test.wait {
				t.Errorf("waits %v, want %d of %v", *waits, test.waits, test.wait)
			}
		})
	}
}

// incompressible returns n bytes that do not compress.
func incompressible(n int) string {
	b := make([]byte, n)
	x := uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return string(b)
}

func TestPushGivesUp(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "one")
	for _, test := range []struct {
		name   string
		faults faultinject.Fault
		waits  int
		want   string
	}{
		{"server error", faultinject.Fault{Status: 500}, 4, "push HOST/app:1: registry HOST answered 500 Internal Server Error"},
		{"rate limit of hours", faultinject.Fault{Status: 429, RetryAfter: "21600"}, 0,
			"push HOST/app:1: registry HOST allows no more requests for now (429 Too Many Requests); it asks to wait 6h0m0s; limits are often higher with an account: cairn login HOST"},
		{"too large", faultinject.Fault{Match: isUpload, Status: 413}, 0,
			"push HOST/app:1: blob " + string(img.Layers[0].Digest) + ": request is too large for registry HOST or a proxy in front of it (413 Request Entity Too Large); raise its limit on the size of a request"},
		{"forbidden", faultinject.Fault{Status: 403}, 0,
			"push HOST/app:1: not authorized by registry HOST (403 Forbidden): there is no such repository, or it needs credentials and none were found in CONFIG; log in with: cairn login HOST"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := imagetest.Serve(t, faultinject.Handler(registrytest.Handler(t, server.Options{}), test.faults))
			c, waits := newClient(t, Options{})
			err := push(c, s.Host+"/app:1", img)
			wantError(t, err, test.want, s.Host, c)
			if len(*waits) != test.waits {
				t.Errorf("waits %v, want %d", *waits, test.waits)
			}
		})
	}
}

func wantError(t testing.TB, err error, want, host string, c *Client) {
	t.Helper()
	want = strings.ReplaceAll(want, "HOST", host)
	want = strings.ReplaceAll(want, "CONFIG", filepath.Join(c.o.Credentials.DockerDir, "config.json"))
	if err == nil || err.Error() != want {
		t.Errorf("error\n%v\nwant\n%s", err, want)
	}
}

func TestPushReadOnly(t *testing.T) {
	t.Parallel()
	s := imagetest.Serve(t, registrytest.Handler(t, server.Options{ReadOnly: true}))
	c, _ := newClient(t, Options{})
	img := imagetest.New(t, "amd64", false, "one")
	wantError(t, push(c, s.Host+"/app:1", img), "push HOST/app:1: blob "+string(img.Layers[0].Digest)+
		": registry HOST does not allow this (405 Method Not Allowed; UNSUPPORTED: this registry is read-only); is it read-only or a mirror?", s.Host, c)
}

// A source with the wrong size or content fails at once, with an error that names
// the source, and can be replaced by a good one.
func TestPushBadSource(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, incompressible(100))
	b := img.Layers[0]
	for name, test := range map[string]struct {
		open func() (io.ReadCloser, error)
		want string
	}{
		"short": {func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(img.Blobs[b.Digest][:10])), nil
		}, fmt.Sprintf("its source has 10 of the expected %d bytes", b.Size)},
		"long": {func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(append(slices.Clone(img.Blobs[b.Digest]), 1))), nil
		}, "its source has more than"},
		"broken": {func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("abc"), errReader{})), nil
		}, "disk on fire"},
		"missing": {func() (io.ReadCloser, error) { return nil, errors.New("no such file") }, "no such file"},
		"other": {func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(make([]byte, b.Size))), nil
		}, "400 Bad Request; DIGEST_INVALID"},
	} {
		t.Run(name, func(t *testing.T) {
			s := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
			c, waits := newClient(t, Options{})
			p, err := c.NewPush(s.Host + "/app:1")
			if err != nil {
				t.Fatal(err)
			}
			err = p.Blob(context.Background(), b, Source{Open: test.open}, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q in it", err, test.want)
			}
			if len(*waits) != 0 {
				t.Errorf("retried after %v", *waits)
			}
			if err := p.Blob(context.Background(), b, source(img, b), nil); err != nil {
				t.Errorf("a second attempt with a good source: %v", err)
			}
		})
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("disk on fire") }

// If the tag's manifest lists a blob that was deleted, the push sends it again.
func TestPushBlobGone(t *testing.T) {
	t.Parallel()
	h := registrytest.Handler(t, server.Options{})
	s := imagetest.Serve(t, h)
	c, _ := newClient(t, Options{})
	mustPush(t, c, s.Host+"/app:1", imagetest.New(t, "amd64", false, "one"))
	img := imagetest.New(t, "amd64", false, "one", "two")
	req, err := http.NewRequest(http.MethodDelete, s.URL+"/v2/app/blobs/"+string(img.Layers[0].Digest), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	c, _ = newClient(t, Options{})
	mustPush(t, c, s.Host+"/app:1", img)
	wantPulled(t, c, s.Host+"/app:1", img)
}

func TestPushLayerNotGiven(t *testing.T) {
	t.Parallel()
	s := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	c, _ := newClient(t, Options{})
	img := imagetest.New(t, "amd64", false, "one")
	p, err := c.NewPush(s.Host + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, p.Image(context.Background(), img.Image), "push HOST/app:1: layer "+string(img.Layers[0].Digest)+" of the image has not been sent", s.Host, c)
}

func TestPushCancelled(t *testing.T) {
	t.Parallel()
	slow := faultinject.Fault{Match: isUpload, Delay: time.Hour}
	s := imagetest.Serve(t, faultinject.Handler(registrytest.Handler(t, server.Options{}), slow))
	c, _ := newClient(t, Options{})
	img := imagetest.New(t, "amd64", false, "one")
	p, err := c.NewPush(s.Host + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	src := Source{Open: func() (io.ReadCloser, error) { defer cancel(); return img.Open(img.Layers[0]) }}
	if err := p.Blob(ctx, img.Layers[0], src, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was cancelled", err)
	}
}

// An upload location on another host gets no credentials.
func TestPushLocation(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "one")
	var other *imagetest.Server
	seen := make(chan http.Header, 10)
	other = imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		w.WriteHeader(http.StatusCreated)
	}))
	next := registrytest.Handler(t, server.Options{Auth: func(user, password string, _ bool) bool { return user == "u" && password == "p" }})
	s := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.Header.Get("Authorization") != "" {
			w.Header().Set("Location", other.URL+"/somewhere?state=1")
			w.WriteHeader(http.StatusAccepted)
			return
		}
		next.ServeHTTP(w, r)
	}))
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	registrytest.WriteConfig(t, o.Credentials.DockerDir, s.Host, "u", "p")
	c, _ := newClient(t, o)
	p, err := c.NewPush(s.Host + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Blob(context.Background(), img.Layers[0], source(img, img.Layers[0]), nil); err != nil {
		t.Fatal(err)
	}
	if h := <-seen; h.Get("Authorization") != "" {
		t.Error("another host was sent credentials")
	}
}

// A registry that makes no repositories is not told as one that lacks a blob.
func TestPushMissingRepository(t *testing.T) {
	t.Parallel()
	s := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		if r.Method != http.MethodHead {
			_, _ = w.Write([]byte(`{"errors":[{"code":"NAME_UNKNOWN","message":"the repository does not exist"}]}`))
		}
	}))
	c, _ := newClient(t, Options{})
	err := push(c, s.Host+"/team/cache:1", imagetest.New(t, "amd64", false, "a"))
	want := fmt.Sprintf("push %[1]s/team/cache:1: registry %[1]s has no repository team/cache and makes none for a push: create it there, or check the name "+
		"(not found in registry %[1]s (404 Not Found; NAME_UNKNOWN: the repository does not exist))", s.Host)
	if err == nil || err.Error() != want || !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v\nwant %s", err, want)
	}
}

// A failed push to Docker Hub's official images has a hint.
func TestHint(t *testing.T) {
	c, _ := newClient(t, Options{})
	for ref, want := range map[string]string{
		"docker.io/library/app:1": "cairn tag app REGISTRY/app", "docker.io/me/app:1": "", "registry.example/library/app:1": "",
	} {
		p, err := c.NewPush(ref)
		if err != nil {
			t.Fatal(err)
		}
		err = p.wrap(ErrUnauthorized)
		hint := ""
		if e := (*libraryError)(nil); errors.As(err, &e) {
			hint = e.Hint()
		}
		if (hint == "") != (want == "") || !strings.Contains(hint, want) || !errors.Is(err, ErrUnauthorized) || p.wrap(err).Error() != err.Error() {
			t.Errorf("%s: %v, hint %q, want %q", ref, err, hint, want)
		}
	}
}
