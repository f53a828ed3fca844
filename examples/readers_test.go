package examples_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// unchanged checks that a second build of the same context gives the same image.
func (i *image) unchanged(t *testing.T) {
	if m := i.cairnBuild(t, i.root(), "-t", i.ref, "--push"); m.Digest != i.digest {
		t.Errorf("the second build gave %s, the first %s", m.Digest, i.digest)
	}
}

// reproducible checks that a build in an empty store gives the same image.
func (i *image) reproducible(t *testing.T) {
	if m := i.cairnBuild(t, t.TempDir()); m.Digest != i.digest {
		t.Errorf("a build in an empty store gave %s, the first %s", m.Digest, i.digest)
	}
}

func (i *image) skopeoInspect(t *testing.T) {
	need(t, "skopeo")
	var got struct{ Digest string }
	decode(t, must(t, command("skopeo", "inspect", "--tls-verify=false", "docker://"+i.ref)), &got)
	if got.Digest != i.digest {
		t.Errorf("skopeo finds digest %s, cairn build said %s", got.Digest, i.digest)
	}
	config := must(t, command("skopeo", "inspect", "--tls-verify=false", "--raw", "--config", "docker://"+i.ref))
	if sum := sha256.Sum256([]byte(config)); "sha256:"+hex.EncodeToString(sum[:]) != i.config {
		t.Errorf("the config that skopeo reads is sha256:%x, cairn build said %s", sum, i.config)
	}
}

// validate does the same as "crane validate": it reads all bytes and verifies all
// digests.
func (i *image) validate(t *testing.T) {
	ref, err := name.ParseReference(i.ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
}

func (i *image) podmanPull(t *testing.T) {
	podman, _ := newPodman(t)
	podman("pull", "--quiet", "--tls-verify=false", i.ref)
	if got := strings.TrimSpace(podman("image", "inspect", "--format", "{{.Id}}", i.ref)); "sha256:"+got != i.config {
		t.Errorf("podman has image %s, cairn build said %s", got, i.config)
	}
}

func (i *image) podmanLoad(t *testing.T) {
	for _, archive := range []string{i.archive, i.oci} {
		podman, _ := newPodman(t)
		podman("load", "--quiet", "--input", archive)
		if got := strings.TrimSpace(podman("images", "--quiet", "--no-trunc")); got != i.config {
			t.Errorf("podman has image %s of %s, cairn build said %s", got, archive, i.config)
		}
	}
}

// newPodman returns a function that runs Podman with its own store, and the flags that
// select that store.
func newPodman(t *testing.T) (func(...string) string, []string) {
	need(t, "podman")
	dir, err := os.MkdirTemp("", "podman") // podman needs a short path
	if err != nil {
		t.Fatal(err)
	}
	driver := "vfs"
	if os.Getuid() == 0 {
		driver = "overlay" // does not copy the tree for each layer
	}
	own := []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", driver}
	podman := func(args ...string) string {
		return must(t, command("podman", append(slices.Clone(own), args...)...))
	}
	t.Cleanup(func() {
		podman("rmi", "--all", "--force") // its layers may be read-only for other users
		os.RemoveAll(dir)
	})
	return podman, own
}

// ctrImport imports both archives into containerd and unpacks them.
func (i *image) ctrImport(t *testing.T) {
	need(t, "containerd")
	need(t, "ctr")
	if os.Getuid() != 0 {
		t.Skip("containerd needs root")
	}
	dir, err := os.MkdirTemp("", "ctr") // a socket needs a short path
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket, config := filepath.Join(dir, "s"), filepath.Join(dir, "config.toml")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket, socket+".ttrpc")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, command("containerd", "--config", config))
	p.await(t, command("ctr", "--address", socket, "version"))
	for n, archive := range []string{i.archive, i.oci} {
		space := fmt.Sprint("archive", n)
		must(t, command("ctr", "--address", socket, "--namespace", space, "images", "import", "--snapshotter", "overlayfs", archive))
		if images := must(t, command("ctr", "--address", socket, "--namespace", space, "images", "list")); !strings.Contains(images, i.digest) {
			t.Errorf("containerd has of %s\n%s\ncairn build said %s", archive, images, i.digest)
		}
	}
}

func (i *image) dockerArchive(t *testing.T) { i.copies(t, "docker-archive:"+i.archive) }
func (i *image) ociArchive(t *testing.T)    { i.copies(t, "oci-archive:"+i.oci) }

// copies checks that skopeo can copy an archive and that its layers equal those of the
// image in the registry.
func (i *image) copies(t *testing.T, from string) {
	t.Helper()
	need(t, "skopeo")
	to := "oci:" + filepath.Join(t.TempDir(), "layout") + ":1"
	must(t, command("skopeo", "copy", "--quiet", from, to))
	want := diffIDs(t, "--tls-verify=false", "docker://"+i.ref)
	if got := diffIDs(t, to); !slices.Equal(got, want) {
		t.Errorf("%s has layers %q, the registry %q", from, got, want)
	}
}

