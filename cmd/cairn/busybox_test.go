package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/server"
)

// newHub serves a registry with library/busybox, made of the machine's static busybox,
// and returns its address.
func newHub(t *testing.T) string {
	const path = "/bin/busybox"
	binary, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("no busybox for a base image: %v (package busybox-static)", err)
	}
	h, err := server.Handler(t.TempDir(), server.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	addr := strings.TrimPrefix(s.URL, "http://")
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	pushLayer(t, addr+"/library/busybox:latest", busyboxTar(t, binary, strings.Fields(string(applets))))
	return addr
}

// busyboxTar returns a small root filesystem.
func busyboxTar(t *testing.T, binary []byte, applets []string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content string) {
		h.ModTime, h.Size = time.Unix(1_000_000_000, 0), int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin/", "etc/", "home/", "home/app/", "root/", "usr/", "usr/bin/", "var/"} {
		h := tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}
		if dir == "home/app/" {
			h.Uid, h.Gid = 1000, 1000
		}
		add(h, "")
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, "")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, string(binary))
	for _, name := range applets {
		if name != "busybox" {
			add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox", Mode: 0o777}, "")
		}
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, "root:x:0:\napp:x:1000:\nstaff:x:50:app\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pushLayer pushes an image of one layer.
func pushLayer(t *testing.T, ref string, tarball []byte) {
	var blob bytes.Buffer
	w, err := compress.NewWriter(&blob, compress.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(tarball); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": runtime.GOARCH, "created": "2001-09-09T01:46:40Z",
		"config":  map[string]any{"Cmd": []string{"sh"}, "Env": []string{"PATH=/usr/bin:/bin"}},
		"history": []any{map[string]any{"created": "2001-09-09T01:46:40Z", "created_by": "busybox"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []layer.Digest{w.Blob().DiffID}},
	})
	if err != nil {
		t.Fatal(err)
	}
	img, err := layer.NewImage(config, []layer.Descriptor{w.Blob()}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	c, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := c.NewPush(ref)
	if err != nil {
		t.Fatal(err)
	}
	src := registry.Source{Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob.Bytes())), nil }}
	if err := p.Blob(context.Background(), w.Blob(), src, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	if err := p.Image(context.Background(), img); err != nil {
		t.Fatal(err)
	}
}
