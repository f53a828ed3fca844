package corpus_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/auth"
)

// baseCreated is the creation time of all base images.
const baseCreated = "2001-09-09T01:46:40Z"

// base is a base image of the cases. All have the same files, and extra ones.
type base struct {
	name   string
	config string // JSON of the config field
	author string
	only   string // the only platform, instead of two
	extra  []tar.Header
}

// baseImages are served in place of Docker Hub's. Each exists for this machine's platform
// and for linux/riscv64, whose programs cannot run here.
var baseImages = []base{
	{name: "library/busybox:latest", config: `{"Cmd":["sh"],"Env":["PATH=/usr/bin:/bin"]}`},
	{name: "library/busybox:1", config: `{"Cmd":["sh"],"Env":["PATH=/usr/bin:/bin"]}`},
	{name: "cases/riscv:latest", only: "riscv64", config: `{"Env":["PATH=/usr/bin:/bin"]}`},
	{name: "cases/nopath:latest", config: `{"Env":["A=1"]}`},
	{name: "cases/onbuild:latest", config: `{"Env":["PATH=/usr/bin:/bin"],"OnBuild":["RUN echo on > /onbuild","COPY f /from-onbuild","ENV ON=1"]}`},
	{name: "cases/onbuild-from:latest", config: `{"Env":["PATH=/usr/bin:/bin"],"OnBuild":["COPY --from=parts /part /from-parts"]}`},
	{name: "cases/onbuild-mount:latest", config: `{"Env":["PATH=/usr/bin:/bin"],"OnBuild":["RUN --mount=from=parts,target=/parts cat /parts/part > /from-mount"]}`},
	{name: "cases/odd-names:latest", config: `{"Env":["PATH=/usr/bin:/bin"]}`, extra: []tar.Header{
		{Typeflag: tar.TypeDir, Name: "odd/a/", Mode: 0o711},
		{Typeflag: tar.TypeReg, Name: "odd/a/../b", Mode: 0o640, Uid: 3},
		{Typeflag: tar.TypeReg, Name: "./../odd/c", Mode: 0o644},
		{Typeflag: tar.TypeReg, Name: "../../odd/none/../d", Mode: 0o644},
		{Typeflag: tar.TypeLink, Name: "odd/a/../h", Linkname: "../odd/a/../b", Mode: 0o640, Uid: 3},
		{Typeflag: tar.TypeSymlink, Name: "odd/s", Linkname: "b"},
		{Typeflag: tar.TypeLink, Name: "odd/t", Linkname: "odd/s", Mode: 0o777},
		{Typeflag: tar.TypeSymlink, Name: "odd/l", Linkname: "/etc"},
		{Typeflag: tar.TypeReg, Name: "odd/l/../e", Mode: 0o644},
		{Typeflag: tar.TypeDir, Name: "odd/..", Mode: 0o700, Uid: 9},
		{Typeflag: tar.TypeReg, Name: "odd/.wh.nothing"},
	}},
	{name: "cases/odd-links:latest", config: `{"Env":["PATH=/usr/bin:/bin"]}`, extra: []tar.Header{
		{Typeflag: tar.TypeDir, Name: "odd/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "odd/a", Mode: 0o640, Uid: 3, ModTime: time.Unix(1e9, 0)},
		{Typeflag: tar.TypeLink, Name: "odd/b", Linkname: "odd/a", Mode: 0o4755, Uid: 7, Gid: 8, ModTime: time.Unix(1.1e9, 0)},
		{Typeflag: tar.TypeSymlink, Name: "odd/s", Linkname: "b", ModTime: time.Unix(1e9, 0)},
		{Typeflag: tar.TypeLink, Name: "odd/t", Linkname: "odd/s", Mode: 0o700, Uid: 9, ModTime: time.Unix(1e9, 0)},
	}},
	{name: "cases/private:latest", config: `{"Env":["PATH=/usr/bin:/bin"]}`, extra: []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700, Uid: 5, Gid: 6},
	}},
	{name: "cases/full:latest", author: "someone", config: `{"User":"app","ExposedPorts":{"80/tcp":{}},"Env":["PATH=/usr/bin:/bin","B=base"],
		"Entrypoint":["/bin/echo"],"Cmd":["base"],"Volumes":{"/vol":{}},"WorkingDir":"/home/app","Labels":{"from":"base","other":"base"},
		"StopSignal":"SIGINT","Healthcheck":{"Test":["CMD","true"],"Interval":1000000000},"Shell":["/bin/ash","-c"]}`},
}

// bases are the base images of a registry.
type bases struct {
	registry string
	busybox  string
	depths   map[layer.Digest]int // layers of each base image, by top layer
}