func diffIDs(t *testing.T, args ...string) []string {
	t.Helper()
	var config struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	decode(t, must(t, command("skopeo", append([]string{"inspect", "--config"}, args...)...)), &config)
	return config.RootFS.DiffIDs
}

// umociAndRunc copies the image with skopeo, unpacks it with umoci and runs it
// with runc.
func (i *image) umociAndRunc(t *testing.T) {
	need(t, "skopeo")
	need(t, "umoci")
	dir := t.TempDir()
	layout, bundle := filepath.Join(dir, "layout"), filepath.Join(dir, "bundle")
	must(t, command("skopeo", "copy", "--quiet", "--src-tls-verify=false", "docker://"+i.ref, "oci:"+layout+":1"))
	args := []string{"unpack", "--image", layout + ":1", bundle}
	if os.Getuid() != 0 {
		args = append(args[:1], append([]string{"--rootless"}, args[1:]...)...)
	}
	must(t, command("umoci", args...))
	if os.Getuid() != 0 {
		t.Skip("unpacked, but runc needs root to run it")
	}
	need(t, "runc")
	i.runs(t, func(t *testing.T, env []string, mounts map[string]string) *process {
		trim(t, filepath.Join(bundle, "config.json"), env, mounts)
		id := fmt.Sprintf("cairn-%s-%d", i.name, os.Getpid())
		return start(t, command("runc", "--root", filepath.Join(dir, "runc"), "run", "--bundle", bundle, id))
	})
}

// cairnRun pulls the image into an empty store and runs it.
func (i *image) cairnRun(t *testing.T) {
	root := t.TempDir()
	must(t, command(i.cairn, "--root", root, "pull", i.ref))
	i.runs(t, func(t *testing.T, env []string, mounts map[string]string) *process {
		args := []string{"--root", root, "run"}
		for _, e := range env {
			args = append(args, "-e", e)
		}
		for from, to := range mounts {
			args = append(args, "-v", from+":"+to+":ro")
		}
		return start(t, command(i.cairn, append(args, i.ref)...))
	})
}

// runs starts the image's program and checks its behavior.
func (i *image) runs(t *testing.T, run func(t *testing.T, env []string, mounts map[string]string) *process) {
	t.Helper()
	if len(i.answers) == 0 && i.asks == nil {
		p := run(t, nil, nil)
		if <-p.done; p.err != nil || !strings.HasPrefix(p.out.String(), i.prints) {
			t.Errorf("printed %q (%v), want %q", p.out, p.err, i.prints)
		}
		return
	}
	port := freePort(t)
	var mounts map[string]string
	if i.mounts != nil {
		mounts = i.mounts(t, port)
	}
	p := run(t, []string{"PORT=" + port}, mounts)
	for path, want := range i.answers {
		if got := p.get(t, "http://127.0.0.1:"+port+path); !strings.Contains(got, want) {
			t.Errorf("%s answers %q, want %q", path, got, want)
		}
	}
	if i.asks != nil {
		p.listens(t, port)
		i.asks(t, port)
	}
	p.stop(t)
}

// trim edits the runtime config that umoci generated: the host's network, the default
// capabilities of container engines, and no rlimits, which not every machine may set.
func trim(t *testing.T, path string, env []string, mounts map[string]string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var spec map[string]any
	decode(t, string(text), &spec)
	process := spec["process"].(map[string]any)
	delete(process, "rlimits")
	process["terminal"] = false
	for _, e := range env {
		process["env"] = append(process["env"].([]any), e)
	}
	var caps []any
	for c := range strings.FieldsSeq("CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID NET_BIND_SERVICE") {
		caps = append(caps, "CAP_"+c)
	}
	process["capabilities"] = map[string]any{"bounding": caps, "effective": caps, "permitted": caps}
	linux := spec["linux"].(map[string]any)
	delete(linux, "resources")
	linux["namespaces"] = slices.DeleteFunc(linux["namespaces"].([]any), func(n any) bool {
		return n.(map[string]any)["type"] == "network"
	})
	// Without its own network namespace a container cannot mount sysfs.
	kept := slices.DeleteFunc(spec["mounts"].([]any), func(m any) bool {
		return strings.HasPrefix(m.(map[string]any)["destination"].(string), "/sys")
	})
	for from, to := range mounts {
		kept = append(kept, map[string]any{"destination": to, "type": "bind", "source": from, "options": []any{"bind", "ro"}})
	}
	spec["mounts"] = kept
	text, err = json.Marshal(spec)
	if err == nil {
		err = os.WriteFile(path, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func decode(t *testing.T, text string, to any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), to); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
}
