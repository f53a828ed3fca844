package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-build/cairn/layer"
)

// A client sends requests to a handler on a real port.
type client struct {
	t    testing.TB
	base string
	dir  string
}

func start(t testing.TB, o Options) *client {
	t.Helper()
	return startIn(t, t.TempDir(), o)
}

func startIn(t testing.TB, dir string, o Options) *client {
	t.Helper()
	h, err := Handler(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return &client{t, s.URL, dir}
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request; headers are name, value, name, value.
func (c *client) do(method, path, body string, headers ...string) answer {
	c.t.Helper()
	u := path
	if !strings.Contains(path, "://") {
		u = c.base + path
	}
	req, err := http.NewRequest(method, u, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// want checks status, and code of the error if there is one.
func (c *client) want(a answer, status int, code string) {
	c.t.Helper()
	if a.status != status || !strings.Contains(a.body, code) {
		c.t.Errorf("answer %d %.300s, want %d %s", a.status, a.body, status, code)
	}
}

func (c *client) putBlob(repo, content string) layer.Digest {
	c.t.Helper()
	d := layer.FromBytes([]byte(content))
	a := c.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+string(d), content)
	c.want(a, 201, "")
	return d
}

func (c *client) putManifest(repo, ref string, m map[string]any) layer.Digest {
	c.t.Helper()
	m["schemaVersion"] = 2
	raw, err := json.Marshal(m)
	if err != nil {
		c.t.Fatal(err)
	}
	d := layer.FromBytes(raw)
	if ref == "" {
		ref = string(d)
	}
	c.want(c.do("PUT", "/v2/"+repo+"/manifests/"+ref, string(raw), "Content-Type", m["mediaType"].(string)), 201, "")
	return d
}

func desc(mediaType string, d layer.Digest, size int) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": d, "size": size}
}

func (c *client) putImage(repo, ref, content string) layer.Digest {
	c.t.Helper()
	config, l := c.putBlob(repo, `{"a":"`+content+`"}`), c.putBlob(repo, content)
	return c.putManifest(repo, ref, map[string]any{"mediaType": layer.MediaTypeManifest,
		"config": desc(layer.MediaTypeConfig, config, 1), "layers": []any{desc(layer.MediaTypeGzip, l, len(content))}})
}

func TestBlobs(t *testing.T) {
	t.Parallel()
	c := start(t, Options{})
	c.want(c.do("GET", "/v2/", ""), 200, "{}")
	d := c.putBlob("a/b", "hello, blob")
	path := "/v2/a/b/blobs/" + string(d)
	a := c.do("GET", path, "")
	c.want(a, 200, "hello, blob")
	if a.header.Get("Docker-Content-Digest") != string(d) || a.header.Get("Content-Length") != "11" {
		t.Errorf("headers %v", a.header)
	}
	if a := c.do("HEAD", path, ""); a.status != 200 || a.header.Get("Content-Length") != "11" {
		t.Errorf("HEAD: %v", a)
	}
	if a := c.do("GET", path, "", "Range", "bytes=7-"); a.status != 206 || a.body != "blob" || a.header.Get("Content-Range") != "bytes 7-10/11" {
		t.Errorf("range: %v", a)
	}
	c.want(c.do("GET", path, "", "Range", "bytes=11-"), 416, "")
	c.want(c.do("GET", path, "", "If-None-Match", a.header.Get("ETag")), 304, "")
	c.want(c.do("GET", "/v2/other/blobs/"+string(d), ""), 404, "BLOB_UNKNOWN")
	c.want(c.do("HEAD", "/v2/other/blobs/"+string(d), ""), 404, "")

	c.want(c.do("POST", "/v2/other/blobs/uploads/?mount="+string(d)+"&from=a/b", ""), 201, "")
	c.want(c.do("GET", "/v2/other/blobs/"+string(d), ""), 200, "hello, blob")
	c.want(c.do("POST", "/v2/third/blobs/uploads/?mount="+string(d)+"&from=nowhere", ""), 202, "")
	c.want(c.do("POST", "/v2/third/blobs/uploads/?mount="+string(d)+"&from=../a/b", ""), 202, "")

	c.want(c.do("DELETE", path, ""), 202, "")
	c.want(c.do("GET", path, ""), 404, "BLOB_UNKNOWN")
	c.want(c.do("GET", "/v2/other/blobs/"+string(d), ""), 200, "hello, blob")
	c.want(c.do("DELETE", "/v2/other/blobs/"+string(d), ""), 202, "")
	if _, err := os.Stat(filepath.Join(c.dir, "blobs/sha256", d.Hex()[:2], d.Hex())); err == nil {
		t.Error("the bytes are there though no repository has them")
	}
	c.want(c.do("DELETE", path, ""), 404, "BLOB_UNKNOWN")
	c.want(c.do("PATCH", path, ""), 405, "UNSUPPORTED")
}

func TestManifests(t *testing.T) {
	t.Parallel()
	c := start(t, Options{})
	d := c.putImage("app", "1", "content")
	for _, ref := range []string{"1", string(d)} {
		a := c.do("GET", "/v2/app/manifests/"+ref, "")
		if a.status != 200 || layer.FromBytes([]byte(a.body)) != d || a.header.Get("Docker-Content-Digest") != string(d) || a.header.Get("Content-Type") != layer.MediaTypeManifest {
			t.Errorf("%s: %v", ref, a)
		}
		if h := c.do("HEAD", "/v2/app/manifests/"+ref, ""); h.status != 200 || h.header.Get("Content-Length") != fmt.Sprint(len(a.body)) || h.header.Get("Docker-Content-Digest") != string(d) {
			t.Errorf("HEAD %s: %v", ref, h)
		}
	}
	c.want(c.do("GET", "/v2/app/manifests/2", ""), 404, "MANIFEST_UNKNOWN")
	c.want(c.do("GET", "/v2/other/manifests/"+string(d), ""), 404, "MANIFEST_UNKNOWN")
	c.want(c.do("GET", "/v2/app/manifests/1", "", "If-None-Match", `"`+string(d)+`"`), 304, "")

	e := c.putImage("app", "1", "other content") // the tag refers to another manifest
	c.want(c.do("GET", "/v2/app/manifests/"+string(d), ""), 200, "config")
	if a := c.do("HEAD", "/v2/app/manifests/1", ""); a.header.Get("Docker-Content-Digest") != string(e) {
		t.Errorf("the tag means %s", a.header.Get("Docker-Content-Digest"))
	}
	index := c.putManifest("app", "both", map[string]any{"mediaType": layer.MediaTypeIndex,
		"manifests": []any{desc(layer.MediaTypeManifest, d, 1), desc(layer.MediaTypeManifest, e, 1)}})
	c.want(c.do("GET", "/v2/app/manifests/"+string(index), ""), 200, string(d))

	c.want(c.do("DELETE", "/v2/app/manifests/both", ""), 202, "")
	c.want(c.do("GET", "/v2/app/manifests/both", ""), 404, "")
	c.want(c.do("GET", "/v2/app/manifests/"+string(index), ""), 200, "")
	c.want(c.do("DELETE", "/v2/app/manifests/"+string(e), ""), 202, "")
	c.want(c.do("GET", "/v2/app/manifests/1", ""), 404, "MANIFEST_UNKNOWN") // its tag was removed too
	c.want(c.do("DELETE", "/v2/app/manifests/"+string(e), ""), 404, "MANIFEST_UNKNOWN")
}

func TestBadManifests(t *testing.T) {
	t.Parallel()
	c := start(t, Options{})
	blob := c.putBlob("app", "x")
	have, lack := `{"digest":"`+string(blob)+`"}`, `{"digest":"`+string(layer.FromBytes(nil))+`"}`
	for _, test := range []struct {
		ref, contentType, body string
		status                 int
		code                   string
	}{
		{"1", layer.MediaTypeManifest, "not JSON", 400, "MANIFEST_INVALID"},
		{"1", layer.MediaTypeManifest, "{}", 400, "MANIFEST_INVALID"},
		{"1", "", `{"schemaVersion":2}`, 400, "no media type"},
		{"1", layer.MediaTypeManifest, `{"schemaVersion":2,"mediaType":"` + layer.MediaTypeIndex + `"}`, 400, "MANIFEST_INVALID"},
		{"1", layer.MediaTypeManifest, `{"schemaVersion":2,"config":` + have + `,"layers":[` + lack + `]}`, 404, "MANIFEST_BLOB_UNKNOWN"},
		{"1", layer.MediaTypeManifest, `{"schemaVersion":2,"config":` + lack + `}`, 404, "MANIFEST_BLOB_UNKNOWN"},
		{"1", layer.MediaTypeIndex, `{"schemaVersion":2,"manifests":[` + have + `]}`, 404, "MANIFEST_BLOB_UNKNOWN"},
		{"1", layer.MediaTypeIndex, `{"schemaVersion":2,"manifests":[],"config":` + have + `}`, 400, "both an image and an index"},
		{"1", layer.MediaTypeManifest, `{"schemaVersion":2,"config":{"digest":"sha256:../../../x"}}`, 400, "MANIFEST_INVALID"},
		{string(blob), layer.MediaTypeManifest, `{"schemaVersion":2}`, 400, "DIGEST_INVALID"},
		{"-bad", layer.MediaTypeManifest, `{"schemaVersion":2}`, 400, "neither tag nor digest"},
		{"1", layer.MediaTypeManifest, `{"schemaVersion":2,"x":"` + strings.Repeat("x", maxManifest) + `"}`, 413, "SIZE_INVALID"},
		{"1", layer.MediaTypeManifest, `{"schemaVersion":2,"config":` + have + `,"layers":[{"digest":"` + string(layer.FromBytes(nil)) + `","urls":["https://x"]}]}`, 201, ""},
	} {
		var headers []string
		if test.contentType != "" {
			headers = []string{"Content-Type", test.contentType}
		}
		c.want(c.do("PUT", "/v2/app/manifests/"+test.ref, test.body, headers...), test.status, test.code)
	}
}

// No name, tag or digest leads outside the registry's directory.
func TestPathTricks(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	if err := os.WriteFile(filepath.Join(parent, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startIn(t, filepath.Join(parent, "registry"), Options{})
	c.putImage("app", "1", "x")
	hex := strings.Repeat("0", 64)
	for _, path := range []string{
		"/v2/..%2f..%2fsecret/manifests/1", "/v2/app/manifests/..%2f..%2f..%2f..%2fsecret", "/v2/app/manifests/%2e%2e",
		"/v2/app/blobs/sha256:..%2f..%2f..%2fsecret", "/v2/app/blobs/..%2f..%2fsecret", "/v2/_layers/manifests/1", "/v2/app/_tags/manifests/1",
		"/v2/APP/manifests/1", "/v2/a%00b/manifests/1", "/v2/-a/tags/list", "/v2/a..b/tags/list", "/v2/" + strings.Repeat("a", 256) + "/tags/list",
		"/v2/app/blobs/sha256:" + strings.ToUpper(strings.Replace(hex, "0", "a", -1)), "/v2/app/blobs/sha512:" + hex + hex,
		"/v2/app/blobs/uploads/..%2f..%2fsecret", "/v2/app/referrers/sha256:..", "/v2/app/nonsense", "/v2/x", "/secret", "/",
		"/v2//manifests/1", "/v2/app//manifests/1",
	} {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "PATCH"} {
			req, err := http.NewRequest(method, c.base+path, strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode < 400 || bytes.Contains(b, []byte("secret\n")) || resp.StatusCode >= 500 {
				t.Errorf("%s %s: %d %s", method, path, resp.StatusCode, b)
			}
		}
	}
	entries, err := os.ReadDir(parent)
	if err != nil || len(entries) != 2 {
		t.Errorf("beside the registry: %v, %v", entries, err)
	}
}

func TestAuthAndReadOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startIn(t, dir, Options{}).putImage("app", "1", "x")
	c := startIn(t, dir, Options{Auth: func(user, password string, write bool) bool {
		return user == "w" && password == "pw" || !write && user == "r" && password == "pw"
	}})
	basic := func(user string) []string { // pw in base64 behind user
		req, _ := http.NewRequest("GET", "http://x", nil)
		req.SetBasicAuth(user, "pw")
		return []string{"Authorization", req.Header.Get("Authorization")}
	}
	a := c.do("GET", "/v2/", "")
	c.want(a, 401, "UNAUTHORIZED")
	if a.header.Get("WWW-Authenticate") == "" {
		t.Error("no challenge")
	}
	c.want(c.do("GET", "/v2/app/manifests/1", "", basic("r")...), 200, "")
	c.want(c.do("POST", "/v2/app/blobs/uploads/", "", basic("r")...), 401, "UNAUTHORIZED")
	c.want(c.do("POST", "/v2/app/blobs/uploads/", "", basic("w")...), 202, "")

	c = startIn(t, dir, Options{ReadOnly: true})
	c.want(c.do("GET", "/v2/app/manifests/1", ""), 200, "")
	for _, method := range []string{"PUT", "DELETE"} {
		c.want(c.do(method, "/v2/app/manifests/1", "{}"), 405, "UNSUPPORTED")
	}
	c.want(c.do("POST", "/v2/app/blobs/uploads/", ""), 405, "UNSUPPORTED")
}

// An error of the disk is sent without paths.
func TestDiskError(t *testing.T) {
	t.Parallel()
	c := start(t, Options{})
	if err := os.RemoveAll(filepath.Join(c.dir, "uploads")); err != nil {
		t.Fatal(err)
	}
	a := c.do("POST", "/v2/app/blobs/uploads/", "")
	c.want(a, 500, "error on the registry's disk: no such file or directory")
	if strings.Contains(a.body, c.dir) {
		t.Errorf("the answer contains a path: %s", a.body)
	}
	if _, err := Handler("/proc/nowhere", Options{}); err == nil {
		t.Error("a registry in /proc")
	}
}

// After concurrent uploads, mounts and deletes of the same bytes, no repository
// links to bytes that were removed.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	c := start(t, Options{NoSync: true})
	content := strings.Repeat("x", 100<<10)
	d := layer.FromBytes([]byte(content))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			repo := fmt.Sprintf("r%d", i%4)
			for range 30 {
				c.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+string(d), content)
				c.do("POST", fmt.Sprintf("/v2/r%d/blobs/uploads/?mount=%s&from=%s", (i+1)%4, d, repo), "")
				if i%2 == 0 {
					c.do("DELETE", "/v2/"+repo+"/blobs/"+string(d), "")
				}
			}
		})
	}
	all.Wait()
	for i := range 4 {
		link := filepath.Join(c.dir, "repositories", fmt.Sprintf("r%d", i), "_layers", d.Hex())
		_, err := os.Stat(link)
		if a := c.do("GET", fmt.Sprintf("/v2/r%d/blobs/%s", i, d), ""); err == nil && a.body != content || err != nil && a.status != 404 {
			t.Errorf("r%d: link %v, answer %d with %d bytes", i, err, a.status, len(a.body))
		}
	}
}

