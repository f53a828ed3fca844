package examples_test

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/cairn-build/cairn/examples/internal/bases"
	"github.com/cairn-build/cairn/examples/internal/peers"
)

var update = flag.Bool("update", false, "build the application shop by buildx bake with BuildKit too, and record its images")

// shop builds an application of five services by its bake file and by its Compose file,
// and compares the images with those of buildx bake and BuildKit.
func (l *lab) shop(t *testing.T) {
	need(t, "skopeo")
	if runtime.GOARCH != "amd64" {
		t.Skip("the images were recorded on amd64, and their steps run on the machine's architecture")
	}
	for _, base := range []string{"golang", "node", "nginx"} {
		l.base(t, base)
	}
	dir := filepath.Join(t.TempDir(), "shop")
	if err := os.CopyFS(dir, os.DirFS("testdata/shop")); err != nil {
		t.Fatal(err)
	}
	base := l.copied(t, l.registry+"/library/nginx:replacement")["single"]
	golden := filepath.Join("testdata", "shop.txt")
	for _, file := range []string{"docker-bake.hcl", "compose.yaml"} {
		args := []string{"bake", "-f", file, "--push"}
		for i, arg := range bases.ProxyArgs() {
			if i%2 == 1 {
				args = append(args, "--set", "*.args."+arg)
			}
		}
		repo := l.registry + "/shop-" + strings.TrimSuffix(file, filepath.Ext(file))
		if *update {
			l.buildx(t, dir, repo+"-buildx", args)
		}
		cmd := command(l.cairn, slices.Concat([]string{"--root", l.root()}, args, []string{"--progress", "plain", "--registry-mirror", l.registry})...)
		cmd.Dir, cmd.Env = dir, shopEnvironment(repo)
		must(t, cmd)
		got := l.shopImages(t, repo, base)
		if *update {
			want := l.shopImages(t, repo+"-buildx", base)
			for _, all := range []bool{true, false} {
				if diff := cmp.Diff(want.text(all), got.text(all)); diff != "" {
					t.Errorf("%s: (-buildx +cairn)\n%s", file, diff)
				}
			}
			if err := os.WriteFile(golden, []byte(want.text(false)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got.text(false)); diff != "" {
			t.Errorf("%s: (-buildx +cairn)\n%s", file, diff)
		}
	}
	for _, e := range []example{
		{name: "shop-api", prints: "api 1.2.3\n"},
		{name: "shop-job", prints: "api 1.2.3\n"},
		{name: "shop-web", mounts: shopPort, answers: map[string]string{
			"/home.html": "<h1>Shop</h1><p>example license\n", "/about.html": "<h1>About</h1><p>example license\n",
		}},
	} {
		i := &image{lab: l, example: e, ref: l.registry + "/shop-compose/" + strings.TrimPrefix(e.name, "shop-") + ":1"}
		t.Run(e.name+" cairn run", i.cairnRun)
		if e.name != "shop-web" || *update { // debian-nginx is unpacked in each run, and takes long
			t.Run(e.name+" umoci and runc", i.umociAndRunc)
		}
	}
}

// shopPort replaces the site of the service web by one that listens on port.
func shopPort(t *testing.T, port string) map[string]string {
	t.Helper()
	site, err := os.ReadFile("testdata/shop/web/site.conf")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "site.conf")
	if err := os.WriteFile(path, []byte(strings.Replace(string(site), "8080", port, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	return map[string]string{path: "/etc/nginx/conf.d/default.conf"}
}

func shopEnvironment(repo string) []string {
	return append(os.Environ(), "REPO="+repo, "SHOP_TOKEN=s3cret", "SOURCE_DATE_EPOCH=1700000000")
}

// buildx builds and pushes the application by buildx with a BuildKit daemon.
func (l *lab) buildx(t *testing.T, dir, repo string, args []string) {
	t.Helper()
	program, err := peers.Buildx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := peers.StartBuildKit(t.Context(), shortDir(t), l.registry)
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Stop()
	env := append(shopEnvironment(repo), "BUILDX_CONFIG="+t.TempDir(), "BUILDX_BUILDER=peer")
	for _, args := range [][]string{
		{"create", "--name", "peer", "--driver", "remote", daemon.Address()}, slices.Concat(args, []string{"--provenance=false", "--allow=fs=*"}),
	} {
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir, cmd.Env = dir, env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
	}
}

// contents describes an image: its config and history, and its files by path.
type contents struct {
	config  string
	history []string
	files   map[string]file
}

// file describes a file without its time.
type file struct{ header, content string }

// application describes the images of an application by tag and platform, and the base
// image of the service web.
type application struct {
	images map[string]contents
	base   contents
}

// text returns the description of the images. Unless all, it leaves out the content of
// programs and the history and files of the base image, which depend on the machine.
func (a application) text(all bool) string {
	var out strings.Builder
	for _, title := range slices.Sorted(maps.Keys(a.images)) {
		c := a.images[title]
		fmt.Fprintf(&out, "%s\n%s", title, c.config)
		omit := !all && strings.HasPrefix(title, "web:")
		for i, step := range c.history {
			if !omit || i >= len(a.base.history) {
				fmt.Fprintf(&out, "  step %s\n", step)
			}
		}
		for _, path := range slices.Sorted(maps.Keys(c.files)) {
			f := c.files[path]
			if omit && f == a.base.files[path] {
				continue
			}
			if !all && (path == "/usr/bin/api" || path == "/usr/bin/job") {
				f.content = " program"
			}
			fmt.Fprintf(&out, "  %s %s%s\n", path, f.header, f.content)
		}
	}
	return out.String()
}

// shopImages copies the images of the application with skopeo and describes them.
func (l *lab) shopImages(t *testing.T, repo string, base contents) application {
	t.Helper()
	a := application{images: map[string]contents{}, base: base}
	for _, tag := range []string{"base:1", "api:1", "site:1", "web:1", "job:1"} {
		for platform, c := range l.copied(t, repo+"/"+tag) {
			a.images[tag+" "+platform] = c
		}
	}
	digest := func(tag string) string {
		return must(t, command("skopeo", "inspect", "--format", "{{.Digest}}", "--tls-verify=false", "docker://"+repo+"/"+tag))
	}
	if one, latest := digest("web:1"), digest("web:latest"); one != latest {
		t.Errorf("web:1 is %sweb:latest is %s", one, latest)
	}
	return a
}

// copied copies an image with skopeo and describes it for each of its platforms.
func (l *lab) copied(t *testing.T, ref string) map[string]contents {
	t.Helper()
	dir := t.TempDir()
	must(t, command("skopeo", "copy", "--quiet", "--all", "--preserve-digests", "--src-tls-verify=false", "docker://"+ref, "oci:"+dir+":1"))
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]contents{}
	describeIndex(t, all, index, "single")
	return all
}

// describeIndex adds the descriptions of the images of an index and of those in it.
func describeIndex(t *testing.T, all map[string]contents, index v1.ImageIndex, platform string) {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range manifest.Manifests {
		name := platform
		if m.Platform != nil {
			name = m.Platform.String()
		}
		if m.MediaType.IsIndex() {
			inner, err := index.ImageIndex(m.Digest)
			if err != nil {
				t.Fatal(err)
			}
			describeIndex(t, all, inner, name)
			continue
		}
		img, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = describeImage(t, img)
	}
}

// describeImage describes an image by its config without the digests of its layers, and
// by its files.
func describeImage(t *testing.T, img v1.Image) contents {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	var docker struct {
		Version string `json:"docker_version"`
	}
	if err := json.Unmarshal(raw, &docker); err != nil {
		t.Fatal(err)
	}
	fields, err := json.Marshal(config.Config)
	if err != nil {
		t.Fatal(err)
	}
	c := contents{files: map[string]file{}}
	c.config = fmt.Sprintf("  %s created %d author %q docker %q\n  %s\n", config.Platform(), config.Created.Unix(), config.Author, docker.Version, fields)
	for _, h := range config.History {
		c.history = append(c.history, fmt.Sprintf("%q %q empty %t at %d", h.CreatedBy, h.Comment, h.EmptyLayer, h.Created.Unix()))
	}
	tree := mutate.Extract(img)
	defer tree.Close()
	for in := tar.NewReader(tree); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return c
		}
		if err != nil {
			t.Fatal(err)
		}
		f := file{header: fmt.Sprintf("%c %o %d:%d", h.Typeflag, h.Mode&0o7777, h.Uid, h.Gid)}
		if h.Linkname != "" {
			f.header += " -> " + h.Linkname
		}
		for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			if strings.HasPrefix(key, "SCHILY.xattr.") {
				f.header += fmt.Sprintf(" %s=%q", key, h.PAXRecords[key])
			}
		}
		if h.Typeflag == tar.TypeReg {
			sum := sha256.New()
			if _, err := io.Copy(sum, in); err != nil {
				t.Fatal(err)
			}
			f.content = fmt.Sprintf(" %d %x", h.Size, sum.Sum(nil)[:8])
		}
		c.files[path.Clean("/"+h.Name)] = f
	}
}
