package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// engineAddress is where an engine of a kind may be found by its API.
type engineAddress struct {
	kind, url string
	variable  string // of the environment, if one names it
}

// engineAddresses are those that the environment names, or those by default.
func engineAddresses() (all []engineAddress) {
	runtime := os.Getenv("XDG_RUNTIME_DIR")
	for _, e := range [...]struct{ kind, variable, system, user string }{
		{"docker", "DOCKER_HOST", "/var/run/docker.sock", "docker.sock"},
		{"podman", "CONTAINER_HOST", "/run/podman/podman.sock", "podman/podman.sock"},
	} {
		if url := os.Getenv(e.variable); url != "" {
			all = append(all, engineAddress{e.kind, url, e.variable})
			continue
		}
		places := []engineAddress{{kind: e.kind, url: "unix://" + e.system}}
		if runtime != "" {
			places = append(places, engineAddress{kind: e.kind, url: "unix://" + filepath.Join(runtime, e.user)})
		}
		if e.kind == "podman" && len(places) == 2 { // its user's images are those of the user's socket
			places[0], places[1] = places[1], places[0]
		}
		all = append(all, places...)
	}
	return all
}

func (a engineAddress) String() string { return strings.TrimPrefix(a.url, "unix://") }

// dial connects to the engine, as docker's and podman's own clients do.
func (a engineAddress) dial(ctx context.Context) (net.Conn, error) {
	kind, place, ok := strings.Cut(a.url, "://")
	switch {
	case !ok || kind == "unix":
		return new(net.Dialer).DialContext(ctx, "unix", cmp.Or(place, a.url))
	case kind != "tcp":
		return nil, fmt.Errorf("a %s:// address is not supported: want unix:// or tcp://", kind)
	case a.kind != "docker" || os.Getenv("DOCKER_TLS_VERIFY") == "":
		return new(net.Dialer).DialContext(ctx, "tcp", place)
	}
	config, err := dockerTLS()
	if err != nil {
		return nil, err
	}
	return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", place)
}

// dockerTLS reads the certificates with which docker's client shows itself.
func dockerTLS() (*tls.Config, error) {
	home, _ := os.UserHomeDir()
	dir := cmp.Or(os.Getenv("DOCKER_CERT_PATH"), os.Getenv("DOCKER_CONFIG"), filepath.Join(home, ".docker"))
	authority, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("DOCKER_TLS_VERIFY is set: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s/ca.pem has no certificate", dir)
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, fmt.Errorf("DOCKER_TLS_VERIFY is set: %w", err)
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}}, nil
}

// load speaks docker's API, which podman has too.
func (a engineAddress) load(ctx context.Context, r io.Reader) error {
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return a.dial(ctx)
	}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine/images/load?quiet=1", io.NopCloser(r))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said := json.NewDecoder(io.LimitReader(resp.Body, 1<<20))
	for {
		var line struct{ Error, Message string }
		err := said.Decode(&line)
		switch {
		case line.Error != "":
			return errors.New(line.Error)
		case resp.StatusCode != http.StatusOK && line.Message != "":
			return errors.New(line.Message)
		case err != nil && resp.StatusCode != http.StatusOK:
			return fmt.Errorf("it answers %s", resp.Status)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("its answer: %w", err)
		}
	}
}
