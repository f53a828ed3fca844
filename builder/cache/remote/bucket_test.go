package remote

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder/cache/object/s3"
	"github.com/cairn-build/cairn/builder/cache/object/s3/fake"
	"github.com/cairn-build/cairn/layer"
)

func newBucket(t *testing.T, f *fake.Server, name string) Location {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	c, err := s3.New(s3.Options{
		Bucket: fake.Bucket, Region: fake.Region, Endpoint: server.URL,
		Credentials: s3.Credentials{ID: fake.User.ID, Secret: fake.User.Secret},
	})
	if err != nil {
		t.Fatal(err)
	}
	return Location{Bucket: &Bucket{Store: c, Name: name, Blobs: "p/blobs/", Manifests: "p/manifests/", Touch: 24 * time.Hour}}
}

// TestJobsWriteABucket checks that no job loses results of another, also with a server
// that knows no conditional writes.
func TestJobsWriteABucket(t *testing.T) {
	t.Parallel()
	f := &fake.Server{}
	w := newBucket(t, f, "main/or so")
	var jobs sync.WaitGroup
	for i := range 4 {
		l := newLab()
		name := fmt.Sprint("job ", i)
		c := l.content(l.step(l.layer(t, name, 10), name, "", int64(i)))
		jobs.Go(func() {
			if err := Write(t.Context(), nil, w, c); err != nil {
				t.Error(err)
			}
		})
	}
	jobs.Wait()
	if all := names(t, w); len(all) != 4 {
		t.Errorf("the cache has %v, want four jobs", all)
	}
	if got := f.Keys("p/manifests/"); !slices.Equal(got, []string{"p/manifests/cairn-cache-main/or so"}) {
		t.Errorf("manifests %q", got)
	}
	if got := f.Keys("p/blobs/sha256:"); len(got) != 4 {
		t.Errorf("blobs %q", got)
	}
}

func TestUnconditionalBucket(t *testing.T) {
	t.Parallel()
	w := newBucket(t, &fake.Server{Unconditional: true}, "x")
	for i := range 2 {
		l := newLab()
		name := fmt.Sprint("job ", i)
		if err := Write(t.Context(), nil, w, l.content(l.step(l.layer(t, name, 10), name, "", int64(i)))); err != nil {
			t.Fatal(err)
		}
	}
	if all := names(t, w); len(all) != 2 {
		t.Errorf("the cache has %v, want two jobs", all)
	}
}

// TestBucketKeepsUsedBlobs checks that blobs of the cache get a new time when they are
// old, and that a cache whose blobs were deleted is replaced.
func TestBucketKeepsUsedBlobs(t *testing.T) {
	t.Parallel()
	f := &fake.Server{}
	w := newBucket(t, f, "x")
	write := func(name string) {
		t.Helper()
		l := newLab()
		if err := Write(t.Context(), nil, w, l.content(l.step(l.layer(t, name, 10), name, "", 1))); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	blob := f.Keys("p/blobs/")[0]
	f.Age(time.Hour)
	write("two")
	if time.Since(f.Modified(blob)) < time.Hour {
		t.Error("a blob of an hour was touched")
	}
	f.Age(25 * time.Hour)
	write("three")
	if time.Since(f.Modified(blob)) > time.Hour {
		t.Error("a blob of a day was not touched")
	}
	f.Drop("p/blobs/")
	write("four")
	if all := names(t, w); len(all) != 1 || !all["four"] {
		t.Errorf("the cache has %v, want the last job", all)
	}
	c, err := Read(t.Context(), nil, w, layer.HostPlatform())
	if err != nil {
		t.Fatal(err)
	}
	f.Drop("p/blobs/")
	if _, err := c.Open(t.Context(), c.layers[0]); !isMissing(err) {
		t.Errorf("a missing blob: %v", err)
	}
}

// TestBucketTrouble checks the errors of caches that cannot be read or written.
func TestBucketTrouble(t *testing.T) {
	t.Parallel()
	f := &fake.Server{Fault: func(int, *http.Request) int { return 403 }}
	w := newBucket(t, f, "x")
	l := newLab()
	err := Write(t.Context(), nil, w, l.content(l.step(l.layer(t, "one", 10), "one", "", 1)))
	if err == nil || !strings.HasPrefix(err.Error(), "cache s3://caches/p/manifests/x: s3://caches/p/manifests/cairn-cache-x: status 403") {
		t.Error(err)
	}
}
