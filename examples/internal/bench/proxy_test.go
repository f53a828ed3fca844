package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestProxyCountsRequestsAndBlobBytes(t *testing.T) {
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "12345 "+r.Host)
	}))
	defer registry.Close()
	var p proxy
	addr, stop, err := p.serve(strings.TrimPrefix(registry.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	send := func(method, path, body string) string {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got := send("GET", "/v2/a/manifests/latest", ""); got != "12345 "+addr {
		t.Errorf("the registry said %q: it must see the proxy's own address, %s", got, addr)
	}
	size := int64(len(send("GET", "/v2/a/blobs/sha256:1", "")))
	send("PUT", "/v2/a/blobs/uploads/1?digest=x", "123")
	if got, want := p.take(), (traffic{requests: 3, down: size, up: 3}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if got := p.take(); got != (traffic{}) {
		t.Errorf("counted %+v after that, want nothing", got)
	}
}
