package transport

import (
	"net/http"
	"net/url"
	"testing"
)

// An upload location may be on another host, but never lead from HTTPS to plain
// HTTP.
func TestLocation(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{}, nil)
	for _, test := range []struct{ domain, location, want string }{
		{"a.example", "/v2/x/blobs/uploads/1", "https://a.example/v2/x/blobs/uploads/1"},
		{"a.example", "2?state=s", "https://a.example/v2/x/blobs/2?state=s"},
		{"a.example", "http://a.example/u", "https://a.example/u"}, // a proxy in front of the registry ended TLS
		{"a.example", "https://storage.example/u", "https://storage.example/u"},
		{"a.example", "http://storage.example/u", ""},
		{"a.example", "file:///etc/passwd", ""},
		{"a.example", "", ""},
		{"a.example", "http://[::1", ""},
		{"localhost:5000", "http://127.0.0.1:5001/u", "http://127.0.0.1:5001/u"},
		{"localhost:5000", "https://storage.example/u", "https://storage.example/u"},
	} {
		h := p.Host(HostConfig{Domain: test.domain})
		resp := &http.Response{Header: http.Header{}, Request: &http.Request{URL: h.conn.url("x/blobs/uploads", nil)}}
		resp.Header.Set("Location", test.location)
		got, err := h.Location(resp)
		if (err == nil) != (test.want != "") || err == nil && got.String() != test.want {
			t.Errorf("%s: Location %q leads to %v, %v, want %q", test.domain, test.location, got, err, test.want)
		}
		if err != nil && !IsPermanent(err) {
			t.Errorf("%s: Location %q: %v is not permanent", test.domain, test.location, err)
		}
	}
}

func TestHostIsShared(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{}, nil)
	a, mirror := HostConfig{Domain: "a.example"}, HostConfig{Domain: "a.example", MirrorOf: "b.example"}
	if first, second := p.Host(a), p.Host(a); first != second {
		t.Error("equal configurations give two hosts")
	}
	if p.Host(a) == p.Host(mirror) {
		t.Error("a registry and a mirror are one host")
	}
	if p.Host(a).IsMirror() || !p.Host(mirror).IsMirror() {
		t.Error("the mirror is the other host")
	}
	if hub := p.Host(HostConfig{Domain: "docker.io"}); hub.Name() != "docker.io" || hub.Addr() != "registry-1.docker.io" {
		t.Errorf("Docker Hub is %s at %s", hub.Name(), hub.Addr())
	}
}

// Credentials are sent to the host itself only.
func TestOwns(t *testing.T) {
	t.Parallel()
	c := newPool(t, Options{}, nil).Host(HostConfig{Domain: "a.example:443"}).conn
	for address, want := range map[string]bool{
		"https://a.example:443/v2/": true, "http://a.example:443/v2/": false, "https://a.example/v2/": false,
		"https://a.example.evil.example:443/": false, "https://a.example:443@evil.example/": false,
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.owns(u, c.current()); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}