// depth returns the number of layers at the bottom of a stack that belong to a base image.
func (b *bases) depth(stack []layer.Digest) int {
	for n := range slices.Backward(stack) {
		if b.depths[layer.ChainID(stack[:n+1])] > 0 {
			return n + 1
		}
	}
	return 0
}

func newBases(t *testing.T, registry string, busybox string) *bases {
	t.Helper()
	b := &bases{registry: registry, busybox: busybox, depths: map[layer.Digest]int{}}
	for _, image := range baseImages {
		blob, data := pack(t, rootTar(t, busybox, image.extra))
		b.push(t, image, blob, data)
	}
	return b
}

func pack(t *testing.T, tarball []byte) (layer.Descriptor, []byte) {
	t.Helper()
	var out bytes.Buffer
	w, err := compress.NewWriter(&out, compress.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(tarball); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.Blob(), out.Bytes()
}

// push pushes an image for its platforms, with an image index if there are two.
func (b *bases) push(t *testing.T, image base, blob layer.Descriptor, data []byte) {
	t.Helper()
	c, err := registry.New(registry.Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	name, tag, _ := strings.Cut(image.name, ":")
	type descriptor struct {
		MediaType string            `json:"mediaType"`
		Digest    layer.Digest      `json:"digest"`
		Size      int               `json:"size"`
		Platform  map[string]string `json:"platform"`
	}
	b.depths[blob.DiffID] = 1
	if image.only != "" {
		b.pushOne(t, c, image.name, image.image(t, image.only, blob), blob, data)
		return
	}
	var list []descriptor
	for _, arch := range []string{runtime.GOARCH, "riscv64"} {
		img := image.image(t, arch, blob)
		b.pushOne(t, c, name+":"+tag+"-"+arch, img, blob, data)
		list = append(list, descriptor{layer.MediaTypeManifest, img.Digest, len(img.Manifest), map[string]string{"os": "linux", "architecture": arch}})
	}
	const mediaType = "application/vnd.oci.image.index.v1+json"
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": mediaType, "manifests": list})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPut, "http://"+b.registry+"/v2/"+name+"/manifests/"+tag, bytes.NewReader(index))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("pushing %s: %s", image.name, resp.Status)
	}
}

func (b *bases) pushOne(t *testing.T, c *registry.Client, name string, img layer.Image, blob layer.Descriptor, data []byte) {
	t.Helper()
	p, err := c.NewPush(b.registry + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	if err := p.Blob(context.Background(), blob, registry.Source{Open: open}, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	if err := p.Image(context.Background(), img); err != nil {
		t.Fatal(err)
	}
}

func (b base) image(t *testing.T, arch string, blob layer.Descriptor) layer.Image {
	t.Helper()
	config := map[string]any{
		"os": "linux", "architecture": arch, "created": baseCreated, "config": json.RawMessage(b.config),
		"history": []any{map[string]any{"created": baseCreated, "created_by": "base"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []layer.Digest{blob.DiffID}},
	}
	if b.author != "" {
		config["author"] = b.author
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	img, err := layer.NewImage(text, []layer.Descriptor{blob}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// rootTar returns a small root file system around busybox with extra entries.
func rootTar(t *testing.T, busybox string, extra []tar.Header) []byte {
	t.Helper()
	applets, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(kind byte, name string, mode int64, id int, content string) {
		h := tar.Header{Typeflag: kind, Name: name, Mode: mode, Uid: id, Gid: id, ModTime: time.Unix(1_000_000_000, 0)}
		if kind == tar.TypeSymlink {
			h.Linkname, content = content, ""
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin/", "dev/", "etc/", "home/", "lib/", "proc/", "root/", "sys/", "usr/", "usr/bin/", "var/"} {
		add(tar.TypeDir, dir, 0o755, 0, "")
	}
	add(tar.TypeDir, "home/app/", 0o755, 1000, "")
	add(tar.TypeDir, "tmp/", 0o1777, 0, "")
	add(tar.TypeReg, "bin/busybox", 0o755, 0, busybox)
	for _, name := range strings.Fields(string(applets)) {
		if name != "busybox" {
			add(tar.TypeSymlink, "bin/"+name, 0o777, 0, "busybox")
		}
	}
	add(tar.TypeReg, "etc/passwd", 0o644, 0, "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\nodd:x:1001:7::/nowhere:/bin/sh\n")
	add(tar.TypeReg, "etc/group", 0o644, 0, "root:x:0:\napp:x:1000:\nstaff:x:50:app\nodd:x:7:\n")
	add(tar.TypeReg, "etc/mode", 0o640, 1000, "base\n")
	add(tar.TypeSymlink, "var/run", 0o777, 0, "/run")
	add(tar.TypeSymlink, "var/up", 0o777, 0, "../etc")
	for _, h := range extra {
		h.ModTime = time.Unix(1_000_000_000, 0)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
