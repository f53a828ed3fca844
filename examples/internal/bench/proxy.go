package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
)

// traffic is the traffic between a peer and the registry.
type traffic struct {
	requests int64
	down, up int64 // bytes of blobs
}

// proxy forwards requests to a registry and counts them.
type proxy struct {
	requests, down, up atomic.Int64
}

// serve starts the proxy on a free port.
func (p *proxy) serve(registry string) (addr string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	behind := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: registry})
			r.Out.Host = r.In.Host // so that Location headers point to the proxy
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		ModifyResponse: func(r *http.Response) error {
			if r.Request.Method == http.MethodGet && strings.Contains(r.Request.URL.Path, "/blobs/") {
				r.Body = &counted{r.Body, &p.down}
			}
			return nil
		},
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.requests.Add(1)
		if strings.Contains(r.URL.Path, "/blobs/uploads/") {
			r.Body = &counted{r.Body, &p.up}
		}
		behind.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(listener) }() // ends with stop
	return listener.Addr().String(), func() { _ = server.Close() }, nil
}

// take returns the counts since its last call.
func (p *proxy) take() traffic {
	return traffic{requests: p.requests.Swap(0), down: p.down.Swap(0), up: p.up.Swap(0)}
}

// counted counts the bytes read through it.
type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.n.Add(int64(n))
	return n, err
}
