package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/cairn-build/cairn/examples/internal/bases"
)

// startDocker starts a Docker daemon with its own store and returns the address of
// its API.
func startDocker(t *testing.T) string {
	t.Helper()
	need(t, "dockerd")
	need(t, "docker")
	need(t, "unshare")
	if os.Getuid() != 0 {
		t.Skip("dockerd needs root")
	}
	dir := shortDir(t)
	address := "unix://" + filepath.Join(dir, "s")
	// The daemon's processes and mounts end with its namespaces.
	p := start(t, command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		"dockerd", "--iptables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none", "--host", address,
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid")))
	p.await(t, command("docker", "--host", address, "version"))
	return address
}

// shortDir creates a directory with a path short enough for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// await runs the command ask until it succeeds or the program ends.
func (p *process) await(t *testing.T, ask *exec.Cmd) {
	t.Helper()
	for command(ask.Path, ask.Args[1:]...).Run() != nil {
		select {
		case <-p.done:
			t.Fatalf("%s ended before it answered: %v\n%s", p.cmd, p.err, p.out)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// dockerLoad loads both archives and the image of --load into Docker.
func (i *image) dockerLoad(t *testing.T) {
	address := startDocker(t)
	docker := func(args ...string) string {
		return must(t, command("docker", append([]string{"--host", address}, args...)...))
	}
	want := i.pushed(t)
	for form, load := range map[string]func(){
		"docker": func() { docker("load", "--quiet", "--input", i.archive) },
		"oci":    func() { docker("load", "--quiet", "--input", i.oci) },
		"--load": func() { i.loads(t, "docker", "DOCKER_HOST="+address) },
	} {
		load()
		var got []struct {
			ID           string `json:"Id"`
			Architecture string
			Config       v1.Config
			RootFS       struct{ Layers []string }
		}
		decode(t, docker("image", "inspect", i.ref), &got)
		if len(got) != 1 || got[0].ID != i.config || got[0].Architecture != want.Architecture {
			t.Fatalf("%s: docker has %+v, cairn build said %s", form, got, i.config)
		}
		if d := cmp.Diff(want.Config, got[0].Config, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: the config that docker reads (-want +got):\n%s", form, d)
		}
		var layers []string
		for _, d := range want.RootFS.DiffIDs {
			layers = append(layers, d.String())
		}
		if d := cmp.Diff(layers, got[0].RootFS.Layers, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: its layers (-want +got):\n%s", form, d)
		}
		docker("rmi", i.ref)
	}
}

// podmanSocket loads the image into Podman through its API.
func (i *image) podmanSocket(t *testing.T) {
	podman, own := newPodman(t)
	address := "unix://" + filepath.Join(shortDir(t), "s")
	p := start(t, command("podman", append(own, "system", "service", "--time=0", address)...))
	p.await(t, command("podman", "--remote", "--url", address, "version"))
	i.loads(t, "podman", "CONTAINER_HOST="+address)
	if got := strings.TrimSpace(podman("images", "--quiet", "--no-trunc")); got != i.config {
		t.Errorf("podman has image %s, cairn build said %s", got, i.config)
	}
}

// loads builds the image again and loads it into the engine that env points to.
func (i *image) loads(t *testing.T, engine, env string) {
	t.Helper()
	args := append(append([]string{"--root", i.root(), "build", "--progress", "plain", "--registry-mirror", i.registry}, bases.ProxyArgs()...), i.args...)
	cmd := command(i.cairn, append(args, "--load="+engine, "-t", i.ref, i.context)...)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", env)
	must(t, cmd)
}

// pushed returns the config of the image in the registry.
func (i *image) pushed(t *testing.T) *v1.ConfigFile {
	t.Helper()
	ref, err := name.ParseReference(i.ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return config
}