// A registry that is restarted has the same content.
func TestRestart(t *testing.T) {
	t.Parallel()
	c := start(t, Options{})
	d := c.putImage("app", "1", "x")
	again := startIn(t, c.dir, Options{})
	again.want(again.do("GET", "/v2/app/manifests/"+string(d), ""), 200, "layers")
	err := filepath.WalkDir(filepath.Join(c.dir, "uploads"), func(path string, e fs.DirEntry, err error) error {
		if !e.IsDir() {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func FuzzServe(f *testing.F) {
	h, err := Handler(f.TempDir(), Options{NoSync: true})
	if err != nil {
		f.Fatal(err)
	}
	d := string(layer.FromBytes([]byte("x")))
	f.Add("POST", "/v2/a/blobs/uploads/?digest="+d, "x")
	f.Add("PUT", "/v2/a/manifests/1", `{"schemaVersion":2,"mediaType":"m","config":{"digest":"`+d+`"},"subject":{"digest":"`+d+`"}}`)
	f.Add("GET", "/v2/a/tags/list?n=1&last=x", "")
	f.Add("GET", "/v2/_catalog?n=99999999999999999999", "")
	f.Add("DELETE", "/v2/a/manifests/"+d, "")
	f.Add("GET", "/v2/a/referrers/"+d, "")
	f.Fuzz(func(t *testing.T, method, target, body string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || method == "" || strings.ContainsFunc(method, func(r rune) bool { return r < 'A' || r > 'Z' }) {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, &http.Request{Method: method, URL: u, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))})
		if w.Code >= 500 && !strings.Contains(w.Body.String(), "file name too long") {
			t.Errorf("%s %s: %d %s", method, target, w.Code, w.Body)
		}
	})
}

func BenchmarkUpload(b *testing.B) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 2<<20)
	d := layer.FromBytes(content)
	c := start(b, Options{NoSync: true})
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		req, err := http.NewRequest("POST", c.base+"/v2/a/blobs/uploads/?digest="+string(d), bytes.NewReader(content))
		if err != nil {
			b.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != 201 {
			b.Fatal(resp, err)
		}
		resp.Body.Close()
	}
}
