package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/examples/internal/bases"
	"github.com/cairn-build/cairn/examples/internal/peers"
)

// lab is a directory with a registry, a proxy in front of it, and the peers.
type lab struct {
	dir      string
	cairn    string
	registry string // the proxy's address
	proxy    proxy
	peers    []peer // Cairn first
	have     map[string]bool
	stops    []func()
}

func newLab(ctx context.Context, o options) (l *lab, err error) {
	l = &lab{cairn: o.cairn, have: map[string]bool{}}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.dir, err = os.MkdirTemp("", "cairn-bench-"); err != nil {
		return l, err
	}
	if err := l.startRegistry(); err != nil {
		return l, err
	}
	if err := l.need(ctx, "busybox"); err != nil {
		return l, err
	}
	l.peers = append(l.peers, cairn{l})
	if o.peers.want("buildkit") {
		b, err := l.startBuildKit(ctx)
		if err != nil {
			return l, err
		}
		l.peers = append(l.peers, b)
	}
	if o.peers.want("buildah") {
		b, err := l.startBuildah(ctx)
		if err != nil {
			fmt.Fprintf(os.Stderr, "going on without Buildah, which does not run here: %v\n", err)
			return l, nil
		}
		l.peers = append(l.peers, b)
	}
	return l, nil
}

// need builds a base image once, with a store of its own.
func (l *lab) need(ctx context.Context, base string) error {
	if l.have[base] {
		return nil
	}
	l.have[base] = true
	m := bases.Maker{Cairn: l.cairn, Root: filepath.Join(l.dir, "bases"), Registry: l.registry, Log: os.Stderr}
	if base != "base500" {
		return m.Push(ctx, base)
	}
	dir := filepath.Join(l.dir, base)
	defer os.RemoveAll(dir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := base500(ctx, dir); err != nil {
		return err
	}
	_, err := output(ctx, dir, l.cairn, "--root", m.Root, "build", "--registry-mirror", l.registry, "--push", "-t", l.registry+"/library/base500", ".")
	return err
}

func (l *lab) root() string { return filepath.Join(l.dir, "store") }

func (l *lab) close() {
	for _, stop := range slices.Backward(l.stops) {
		stop()
	}
	unmount(l.dir)
	os.RemoveAll(l.dir)
}

// unmount detaches the mounts that interrupted builds left below dir.
func unmount(dir string) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	lines := strings.Split(string(text), "\n")
	for _, line := range slices.Backward(lines) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			if err := unix.Unmount(f[4], unix.MNT_DETACH); err != nil {
				fmt.Fprintf(os.Stderr, "unmounting %s: %v\n", f[4], err)
			}
		}
	}
}

func (l *lab) startRegistry() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := listener.Addr().String()
	listener.Close()
	config := filepath.Join(l.dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n",
		filepath.Join(l.dir, "registry"), addr)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	p, err := peers.Start(exec.Command("docker-registry", "serve", config), l.dir, func() bool {
		resp, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	l.stops = append(l.stops, p.Stop)
	proxied, stop, err := l.proxy.serve(addr)
	l.registry, l.stops = proxied, append(l.stops, stop)
	return err
}

// startTime returns the median time of the smallest command.
func (l *lab) startTime(ctx context.Context) (time.Duration, error) {
	var all []time.Duration
	for range 21 {
		begin := time.Now()
		if _, err := output(ctx, l.dir, l.cairn, "version"); err != nil {
			return 0, err
		}
		all = append(all, time.Since(begin))
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, &stderr)
	}
	return stdout.String(), nil
}

// imageSize returns the sum of an image's layer sizes in the registry.
func (l *lab) imageSize(ctx context.Context, ref string) (size int64, err error) {
	layers, err := l.layers(ctx, ref)
	for _, d := range layers {
		size += d.Size
	}
	return size, err
}

type descriptor struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// layers returns the layers of an image, resolving an image index if there is one.
func (l *lab) layers(ctx context.Context, ref string) ([]descriptor, error) {
	repo, id, _ := strings.Cut(strings.TrimPrefix(ref, l.registry+"/"), ":")
	for {
		b, err := fetch(ctx, http.DefaultClient, l.registry, repo+"/manifests/"+id)
		if err != nil {
			return nil, err
		}
		var m struct{ Layers, Manifests []descriptor }
		if err := json.Unmarshal(b, &m); err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		if len(m.Manifests) == 0 {
			return m.Layers, nil
		}
		id = m.Manifests[0].Digest
	}
}

// fetch downloads a small document from the registry.
func fetch(ctx context.Context, client *http.Client, registry, path string) ([]byte, error) {
	resp, err := get(ctx, client, registry, path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func get(ctx context.Context, client *http.Client, registry, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+registry+"/v2/"+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "+
		"application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json")
	resp, err := client.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		err = fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return resp, err
}

func firstLine(path, prefix string) string {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return strings.TrimLeft(strings.TrimSpace(rest), ": \t")
		}
	}
	return "?"
}
