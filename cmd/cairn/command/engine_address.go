package command

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// engineAddress is an address at which an engine may serve its API.
type engineAddress struct {
	kind, url string
	source    string // that names it: a variable of the environment, or docker's context; "" for a default address
	tls       *engineTLS
	err       error // of reading the address
}

// engineTLS describes TLS with an engine.
type engineTLS struct {
	dir        string // of ca.pem, cert.pem and key.pem
	source     string
	optional   bool // the files may be missing
	skipVerify bool // do not verify the engine's certificate
}

// engineAddresses lists the addresses in the environment, or the default ones.
func engineAddresses() (all []engineAddress) {
	runtime := os.Getenv("XDG_RUNTIME_DIR")
	for _, e := range [...]struct{ kind, variable, system, user string }{
		{"docker", "DOCKER_HOST", "/var/run/docker.sock", "docker.sock"},
		{"podman", "CONTAINER_HOST", "/run/podman/podman.sock", "podman/podman.sock"},
	} {
		if url := os.Getenv(e.variable); url != "" {
			a := engineAddress{kind: e.kind, url: url, source: e.variable}
			if e.kind == "docker" {
				a.tls = tlsVariables()
			}
			all = append(all, a)
			continue
		}
		if e.kind == "docker" {
			if a, ok := contextAddress(); ok {
				all = append(all, a)
				continue
			}
		}
		list := []engineAddress{{kind: e.kind, url: "unix://" + e.system}}
		if runtime != "" {
			list = append(list, engineAddress{kind: e.kind, url: "unix://" + filepath.Join(runtime, e.user)})
		}
		if e.kind == "podman" && len(list) == 2 { // the socket of the user has the user's images
			list[0], list[1] = list[1], list[0]
		}
		all = append(all, list...)
	}
	return all
}

// contextAddress returns the address of the context of docker, and false for the
// default one.
func contextAddress() (engineAddress, bool) {
	c, err := selectedContext(dockerConfigDir())
	if c == nil {
		return engineAddress{}, false
	}
	a := engineAddress{kind: "docker", url: c.host, err: err}
	if c.named || err != nil {
		a.source = "the docker context " + c.name
	}
	if c.tls != "" {
		a.tls = &engineTLS{c.tls, "the docker context " + c.name, true, c.skipVerify}
	}
	return a, true
}

// tlsVariables returns the TLS that the variables of docker describe, or nil.
func tlsVariables() *engineTLS {
	t := &engineTLS{dir: cmp.Or(os.Getenv("DOCKER_CERT_PATH"), dockerConfigDir())}
	switch {
	case os.Getenv("DOCKER_TLS_VERIFY") != "":
		t.source = "DOCKER_TLS_VERIFY is set"
	case os.Getenv("DOCKER_TLS") != "":
		t.source, t.optional, t.skipVerify = "DOCKER_TLS is set", true, true
	default:
		return nil
	}
	return t
}

func (a engineAddress) String() string { return strings.TrimPrefix(a.url, "unix://") }

// dial connects to the engine as the clients of Docker and Podman do.
func (a engineAddress) dial(ctx context.Context) (net.Conn, error) {
	kind, addr, ok := strings.Cut(a.url, "://")
	switch {
	case a.err != nil:
		return nil, a.err
	case !ok || kind == "unix":
		return new(net.Dialer).DialContext(ctx, "unix", cmp.Or(addr, a.url))
	case kind != "tcp":
		return nil, fmt.Errorf("a %s:// address is not supported: want unix:// or tcp://", kind)
	case a.tls == nil:
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	config, err := a.tls.config()
	if err != nil {
		return nil, err
	}
	return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", addr)
}

// config reads the certificates.
func (t *engineTLS) config() (*tls.Config, error) {
	config := &tls.Config{InsecureSkipVerify: t.skipVerify}
	authority, err := os.ReadFile(filepath.Join(t.dir, "ca.pem"))
	if err == nil {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authority) {
			err = fmt.Errorf("%s/ca.pem has no certificate", t.dir)
		}
	}
	if err == nil || t.mayLack(err) {
		var own tls.Certificate
		if own, err = tls.LoadX509KeyPair(filepath.Join(t.dir, "cert.pem"), filepath.Join(t.dir, "key.pem")); err == nil {
			config.Certificates = []tls.Certificate{own}
		}
	}
	if err != nil && !t.mayLack(err) {
		return nil, fmt.Errorf("%s: %w", t.source, err)
	}
	return config, nil
}

func (t *engineTLS) mayLack(err error) bool { return t.optional && errors.Is(err, fs.ErrNotExist) }

// client returns a client of the engine's API.
func (a engineAddress) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return a.dial(ctx)
	}}}
}

// several reports whether the engine keeps the images of all platforms of an index:
// Docker does with containerd's image store.
func (a engineAddress) several(ctx context.Context) bool {
	client := a.client()
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/info", nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var info struct{ DriverStatus [][2]string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&info); err != nil {
		return false
	}
	return slices.Contains(info.DriverStatus, [2]string{"driver-type", "io.containerd.snapshotter.v1"})
}

// load loads an image by Docker's API, which Podman has too.
func (a engineAddress) load(ctx context.Context, r io.Reader) error {
	client := a.client()
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
	answer := json.NewDecoder(io.LimitReader(resp.Body, 1<<20))
	for {
		var line struct{ Error, Message string }
		err := answer.Decode(&line)
		switch {
		case line.Error != "":
			return errors.New(line.Error)
		case resp.StatusCode != http.StatusOK && line.Message != "":
			return errors.New(line.Message)
		case err != nil && resp.StatusCode != http.StatusOK:
			return fmt.Errorf("the engine answered %s", resp.Status)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("parsing the engine's answer: %w", err)
		}
	}
}
