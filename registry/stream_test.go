package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/server"
	"github.com/cairn-build/cairn/registry/server/faultinject"
)

// inPieces returns a reader whose content arrives in pieces.
func inPieces(content []byte) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		for piece := range slices.Chunk(content, 50_000) {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
		w.Close()
	}()
	return r
}

// methods returns the methods of the upload requests since the last call.
func methods(s *imagetest.Server) string {
	var list []string
	for _, r := range s.Requests() {
		if strings.Contains(r, "/blobs/uploads/") {
			list = append(list, strings.Fields(r)[0])
		}
	}
	return strings.Join(list, " ")
}

func TestStreamUpload(t *testing.T) {
	t.Parallel()
	isPost := func(r *http.Request) bool { return r.Method == http.MethodPost }
	for name, test := range map[string]struct {
		faults []faultinject.Fault
		want   string
		again  string // want for a second blob
	}{
		"whole":              {nil, "POST PATCH PUT", "POST PATCH PUT"},
		"no upload starts":   {[]faultinject.Fault{{Match: isPost, Times: 1, Status: 400}}, "POST POST PUT", "POST PATCH PUT"},
		"rejected":           {[]faultinject.Fault{{Match: isPatch, Status: 405}}, "POST PATCH GET PUT", "POST PUT"},
		"interrupted":        {[]faultinject.Fault{{Match: isPatch, Times: 1, CutRequest: 300 << 10}}, "POST PATCH GET PUT", "POST PATCH PUT"},
		"fails":              {[]faultinject.Fault{{Match: isPatch, Times: 1, Status: 502}}, "POST PATCH GET PUT", "POST PATCH PUT"},
		"answer is lost":     {[]faultinject.Fault{{Match: isUpload, Times: 1, Drop: true}}, "POST PATCH PUT GET PUT", "POST PATCH PUT"},
		"digest is rejected": {[]faultinject.Fault{{Match: isUpload, Times: 1, Status: 400}}, "POST PATCH PUT GET PUT", "POST PATCH PUT"},
		"upload is dropped":  {[]faultinject.Fault{{Match: isPatch, Times: 1, CutRequest: 1}, {Match: isGet, Times: 1, Status: 404}}, "POST PATCH GET POST PUT", "POST PATCH PUT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			h, err := server.Handler(dir, server.Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range test.faults {
				h = faultinject.Handler(h, f)
			}
			s := imagetest.Serve(t, h)
			c, _ := newClient(t, Options{})
			p, err := c.NewPush(s.Host + "/app:1")
			if err != nil {
				t.Fatal(err)
			}
			p.repo.chunk = testChunk
			for i, want := range []string{test.want, test.again} {
				content := []byte(incompressible(1<<20 + i))
				b := layer.Descriptor{Digest: layer.FromBytes(content), Size: int64(len(content))}
				methods(s)
				var last int64
				err := p.Blob(context.Background(), b, Source{
					Open:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
					Stream: p.StartStream(context.Background(), inPieces(content)),
				}, func(n int64) { last = n })
				wantBlob(t, s, c, b, content, err)
				if got := methods(s); got != want {
					t.Errorf("blob %d: %s, want %s", i, got, want)
				}
				if last != b.Size {
					t.Errorf("blob %d: %d of %d bytes at the end", i, last, b.Size)
				}
			}
			if name != "upload is dropped" { // the location of that one is lost
				wantNoUploads(t, dir)
			}
		})
	}
}

func isGet(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/uploads/")
}

// TestStreamDiscarded checks that an upload that is not needed is cancelled at the
// registry, and so is one whose source fails.
func TestStreamDiscarded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h, err := server.Handler(dir, server.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	s := imagetest.Serve(t, h)
	img := faultImage(t)
	c, _ := newClient(t, Options{})
	mustPush(t, c, s.Host+"/app:1", img)
	for _, ref := range []string{"/app:1", "/other:1"} { // the tag lists the blobs; another repository has them
		p, err := c.NewPush(s.Host + ref)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range img.Layers {
			src := source(img, l)
			src.Stream = p.StartStream(context.Background(), inPieces(img.Blobs[l.Digest]))
			if err := p.Blob(context.Background(), l, src, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Image(context.Background(), img.Image); err != nil {
			t.Fatal(err)
		}
		wantPulled(t, c, s.Host+ref, img)
	}
	wantNoUploads(t, dir)

	p, err := c.NewPush(s.Host + "/app:2")
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	a := p.StartStream(context.Background(), r)
	if _, err := w.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	w.CloseWithError(errors.New("the disk broke"))
	<-a.done
	if a.err == nil || !strings.Contains(a.err.Error(), "the disk broke") {
		t.Errorf("error: %v", a.err)
	}
	a.discard(context.Background())
	wantNoUploads(t, dir)
	var none *StreamUpload
	none.Cancel()
}
