package layout

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
)

const ref = "docker.io/library/app:1"

// writers has the functions that write an image; each returns the path that it
// wrote.
func writers(t testing.TB) map[string]func(refs []string, img layer.Image, open Open) (string, error) {
	toFile := func(write func(io.Writer, []string, layer.Image, Open) error) func([]string, layer.Image, Open) (string, error) {
		return func(refs []string, img layer.Image, open Open) (string, error) {
			path := filepath.Join(t.TempDir(), "image.tar")
			f, err := os.Create(path)
			if err != nil {
				return "", err
			}
			return path, errors.Join(write(f, refs, img, open), f.Close())
		}
	}
	return map[string]func([]string, layer.Image, Open) (string, error){
		"oci": toFile(WriteOCI), "docker": toFile(WriteDocker),
		"dir": func(refs []string, img layer.Image, open Open) (string, error) {
			dir := filepath.Join(t.TempDir(), "layout")
			return dir, WriteOCIDir(dir, refs, img, open)
		},
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, img := range map[string]imagetest.Image{
		"OCI":         imagetest.New(t, "arm64", false, "one", "two", "three"),
		"docker":      imagetest.New(t, "amd64", true, "one"),
		"no layers":   imagetest.New(t, "amd64", false),
		"same layers": sameTwice(t),
	} {
		for _, refs := range [][]string{nil, {ref}, {ref, "localhost:5000/a/b:2"}} {
			for kind, write := range writers(t) {
				path, err := write(refs, img.Image, img.Open)
				if err != nil {
					t.Fatalf("%s as %s: %v", name, kind, err)
				}
				wantImage(t, path, ReadOCI, refs, img)
				if kind == "docker" {
					wantImage(t, path, ReadDocker, refs, img)
				}
			}
		}
	}
}

func sameTwice(t testing.TB) imagetest.Image {
	one := imagetest.New(t, "amd64", false, "one")
	l := one.Layers[0]
	config := strings.Replace(string(one.Config), `["`, `["`+string(l.DiffID)+`","`, 1)
	if !strings.Contains(config, string(l.DiffID)+`","`+string(l.DiffID)) {
		// "Cmd" came first: put it where it belongs
		config = strings.Replace(string(one.Config), `"diff_ids":["`, `"diff_ids":["`+string(l.DiffID)+`","`, 1)
	}
	img, err := layer.NewImage([]byte(config), []layer.Descriptor{l, l}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return imagetest.Image{Image: img, Blobs: one.Blobs}
}

func wantImage(t testing.TB, path string, read func(string) (*Archive, error), refs []string, img imagetest.Image) {
	t.Helper()
	a, err := read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if len(a.Images) != 1 || !sameImage(a.Images[0].Image, img.Image) || strings.Join(a.Images[0].Refs, " ") != strings.Join(refs, " ") {
		t.Fatalf("%s: got %d images, the first %q %s, want %q %s", path, len(a.Images), a.Images[0].Refs, a.Images[0].Image.Manifest, refs, img.Manifest)
	}
	if p := a.Images[0].Platform; p.OS != "linux" || p.Architecture == "" {
		t.Errorf("platform %v", p)
	}
	for _, l := range img.Layers {
		r, err := a.Open(l)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(b, img.Blobs[l.Digest]) {
			t.Errorf("layer %s came back different, %v", l.Digest, err)
		}
	}
}

func sameImage(a, b layer.Image) bool {
	sameLayers := len(a.Layers) == 0 && len(b.Layers) == 0 || reflect.DeepEqual(a.Layers, b.Layers)
	a.Layers, b.Layers = nil, nil
	return sameLayers && reflect.DeepEqual(a, b)
}

func diffIDs(img layer.Image) (ids []layer.Digest) {
	for _, l := range img.Layers {
		ids = append(ids, l.DiffID)
	}
	return ids
}

func TestDeterministic(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "one", "two")
	for name, write := range map[string]func(io.Writer, []string, layer.Image, Open) error{"oci": WriteOCI, "docker": WriteDocker} {
		var a, b bytes.Buffer
		if err := errors.Join(write(&a, []string{ref, "x/y:2"}, img.Image, img.Open), write(&b, []string{ref, "x/y:2"}, img.Image, img.Open)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("%s: two archives of one image differ", name)
		}
	}
}

// Adding to a directory keeps its images, except for the names that are set again.
func TestDirectoryMerges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two, three := imagetest.New(t, "amd64", false, "one"), imagetest.New(t, "amd64", false, "two"), imagetest.New(t, "amd64", false, "three")
	for _, step := range []struct {
		refs []string
		img  imagetest.Image
	}{{[]string{ref}, one}, {[]string{"docker.io/library/other:2"}, two}, {[]string{ref}, three}, {nil, one}, {nil, one}} {
		if err := WriteOCIDir(dir, step.refs, step.img.Image, step.img.Open); err != nil {
			t.Fatal(err)
		}
	}
	a, err := ReadOCI(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	got := map[layer.Digest]string{}
	for _, n := range a.Images {
		got[n.Image.Digest] = strings.Join(n.Refs, " ")
	}
	want := map[layer.Digest]string{one.Digest: "", two.Digest: "docker.io/library/other:2", three.Digest: ref}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	raw, err := readIndex(dir)
	if err != nil || len(raw) != 3 {
		t.Errorf("%d entries, %v, want 3", len(raw), err)
	}
}

// A blob with the wrong bytes is an error, and leaves no file.
func TestWriteBadBlob(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "one")
	for name, content := range map[string][]byte{
		"short": img.Blobs[img.Layers[0].Digest][:5], "long": append(bytes.Clone(img.Blobs[img.Layers[0].Digest]), 0), "other": make([]byte, img.Layers[0].Size),
	} {
		for kind, write := range writers(t) {
			path, err := write(nil, img.Image, func(layer.Descriptor) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
			if err == nil || !strings.Contains(err.Error(), string(img.Layers[0].Digest)) {
				t.Errorf("%s, %s: error %v, want one that names the blob", kind, name, err)
			}
			if _, err := os.Stat(filepath.Join(path, blobName(img.Layers[0].Digest))); kind == "dir" && err == nil {
				t.Errorf("%s: the bad blob was left", name)
			}
		}
	}
}

// archive makes a tar of names and contents; contents that begin with "->" are
// links.
func archive(t testing.TB, entries ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(entries); i += 2 {
		h := &tar.Header{Name: entries[i], Size: int64(len(entries[i+1])), Mode: 0o644}
		if to, ok := strings.CutPrefix(entries[i+1], "->"); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, to, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, entries[i+1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "archive.tar")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Archives of docker before version 25 have no layout, plain and compressed layers,
// and links between equal ones.
func TestReadOldDocker(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "one", "two")
	plain := gunzip(t, img.Blobs[img.Layers[0].Digest])
	packed := string(img.Blobs[img.Layers[1].Digest])
	path := archive(t,
		"aaa/layer.tar", plain, "bbb/layer.tar", "->../ccc/layer.tar", "ccc/layer.tar", packed,
		"config.json", string(img.Config),
		"manifest.json", `[{"Config":"config.json","RepoTags":["app:1"],"Layers":["aaa/layer.tar","bbb/layer.tar"]}]`)
	a, err := ReadDocker(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	got := a.Images[0]
	if got.Refs[0] != ref || got.Image.ConfigDigest != img.ConfigDigest {
		t.Errorf("got %+v", got)
	}
	if l := got.Image.Layers[0]; l.MediaType != layer.MediaTypeTar || l.Digest != img.Layers[0].DiffID {
		t.Errorf("plain layer is %+v", l)
	}
	if l := got.Image.Layers[1]; !reflect.DeepEqual(l, img.Layers[1]) {
		t.Errorf("packed layer is %+v, want %+v", l, img.Layers[1])
	}
	for i, want := range []string{plain, packed} {
		r, err := a.Open(got.Image.Layers[i])
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || string(b) != want {
			t.Errorf("layer %d came back different, %v", i, err)
		}
		r.Close()
	}
}

func gunzip(t testing.TB, b []byte) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestReadBad(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "one")
	dir := t.TempDir()
	if err := WriteOCIDir(dir, nil, img.Image, img.Open); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, blobName(img.ConfigDigest)), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(`{"os":"secret"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	linked := t.TempDir()
	if err := os.Symlink(secret, filepath.Join(linked, "index.json")); err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join(t.TempDir(), "a.tar.gz")
	if err := os.WriteFile(packed, img.Blobs[img.Layers[0].Digest], 0o600); err != nil {
		t.Fatal(err)
	}
	digest := string(img.Digest)
	for _, test := range []struct {
		name, path string
		read       func(string) (*Archive, error)
		want       string
	}{
		{"missing", "/no/such/file", ReadOCI, "no such file"},
		{"empty dir", t.TempDir(), ReadOCI, "it has no index.json; is it an OCI layout?"},
		{"empty docker", archive(t, "x", "y"), ReadDocker, "it has no manifest.json; is it a docker archive?"},
		{"no tar", secret, ReadOCI, "tar: "},
		{"compressed", packed, ReadDocker, "decompress it first"},
		{"link out of the layout", linked, ReadOCI, "escapes"},
		{"changed blob", dir, ReadOCI, "its bytes have digest"},
		{"traversal in a digest", archive(t, "index.json", `{"manifests":[{"mediaType":"`+layer.MediaTypeManifest+`","digest":"sha256:../../x"}]}`), ReadOCI, "digest"},
		{"missing blob", archive(t, "index.json", `{"manifests":[{"mediaType":"`+layer.MediaTypeManifest+`","digest":"`+digest+`"}]}`), ReadOCI, "file does not exist"},
		{"large index", archive(t, "index.json", strings.Repeat(" ", maxDocument+1)), ReadOCI, "at most 4194304 are read"},
		{"path out of a docker archive", archive(t, "manifest.json", `[{"Config":"../../../../../../../etc/passwd","Layers":[]}]`), ReadDocker, "file does not exist"},
		{"links in a circle", archive(t, "manifest.json", `[{"Config":"a","Layers":[]}]`, "a", "->b", "b", "->a"), ReadDocker, "file does not exist"},
		{"layers and config disagree", archive(t, "manifest.json", `[{"Config":"c","Layers":[]}]`, "c", string(img.Config)), ReadDocker, "0 layers, but 1"},
	} {
		a, err := test.read(test.path)
		if err == nil {
			a.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.path) {
			t.Errorf("%s: error %v, want %q in it", test.name, err, test.want)
		}
	}
}

func FuzzReadDocker(f *testing.F) {
	img := imagetest.New(f, "amd64", false, "one")
	var b bytes.Buffer
	if err := WriteDocker(&b, []string{ref}, img.Image, img.Open); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "a.tar")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, read := range []func(string) (*Archive, error){ReadDocker, ReadOCI} {
			a, err := read(path)
			if err != nil {
				continue
			}
			for _, n := range a.Images {
				for _, l := range n.Image.Layers {
					r, err := a.Open(l)
					if err != nil {
						continue
					}
					if b, err := io.ReadAll(r); err == nil && layer.FromBytes(b) != l.Digest {
						t.Errorf("a layer with digest %s was read as %s", layer.FromBytes(b), l.Digest)
					}
					r.Close()
				}
			}
			a.Close()
		}
	})
}

// skopeo and umoci can read the output, and the output of skopeo can be read.
func TestForeignReaders(t *testing.T) {
	t.Parallel()
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("skopeo is not installed")
	}
	run := func(program string, args ...string) string {
		t.Helper()
		out, err := exec.Command(program, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", program, args, err, out)
		}
		return string(out)
	}
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	img := imagetest.New(t, "amd64", false, "one", "two")
	for kind, write := range writers(t) {
		path, err := write([]string{ref}, img.Image, img.Open)
		if err != nil {
			t.Fatal(err)
		}
		sources := map[string][]string{
			"oci": {"oci-archive:" + path, "oci-archive:" + path + ":1"}, "dir": {"oci:" + path, "oci:" + path + ":1"},
			"docker": {"docker-archive:" + path, "docker-archive:" + path + ":app:1", "oci-archive:" + path},
		}[kind]
		for i, src := range sources {
			var told struct{ Os, Architecture string }
			if out := run(skopeo, "inspect", src); json.Unmarshal([]byte(out), &told) != nil || told.Os != "linux" || told.Architecture != "amd64" {
				t.Errorf("skopeo inspect %s: %s", src, out)
			}
			for format, read := range map[string]func(string) (*Archive, error){"oci-archive": ReadOCI, "docker-archive": ReadDocker} {
				out := filepath.Join(dir, fmt.Sprintf("%s-%d-%s.tar", kind, i, format))
				run(skopeo, "--policy", policy, "copy", "-q", src, format+":"+out+":docker.io/library/app:1")
				a, err := read(out)
				if err != nil {
					t.Fatal(err)
				}
				// skopeo rewrites the config when it changes the format
				if n := a.Images[0]; !slices.Equal(diffIDs(n.Image), diffIDs(img.Image)) || len(n.Refs) != 1 || n.Refs[0] != ref {
					t.Errorf("after skopeo copy %s to %s: %q with config %s", src, format, n.Refs, n.Image.Config)
				}
				a.Close()
			}
		}
	}
	umoci, err := exec.LookPath("umoci")
	if err != nil || os.Getuid() != 0 {
		t.Skip("umoci is not installed, or this is not root")
	}
	path, err := writers(t)["dir"]([]string{ref}, img.Image, img.Open)
	if err != nil {
		t.Fatal(err)
	}
	run(umoci, "unpack", "--image", path+":1", filepath.Join(dir, "bundle"))
	if b, err := os.ReadFile(filepath.Join(dir, "bundle/rootfs/f1")); err != nil || string(b) != "two" {
		t.Errorf("umoci unpacked %q, %v", b, err)
	}
}

func BenchmarkWriteOCI(b *testing.B) {
	img := imagetest.New(b, "amd64", false, strings.Repeat("x", 1<<20))
	big := layer.Descriptor{MediaType: layer.MediaTypeGzip, Digest: layer.FromBytes(make([]byte, 64<<20)), Size: 64 << 20, DiffID: img.Layers[0].DiffID}
	image, err := layer.NewImage(img.Config, []layer.Descriptor{big}, nil, false)
	if err != nil {
		b.Fatal(err)
	}
	zeros := make([]byte, 64<<20)
	b.SetBytes(big.Size)
	b.ReportAllocs()
	for b.Loop() {
		err := WriteOCI(io.Discard, []string{ref}, image, func(layer.Descriptor) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(zeros)), nil })
		if err != nil {
			b.Fatal(err)
		}
	}
}
