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
	"github.com/cairn-build/cairn/registry/internal/imagetest"
	"github.com/cairn-build/cairn/registry/serve"
)

// written is a reader of what is written by and by.
func written(content []byte) io.ReadCloser {
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

// methods are those of the requests that uploads have made since the last time.
func methods(s *imagetest.Server) string {
	var list []string
	for _, r := range s.Requests() {
		if strings.Contains(r, "/blobs/uploads/") {
			list = append(list, strings.Fields(r)[0])
		}
	}
	return strings.Join(list, " ")
}

func TestAhead(t *testing.T) {
	isPost := func(r *http.Request) bool { return r.Method == http.MethodPost }
	for name, test := range map[string]struct {
		faults []serve.Faults
		want   string
		again  string // of a second blob
	}{
		"whole":             {nil, "POST PATCH PUT", "POST PATCH PUT"},
		"no upload begins":  {[]serve.Faults{{Match: isPost, Times: 1, Status: 400}}, "POST POST PUT", "POST PATCH PUT"},
		"not taken":         {[]serve.Faults{{Match: isPatch, Status: 405}}, "POST PATCH GET PUT", "POST PUT"},
		"broken off":        {[]serve.Faults{{Match: isPatch, Times: 1, CutRequest: 300 << 10}}, "POST PATCH GET PUT", "POST PATCH PUT"},
		"fails":             {[]serve.Faults{{Match: isPatch, Times: 1, Status: 502}}, "POST PATCH GET PUT", "POST PATCH PUT"},
		"its name is lost":  {[]serve.Faults{{Match: isUpload, Times: 1, Drop: true}}, "POST PATCH PUT GET PUT", "POST PATCH PUT"},
		"its name is no":    {[]serve.Faults{{Match: isUpload, Times: 1, Status: 400}}, "POST PATCH PUT GET PUT", "POST PATCH PUT"},
		"all of it is gone": {[]serve.Faults{{Match: isPatch, Times: 1, CutRequest: 1}, {Match: isGet, Times: 1, Status: 404}}, "POST PATCH GET POST PUT", "POST PATCH PUT"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			h, err := serve.Handler(dir, serve.Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range test.faults {
				h = serve.Faulty(h, f)
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
				b := layer.Blob{Digest: layer.FromBytes(content), Size: int64(len(content))}
				methods(s)
				var last int64
				err := p.Blob(context.Background(), b, Source{
					Open:  func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
					Ahead: p.Ahead(context.Background(), written(content)),
				}, func(n int64) { last = n })
				wantBlob(t, s, c, b, content, err)
				if got := methods(s); got != want {
					t.Errorf("blob %d: %s, want %s", i, got, want)
				}
				if last != b.Size {
					t.Errorf("blob %d: %d of %d bytes at the end", i, last, b.Size)
				}
			}
			if name != "all of it is gone" { // nobody knows of that one any more
				wantNoUploads(t, dir)
			}
		})
	}
}

func isGet(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/uploads/")
}

// TestAheadInVain: an upload that turns out not to be needed is taken back, and one of
// which the source fails is not there.
func TestAheadInVain(t *testing.T) {
	dir := t.TempDir()
	h, err := serve.Handler(dir, serve.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	s := imagetest.Serve(t, h)
	img := faultImage(t)
	c, _ := newClient(t, Options{})
	mustPush(t, c, s.Host+"/app:1", img)
	for _, ref := range []string{"/app:1", "/other:1"} { // the tag has them; another repository has them
		p, err := c.NewPush(s.Host + ref)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range img.Layers {
			src := source(img, l)
			src.Ahead = p.Ahead(context.Background(), written(img.Blobs[l.Digest]))
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
	a := p.Ahead(context.Background(), r)
	if _, err := w.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	w.CloseWithError(errors.New("the disk broke"))
	<-a.done
	if a.err == nil || !strings.Contains(a.err.Error(), "the disk broke") {
		t.Errorf("error: %v", a.err)
	}
	a.forget(context.Background())
	wantNoUploads(t, dir)
	var none *Ahead
	none.Drop()
}
