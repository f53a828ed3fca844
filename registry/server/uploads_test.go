package server

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
)

func TestChunkedUpload(t *testing.T) {
	t.Parallel()
	c := start(t, Options{})
	d := layer.FromBytes([]byte("one two three"))
	a := c.do("POST", "/v2/a/blobs/uploads/", "")
	c.want(a, 202, "")
	at := a.header.Get("Location")
	a = c.do("PATCH", at, "one ", "Content-Range", "0-3", "Content-Type", "application/octet-stream")
	c.want(a, 202, "")
	if a.header.Get("Range") != "0-3" {
		t.Errorf("range %q", a.header.Get("Range"))
	}
	a = c.do("PATCH", at, "three", "Content-Range", "8-12")
	c.want(a, 416, "BLOB_UPLOAD_INVALID")
	if a.header.Get("Range") != "0-3" || a.header.Get("Location") == "" {
		t.Errorf("after a chunk out of order: %v", a.header)
	}
	c.want(c.do("PATCH", at, "x", "Content-Range", "nonsense"), 416, "")
	c.want(c.do("PATCH", at, "two "), 202, "") // without a range: streamed
	a = c.do("GET", at, "")
	if a.status != 204 || a.header.Get("Range") != "0-7" {
		t.Errorf("status of the upload: %v", a)
	}
	c.want(c.do("GET", "/v2/b/blobs/uploads/"+filepath.Base(at), ""), 404, "BLOB_UPLOAD_UNKNOWN")
	c.want(c.do("PUT", at+"?digest="+string(d), "three"), 201, "")
	c.want(c.do("GET", "/v2/a/blobs/"+string(d), ""), 200, "one two three")
	c.want(c.do("PATCH", at, "more"), 404, "BLOB_UPLOAD_UNKNOWN")

	at = c.do("POST", "/v2/a/blobs/uploads/", "").header.Get("Location")
	c.want(c.do("DELETE", at, ""), 204, "")
	c.want(c.do("GET", at, ""), 404, "BLOB_UPLOAD_UNKNOWN")
	at = c.do("POST", "/v2/a/blobs/uploads/", "").header.Get("Location")
	c.want(c.do("PUT", at+"?digest="+string(d), "other"), 400, "DIGEST_INVALID")
	c.want(c.do("GET", at, ""), 404, "BLOB_UPLOAD_UNKNOWN")
	c.want(c.do("PUT", c.do("POST", "/v2/a/blobs/uploads/", "").header.Get("Location"), "x"), 400, "DIGEST_INVALID")
	wantUploads(t, c, 1) // the last one can still be completed
}

func wantUploads(t *testing.T, c *client, n int) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(c.dir, "uploads"))
	if err != nil || len(entries) != n {
		t.Errorf("%d uploads, %v, want %d", len(entries), err, n)
	}
}

func TestOldUploadsGo(t *testing.T) {
	t.Parallel()
	c := start(t, Options{})
	at := c.do("POST", "/v2/a/blobs/uploads/", "").header.Get("Location")
	file := filepath.Join(c.dir, "uploads", filepath.Base(at))
	old := time.Now().Add(-2 * uploadLife)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	startIn(t, c.dir, Options{})
	wantUploads(t, c, 0)

	s := &server{dir: t.TempDir(), uploads: map[string]*upload{}}
	if err := os.Mkdir(filepath.Join(s.dir, "uploads"), 0o700); err != nil {
		t.Fatal(err)
	}
	u, err := s.newUpload("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.sweepUploads(time.Now().Add(-time.Hour)); err != nil || s.findUpload("a", u.id) == nil {
		t.Errorf("a young upload was dropped, %v", err)
	}
	if err := s.sweepUploads(time.Now().Add(time.Hour)); err != nil || s.findUpload("a", u.id) != nil || exists(s.uploadPath(u)) {
		t.Errorf("an old upload was kept, %v", err)
	}
}

// A client that disconnects can resume its upload.
func TestBrokenUpload(t *testing.T) {
	t.Parallel()
	c := start(t, Options{})
	at := c.do("POST", "/v2/a/blobs/uploads/", "").header.Get("Location")
	pr, pw := io.Pipe()
	req, err := http.NewRequest("PATCH", c.base+at, pr)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = pw.Write([]byte("half "))
		for { // wait until it is stored, then disconnect
			b, err := os.ReadFile(filepath.Join(c.dir, "uploads", filepath.Base(at)))
			if err != nil || len(b) == 5 {
				pw.CloseWithError(io.ErrUnexpectedEOF)
				return
			}
		}
	}()
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Error("a broken request was answered")
	}
	a := c.do("GET", at, "")
	if a.status != 204 || a.header.Get("Range") != "0-4" {
		t.Fatalf("after the break: %v", a)
	}
	d := layer.FromBytes([]byte("half and half"))
	c.want(c.do("PUT", at+"?digest="+string(d), "and half"), 201, "")
	c.want(c.do("GET", "/v2/a/blobs/"+string(d), ""), 200, "half and half")
}
