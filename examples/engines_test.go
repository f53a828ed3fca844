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

	"github.com/cairn-build/cairn/examples/bases"
)

// startDocker starts a docker daemon once, with a store of its own, and gives the
// address of its API.
func (l *lab) startDocker(t *testing.T) string {
	t.Helper()
	need(t, "dockerd")
	need(t, "docker")
	need(t, "unshare")
	if os.Getuid() != 0 {
		t.Skip("dockerd needs root")
	}
	if l.docker != "" {
		return l.docker
	}
	dir := l.shortDir(t)
	address := "unix://" + filepath.Join(dir, "s")
	// What it starts and mounts ends with its namespaces.
	p := start(l.t, command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		"dockerd", "--iptables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none", "--host", address,
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid")))
	p.await(t, command("docker", "--host", address, "version"))
	l.docker = address
	return address
}

// shortDir makes a folder with a short path, as sockets want it, for the lab.
func (l *lab) shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e")
	if err != nil {
		t.Fatal(err)
	}
	l.t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// await asks by a command until the program answers, or ends.
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

// dockerLoad has docker read both archives, and the image of --load.
func (i *image) dockerLoad(t *testing.T) {
	address := i.startDocker(t)
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
			t.Errorf("%s: what docker reads of the config (-want +got):\n%s", form, d)
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

// podmanSocket loads the image into podman by its API.
func (i *image) podmanSocket(t *testing.T) {
	podman, own := newPodman(t)
	address := "unix://" + filepath.Join(i.shortDir(t), "s")
	p := start(t, command("podman", append(own, "system", "service", "--time=0", address)...))
	p.await(t, command("podman", "--remote", "--url", address, "version"))
	i.loads(t, "podman", "CONTAINER_HOST="+address)
	if got := strings.TrimSpace(podman("images", "--quiet", "--no-trunc")); got != i.config {
		t.Errorf("podman has image %s, cairn build said %s", got, i.config)
	}
}

// loads builds the image again and loads it into an engine that the environment names.
func (i *image) loads(t *testing.T, engine, env string) {
	t.Helper()
	args := append(append([]string{"--root", i.root(), "build", "--progress", "plain", "--registry-mirror", i.registry}, bases.ProxyArgs()...), i.args...)
	cmd := command(i.cairn, append(args, "--load="+engine, "-t", i.ref, i.context)...)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", env)
	must(t, cmd)
}

// pushed reads the config of the image in the registry.
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
