package taghistory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
)

// fake is a repository in memory that calls before ahead of each request.
type fake struct {
	mu     sync.Mutex
	tags   map[string]layer.Digest
	images map[layer.Digest]layer.Image
	before func(request string) error
}

var errKilled = errors.New("killed")

func newFake() *fake {
	return &fake{tags: map[string]layer.Digest{}, images: map[layer.Digest]layer.Image{}, before: func(string) error { return nil }}
}

func (f *fake) Get(_ context.Context, id string) (layer.Image, error) {
	if err := f.before("get " + id); err != nil {
		return layer.Image{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.tags[id]
	if !ok {
		d = layer.Digest(id)
	}
	if img, ok := f.images[d]; ok {
		return img, nil
	}
	return layer.Image{}, registry.ErrNotFound
}

func (f *fake) Digest(ctx context.Context, id string) (layer.Digest, error) {
	img, err := f.Get(ctx, id)
	return img.Digest, err
}

func (f *fake) Put(_ context.Context, id string, img layer.Image) error {
	if err := f.before("put " + id); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images[img.Digest] = img
	if layer.Digest(id).Validate() != nil {
		f.tags[id] = img.Digest
	}
	return nil
}

// image returns an image that differs by n, and adds it to the repository.
func (f *fake) image(n int) layer.Image {
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"size":1},"layers":[{"size":%d}]}`, layer.MediaTypeManifest, n)
	img := layer.Image{MediaType: layer.MediaTypeManifest, Digest: layer.FromBytes(raw), Manifest: raw}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images[img.Digest] = img
	return img
}

func (f *fake) log(keep int) *Log {
	l := New(f, "t", keep)
	l.pause = func(context.Context, int) error { return nil }
	return l
}

// push sets the tag to an image with a history; the image's number is also its minute.
func (f *fake) push(n int) error {
	img := f.image(n)
	e := NewEntry(img)
	e.Time = time.Date(2026, 11, 30, 12, n, 0, 0, time.UTC)
	return f.log(4).Set(context.Background(), e, func(ctx context.Context) error { return f.Put(ctx, "t", img) })
}

// numbers returns the present and the earlier images, such as "3 2 1"; "-" means no present
// one, and "x" that one is gone.
func (f *fake) numbers(t *testing.T) string {
	t.Helper()
	s, err := f.log(4).State(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	text := "-"
	if s.Now != nil {
		text = fmt.Sprint(s.Now.ImageSize)
	}
	for _, e := range s.Earlier {
		text += fmt.Sprintf(" %d", e.ImageSize)
		if e.Gone {
			text += "x"
		}
	}
	return text
}

func TestPushes(t *testing.T) {
	f := newFake()
	steps := []struct {
		do   func() error
		want string
	}{
		{func() error { return f.push(1) }, "1"},
		{func() error { return f.push(2) }, "2 1"},
		{func() error { return f.push(3) }, "3 2 1"},
		{func() error { // a push of another tool
			f.tags["t"] = f.image(4).Digest
			return nil
		}, "4 3 2 1"},
		{func() error { return f.push(5) }, "5 4 3 2 1"},
		{func() error { return f.push(6) }, "6 5 4 3 2"}, // four earlier ones are kept
		{func() error {
			_, err := f.log(4).Rollback(context.Background(), f.image(4).Digest, "me", "rolled back", time.Date(2026, 11, 30, 13, 0, 0, 0, time.UTC))
			return err
		}, "4 6 5 4 3"},
		{func() error { // another tool sets the tag to the one before
			f.tags["t"] = f.image(6).Digest
			return nil
		}, "6 4 6 5 4 3"},
		{func() error { return f.push(7) }, "7 6 4 6 5"},
		{func() error {
			delete(f.tags, "t")
			return nil
		}, "- 7 6 4 6 5"},
		{func() error {
			delete(f.images, f.image(6).Digest)
			return nil
		}, "- 7 6x 4 6x 5"},
		{func() error { return f.push(8) }, "8 7 6x 4 6x"},
	}
	for i, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if got := f.numbers(t); got != s.want {
			t.Fatalf("step %d: %s, want %s", i, got, s.want)
		}
	}
}

// A push that is killed before any of its requests leaves a true history, and the next
// push goes on from there.
func TestKilled(t *testing.T) {
	for at := 0; ; at++ {
		f := newFake()
		for n := 1; n <= 3; n++ {
			if err := f.push(n); err != nil {
				t.Fatal(err)
			}
		}
		requests := 0
		f.before = func(string) error {
			requests++
			if requests > at {
				return errKilled
			}
			return nil
		}
		err := f.push(4)
		f.before = func(string) error { return nil }
		got := f.numbers(t)
		if got != "3 2 1" && got != "4 3 2 1" {
			t.Errorf("killed before request %d: %s", at, got)
		}
		want := "5 " + got
		if err := f.push(5); err != nil {
			t.Fatal(err)
		}
		if got := f.numbers(t); got != want {
			t.Errorf("killed before request %d: %s after the next push, want %s", at, got, want)
		}
		if err == nil {
			if at < 6 {
				t.Errorf("a push has only %d requests", at)
			}
			return
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
	}
}

// One push runs between any two requests of another: afterwards the history has both, and
// the image before.
func TestInterleaved(t *testing.T) {
	for at := 1; ; at++ {
		f := newFake()
		if err := f.push(1); err != nil {
			t.Fatal(err)
		}
		requests, done := 0, false
		var at3 string
		f.before = func(r string) error {
			if requests++; requests == at {
				f.before = func(string) error { return nil }
				if err := f.push(3); err != nil {
					t.Error(err)
				}
				done, at3 = true, r
			}
			return nil
		}
		if err := f.push(2); err != nil {
			t.Fatal(err)
		}
		f.before = func(string) error { return nil }
		got := strings.Fields(f.numbers(t))
		now := got[0]
		slices.Sort(got)
		got = slices.Compact(got)
		// The image that is set between the last look and the setting of the tag is lost.
		lost := at3 == "put t" && now == "2" && slices.Equal(got, []string{"1", "2"})
		if done && !slices.Equal(got, []string{"1", "2", "3"}) && !lost {
			t.Errorf("a push before request %d (%s): %s", at, at3, got)
		}
		if !done {
			return
		}
	}
}

// Many pushes at once never make a wrong entry.
func TestManyPushes(t *testing.T) {
	f := newFake()
	var wg sync.WaitGroup
	for n := 1; n <= 50; n++ {
		wg.Go(func() {
			if err := f.push(n); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := f.log(4).State(context.Background())
	if err != nil || s.Now == nil || len(s.Earlier) == 0 || len(s.Earlier) > 5 {
		t.Fatalf("%+v, %v", s, err)
	}
	for _, e := range append(s.Earlier, *s.Now) {
		if e.ImageSize < 1 || e.ImageSize > 50 || !e.Time.IsZero() && e.Time.Minute() != int(e.ImageSize) || e.Gone {
			t.Errorf("wrong entry %+v", e)
		}
	}
}

func TestRollbackRefuses(t *testing.T) {
	f := newFake()
	for n := 1; n <= 2; n++ {
		if err := f.push(n); err != nil {
			t.Fatal(err)
		}
	}
	text := layer.Image{MediaType: "text/plain", Manifest: []byte(`{"mediaType":"text/plain"}`)}
	text.Digest = layer.FromBytes(text.Manifest)
	f.images[text.Digest] = text
	for name, test := range map[string]struct {
		d   layer.Digest
		err string
	}{
		"missing":       {digest(77), "not found"},
		"not an image":  {text.Digest, "which no image has"},
		"the history":   {f.tags["t.history"], "not an image"},
		"a history tag": {f.tags["t.history"], "history of a tag"},
	} {
		_, err := f.log(4).Rollback(context.Background(), test.d, "", "", time.Now())
		if err == nil || !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := f.numbers(t); got != "2 1" {
		t.Errorf("tag and history are %s", got)
	}
	f.before = func(r string) error {
		if r == "put t.history" {
			return errors.New("immutable")
		}
		return nil
	}
	if err := f.push(3); err == nil || f.tags["t"] != f.image(2).Digest {
		t.Errorf("a tag was set although its history could not be written: %v", err)
	}
}

// repositories starts registries, and returns a function for each that collects garbage.
func repositories(t *testing.T) map[string]func(*testing.T) (host string, collect func(untagged bool)) {
	distribution := func(program func(testing.TB) string) func(*testing.T) (string, func(bool)) {
		return func(t *testing.T) (string, func(bool)) {
			dir, name := t.TempDir(), program(t)
			return imagetest.DistributionIn(t, name, dir, "", ""), func(untagged bool) {
				args := []string{"garbage-collect", filepath.Join(dir, "config.yml")}
				if untagged {
					args = slices.Insert(args, 1, "--delete-untagged")
				}
				cmd := exec.Command(name, args...)
				cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
		}
	}
	return map[string]func(*testing.T) (string, func(bool)){
		"docker-registry": distribution(imagetest.DebianRegistry),
		"distribution v3": distribution(imagetest.DistributionV3),
		"server": func(t *testing.T) (string, func(bool)) {
			return imagetest.Serve(t, registrytest.Handler(t, server.Options{})).Host, func(bool) {}
		},
	}
}

func TestRegistries(t *testing.T) {
	t.Parallel()
	for name, start := range repositories(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host, collect := start(t)
			ref := host + "/team/app:prod"
			client, err := registry.New(registry.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			ctx := context.Background()
			r := &Recorder{Client: client, Keep: 3, By: "me"}
			var pushed []layer.Digest
			for n := range 5 {
				img := imagetest.New(t, "amd64", n%2 == 1, fmt.Sprint("content ", n))
				p, err := client.NewPush(ref)
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range img.Layers {
					if err := p.Blob(ctx, l, registry.Source{Open: func() (io.ReadCloser, error) { return img.Open(l) }}, nil); err != nil {
						t.Fatal(err)
					}
				}
				if err := r.Set(ctx, ref, NewEntry(img.Image), func(ctx context.Context) error { return p.Image(ctx, img.Image) }); err != nil {
					t.Fatal(err)
				}
				pushed = append(pushed, img.Digest)
			}
			log := func(write bool) *Log {
				m, err := client.Manifests(ref, write)
				if err != nil {
					t.Fatal(err)
				}
				return New(m, "prod", 3)
			}
			want := []layer.Digest{pushed[4], pushed[3], pushed[2], pushed[1]}
			wantState(t, log(false), want, 0)
			collect(false) // keeps the images of the history
			wantState(t, log(false), want, 0)
			if _, err := log(true).Rollback(ctx, pushed[2], "me", "", time.Now()); err != nil {
				t.Fatal(err)
			}
			want = []layer.Digest{pushed[2], pushed[4], pushed[3], pushed[2]}
			wantState(t, log(false), want, 0)
			if d, err := client.ResolveDigest(ctx, ref); err != nil || d != pushed[2] {
				t.Errorf("the tag refers to %s, %v", d, err)
			}
			// An image that was deleted by hand is listed as gone.
			request, err := http.NewRequest(http.MethodDelete, "http://"+host+"/v2/team/app/manifests/"+string(pushed[3]), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusAccepted {
				t.Fatalf("DELETE: %s", resp.Status)
			}
			wantState(t, log(false), want, 1)
			if _, err := log(true).Rollback(ctx, pushed[4], "me", "", time.Now()); err != nil {
				t.Fatal(err)
			}
			wantState(t, log(false), []layer.Digest{pushed[4], pushed[2], pushed[4], pushed[3]}, 1)
			if name == "distribution v3" { // version 2 removes the images of any index
				collect(true)
				wantState(t, log(false), []layer.Digest{pushed[4], pushed[2], pushed[4], pushed[3]}, 1)
			}
		})
	}
}

// A registry with immutable tags refuses a rollback, and the error says so.
func TestImmutableTag(t *testing.T) {
	t.Parallel()
	inner := registrytest.Handler(t, server.Options{})
	var immutable atomic.Bool
	host := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if immutable.Load() && r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/prod") {
			http.Error(w, `{"errors":[{"code":"DENIED","message":"tag is immutable"}]}`, http.StatusConflict)
			return
		}
		inner.ServeHTTP(w, r)
	})).Host
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	m, err := client.Manifests(host+"/app:prod", true)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	img := imagetest.New(t, "amd64", false, "content")
	p, err := client.NewPush(host + "/app:prod")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range img.Layers {
		if err := p.Blob(ctx, l, registry.Source{Open: func() (io.ReadCloser, error) { return img.Open(l) }}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Image(ctx, img.Image); err != nil {
		t.Fatal(err)
	}
	immutable.Store(true)
	_, err = New(m, "prod", 3).Rollback(ctx, img.Digest, "", "", time.Now())
	if err == nil || !strings.Contains(err.Error(), "push "+host+"/app:prod: ") || !strings.Contains(err.Error(), "if tags are immutable there, this one cannot be set again") {
		t.Errorf("%v", err)
	}
}

// wantState checks the digests of a history, the present one first, and the number of
// those that are gone.
func wantState(t *testing.T, l *Log, want []layer.Digest, gone int) {
	t.Helper()
	s, err := l.State(context.Background())
	if err != nil || s.Now == nil {
		t.Fatalf("%+v, %v", s, err)
	}
	var got []layer.Digest
	for _, e := range append([]Entry{*s.Now}, s.Earlier...) {
		got = append(got, e.Digest)
		if e.Gone {
			gone--
		}
		if e.By != "me" || e.Time.IsZero() || e.ImageSize == 0 {
			t.Errorf("entry %+v", e)
		}
	}
	if !slices.Equal(got, want) || gone != 0 {
		t.Errorf("history %s, want %s; %d more should be gone", got, want, gone)
	}
}
