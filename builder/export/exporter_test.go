package export

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/layer/layout"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/auth"
	"github.com/cairn-build/cairn/registry/server"
)

func newClient(t *testing.T) *registry.Client {
	t.Helper()
	c, err := registry.New(registry.Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// serve starts an empty registry.
func serve(t *testing.T, o server.Options) *imagetest.Server {
	t.Helper()
	o.NoSync = true
	h, err := server.Handler(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	return imagetest.Serve(t, h)
}

// export exports images with a new exporter.
func export(t *testing.T, env Environment, o Options, images ...*Image) (Exported, error) {
	t.Helper()
	e := newExporter(t, env, o, nil)
	defer e.Wait()
	for _, img := range images {
		e.Enqueue(img.Files.Layers()...)
	}
	return e.Export(t.Context(), images)
}

func newExporter(t *testing.T, env Environment, o Options, fail context.CancelCauseFunc) *Exporter {
	t.Helper()
	env.Now = now
	if env.Registry == nil {
		env.Registry = newClient(t)
	}
	if fail == nil {
		fail = func(error) {}
	}
	e, err := New(t.Context(), fail, env, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// tags returns the digests of the store's images by name.
func tags(t *testing.T, s *store.Store) map[string]layer.Digest {
	t.Helper()
	all, err := s.Images()
	if err != nil {
		t.Fatal(err)
	}
	digests := map[string]layer.Digest{}
	for _, i := range all {
		digests[i.Ref] = i.Digest()
	}
	return digests
}

// TestExportTags checks the names in the store of each compression.
func TestExportTags(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	out, err := export(t, Environment{Store: s}, Options{
		Tags:    []string{app},
		Outputs: []Output{{Type: "image", Names: []string{other}, Canonical: true, Compression: &zstd}},
	}, built(t, s, "amd64", "one"))
	if err != nil {
		t.Fatal(err)
	}
	got := tags(t, s)
	if got[app] != out.Digest() || len(got) != 4 {
		t.Errorf("tags %v, want %s at %s", got, app, out.Digest())
	}
	d := got[other]
	if d == out.Digest() || got["docker.io/library/other@"+string(d)] != d || got["docker.io/library/app@"+string(d)] != d {
		t.Errorf("tags %v, want canonical names of %s", got, d)
	}
	img, err := s.Image(other)
	if err != nil || img.Layers[0].MediaType != layer.MediaTypeZstd {
		t.Errorf("layers %v, %v", img.Layers, err)
	}
	if len(out.Pushed) != 0 {
		t.Errorf("pushed %v", out.Pushed)
	}
}

// TestExportUntagged checks the name of an image without tags, and that an index has one
// for all its images.
func TestExportUntagged(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	out, err := export(t, Environment{Store: s}, Options{}, built(t, s, "amd64", "one"), built(t, s, "arm64", "two"))
	if err != nil {
		t.Fatal(err)
	}
	if got := tags(t, s); !maps.Equal(got, map[string]layer.Digest{"<none>@" + string(out.Index.Digest): out.Index.Digest}) {
		t.Errorf("tags %v of index %s", got, out.Index.Digest)
	}
}

// archived lists the images of an archive or layout: references, digest and media type
// of the layers. It reads the layers, which verifies them.
func archived(t *testing.T, a *layout.Archive, err error) []string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var all []string
	for _, n := range a.Images {
		all = append(all, strings.Join(n.Refs, ",")+" "+string(n.Image.Digest))
		for _, b := range n.Image.Layers {
			r, err := a.Open(b)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				r.Close()
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
	return all
}

// TestExportArchives checks each form of archive: its names, which include the tags, and
// its image, which has the compression of the output.
func TestExportArchives(t *testing.T) {
	t.Parallel()
	s, dir := openStore(t), t.TempDir()
	var stdout, custom bytes.Buffer
	o := Options{Tags: []string{app}, Outputs: []Output{
		{Type: "oci", Dest: filepath.Join(dir, "oci.tar"), Names: []string{other}, Compression: &zstd},
		{Type: "docker", Dest: "-"},
		{Type: "oci", Dest: filepath.Join(dir, "layout"), Unpacked: true},
		{Type: "docker", Writer: "engine", Dest: "ignored"},
	}}
	env := Environment{Store: s, Stdout: &stdout, Writers: map[string]io.Writer{"engine": &custom}}
	out, err := export(t, env, o, built(t, s, "amd64", "one", "two"))
	if err != nil {
		t.Fatal(err)
	}
	wantDir(t, filepath.Join(dir, "layout"))
	a, err := layout.ReadOCI(filepath.Join(dir, "layout"))
	wantList(t, "layout", archived(t, a, err), app+" "+string(out.Digest()))

	a, err = layout.ReadOCI(filepath.Join(dir, "oci.tar"))
	if got := archived(t, a, err); len(got) != 1 || !strings.HasPrefix(got[0], app+","+other+" sha256:") || strings.Contains(got[0], string(out.Digest())) {
		t.Errorf("archive in another compression than %s: %q", out.Digest(), got)
	}

	file := filepath.Join(dir, "docker.tar")
	if err := os.WriteFile(file, stdout.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err = layout.ReadDocker(file)
	wantList(t, "docker archive", archived(t, a, err), app+" "+string(out.Digest()))
	if !bytes.Equal(stdout.Bytes(), custom.Bytes()) {
		t.Error("the archive for a writer differs from that on standard output")
	}
	if _, err := os.Stat("ignored"); err == nil {
		t.Error("the output for a writer has a file")
	}
}

// wantDir checks that a layout is a directory and not an archive.
func wantDir(t *testing.T, path string) {
	t.Helper()
	if fi, err := os.Stat(path); err != nil || !fi.IsDir() {
		t.Errorf("%s is not a directory: %v", filepath.Base(path), err)
	}
}

// TestExportIndexArchives checks that an OCI archive has all platforms.
func TestExportIndexArchives(t *testing.T) {
	t.Parallel()
	s, dir := openStore(t), t.TempDir()
	file, unpacked := filepath.Join(dir, "oci.tar"), filepath.Join(dir, "layout")
	o := Options{Outputs: []Output{{Type: "oci", Dest: file, Names: []string{app}}, {Type: "oci", Dest: unpacked, Unpacked: true, Names: []string{app}}}}
	out, err := export(t, Environment{Store: s}, o, built(t, s, "amd64", "one"), built(t, s, "arm64", "two"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, img := range out.Index.Images {
		want = append(want, app+" "+string(img.Digest))
	}
	wantDir(t, unpacked)
	for _, path := range []string{file, unpacked} {
		a, err := layout.ReadOCI(path)
		wantList(t, filepath.Base(path), archived(t, a, err), want...)
	}
	if got := tags(t, s); len(got) != 0 {
		t.Errorf("tags %v, want none of an image in archives only", got)
	}
}

// TestExportErrors checks that the error of an output names its type.
func TestExportErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		output Output
		want   []string
	}{
		"type":      {Output{Type: "zip"}, []string{"exporting to zip", "unknown type"}},
		"writer":    {Output{Type: "docker", Writer: "engine"}, []string{"exporting to docker", `there is no writer "engine"`}},
		"directory": {Output{Type: "oci", Dest: "/nonexistent/a.tar"}, []string{"exporting to oci", "/nonexistent"}},
		"local":     {Output{Type: "local", Dest: "/dev/null/out"}, []string{"exporting to local", "/dev/null"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			_, err := export(t, Environment{Store: s}, Options{Outputs: []Output{test.output}}, built(t, s, "amd64", "one"))
			wantError(t, err, test.want...)
		})
	}
	s := openStore(t)
	want := layer.Descriptor{Digest: someDigest}
	_, err := openBlob(t.Context(), []*Image{built(t, s, "amd64", "one")}, gzipped, want)
	wantError(t, err, "the image has no layer "+string(someDigest))
}

// TestExportPush checks that each reference is pushed with its compression, and that the
// result lists the pushed references.
func TestExportPush(t *testing.T) {
	t.Parallel()
	s, r, c := openStore(t), serve(t, server.Options{}), newClient(t)
	team := r.Host + "/team/app"
	o := Options{Tags: []string{team + ":v1", team + ":v2"}, Push: true, Outputs: []Output{
		{Type: "registry", Names: []string{team + ":small"}, Compression: &zstd},
		{Type: "image", Push: true, ByDigest: true, Names: []string{r.Host + "/digest"}},
	}}
	out, err := export(t, Environment{Store: s, Registry: c}, o, built(t, s, "amd64", "one", "two"))
	if err != nil {
		t.Fatal(err)
	}
	byDigest := r.Host + "/digest@" + string(out.Digest())
	pushed := slices.Sorted(slices.Values(out.Pushed))
	want := []string{team + ":v1", team + ":v2", team + ":small", byDigest}
	wantList(t, "pushed", pushed, slices.Sorted(slices.Values(want))...)
	for _, ref := range want {
		img, err := c.Resolve(t.Context(), ref, layer.Platform{OS: "linux", Architecture: "amd64"})
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if small := strings.HasSuffix(ref, ":small"); small == (img.Digest == out.Digest()) || img.ConfigDigest != out.Image.ConfigDigest {
			t.Errorf("%s is %s, the image %s", ref, img.Digest, out.Digest())
		}
		for _, b := range img.Layers {
			wantBlob(t, c, ref, b)
		}
	}
	if _, err := c.ResolveDigest(t.Context(), r.Host+"/digest:latest"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("a push by digest set a tag: %v", err)
	}
}

// wantBlob checks that a registry has a blob.
func wantBlob(t *testing.T, c *registry.Client, ref string, b layer.Descriptor) {
	t.Helper()
	blob, err := c.OpenBlob(t.Context(), ref, b)
	if err == nil {
		_, err = io.Copy(io.Discard, blob)
		blob.Close()
	}
	if err != nil {
		t.Errorf("%s: %v", ref, err)
	}
}

// TestExportPushIndex checks that an index and all its images are pushed.
func TestExportPushIndex(t *testing.T) {
	t.Parallel()
	s, r, c := openStore(t), serve(t, server.Options{}), newClient(t)
	ref := r.Host + "/app:v1"
	out, err := export(t, Environment{Store: s, Registry: c}, Options{Tags: []string{ref}, Push: true}, built(t, s, "amd64", "one"), built(t, s, "arm64", "two"))
	if err != nil {
		t.Fatal(err)
	}
	_, index, err := c.ResolveIndex(t.Context(), ref)
	if err != nil || index == nil || index.Digest != out.Digest() || len(index.Images) != 2 {
		t.Fatalf("index %v, %v, want %s", index, err, out.Digest())
	}
	for _, img := range index.Images {
		wantBlob(t, c, ref, img.Layers[0])
	}
}

// TestExportPushRefused checks that a registry that refuses pushes ends the build early,
// and that the export fails too.
func TestExportPushRefused(t *testing.T) {
	t.Parallel()
	s, c := openStore(t), newClient(t)
	r := serve(t, server.Options{Auth: func(string, string, bool) bool { return false }})
	ref := r.Host + "/app:v1"
	failed := make(chan error, 1)
	e := newExporter(t, Environment{Store: s, Registry: c}, Options{Tags: []string{ref}, Push: true}, func(err error) { failed <- err })
	if err := <-failed; !errors.Is(err, registry.ErrUnauthorized) { // waits forever unless the check fails
		t.Errorf("early: %v", err)
	}
	_, err := e.Export(t.Context(), []*Image{built(t, s, "amd64", "one")})
	if !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("export: %v", err)
	}
	wantError(t, err, r.Host)
	if tags(t, s)[ref] == "" {
		t.Error("the image that was not pushed has no name in the store")
	}
}

// TestEnqueue checks that layers are uploaded before the image is complete, and each
// only once.
func TestEnqueue(t *testing.T) {
	t.Parallel()
	s, r, c := openStore(t), serve(t, server.Options{}), newClient(t)
	img := built(t, s, "amd64", "one", "two")
	e := newExporter(t, Environment{Store: s, Registry: c}, Options{Tags: []string{r.Host + "/app:v1"}, Push: true}, nil)
	e.Enqueue(img.Files.Layers()...)
	e.Enqueue(img.Files.Layers()...)
	e.Wait()
	if n := uploads(r); n != 2 {
		t.Errorf("%d uploads before the export, want 2", n)
	}
	if _, err := e.Export(t.Context(), []*Image{img}); err != nil {
		t.Fatal(err)
	}
	if n := uploads(r); n != 1 {
		t.Errorf("%d uploads during the export, want that of the config", n)
	}
}

// uploads returns the number of uploads that were completed since the last call.
func uploads(r *imagetest.Server) (n int) {
	for _, request := range r.Requests() {
		if strings.HasPrefix(request, "PUT ") && strings.HasSuffix(request, "/uploads/") {
			n++
		}
	}
	return n
}

// TestFollowWithoutPush checks that a layer that no target pushes is not kept open.
func TestFollowWithoutPush(t *testing.T) {
	t.Parallel()
	closed := &closer{}
	Group{newExporter(t, Environment{}, Options{Tags: []string{app}}, nil)}.Follow(nil, nil, closed)
	if !closed.closed {
		t.Error("the blob is open")
	}
}

type closer struct {
	strings.Reader
	closed bool
}

func (c *closer) Close() error { c.closed = true; return nil }

// TestShowUpload checks that a blob that the registry has already is not shown.
func TestShowUpload(t *testing.T) {
	t.Parallel()
	b := layer.Descriptor{Digest: someDigest, Size: 100}
	for name, test := range map[string]struct {
		sent []int64
		want bool
	}{"had it": {[]int64{100}, false}, "uploaded": {[]int64{0, 50, 100}, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			shown := display(&out, func(show func(int64)) {
				for _, n := range test.sent {
					show(n)
				}
			}, b)
			if got := strings.Contains(shown, "pushing"); got != test.want {
				t.Errorf("shown: %v, want %v: %q", got, test.want, shown)
			}
		})
	}
}

// display returns the text that a plain display writes during an upload.
func display(out *bytes.Buffer, upload func(show func(int64)), b layer.Descriptor) string {
	p := progress.New(progress.Plain, out)
	upload(ShowUpload(p.Vertex("pushing app"), b))
	p.Close()
	return out.String()
}
