package examples_test

import (
	"debug/elf"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// cross builds the multi-platform example, checks that each platform has its own
// program, and reads the image index with other tools.
func (l *lab) cross(t *testing.T) {
	l.base(t, "golang")
	i := &image{lab: l, example: example{
		name:    "cross",
		args:    []string{"--platform", "linux/amd64,linux/arm64,linux/arm/v7"},
		answers: map[string]string{"/": "cross, for linux/" + runtime.GOARCH + "\n"},
	}, context: "cross", ref: l.registry + "/examples/cross:1"}
	out := t.TempDir()
	i.digest = i.cairnBuild(t, l.root(), "-t", i.ref, "--push", "-o", out).Digest
	for folder, want := range map[string]elf.Machine{"linux_amd64": elf.EM_X86_64, "linux_arm64": elf.EM_AARCH64, "linux_arm_v7": elf.EM_ARM} {
		f, err := elf.Open(filepath.Join(out, folder, "service"))
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != want {
			t.Errorf("%s has a program for %s, want %s", folder, f.Machine, want)
		}
		f.Close()
	}
	i.config = i.nativeConfig(t)
	t.Run("unchanged", i.unchanged)
	t.Run("reproducible", i.reproducible)
	t.Run("crane validate", i.validateIndex)
	t.Run("skopeo copy", func(t *testing.T) {
		need(t, "skopeo")
		must(t, command("skopeo", "copy", "--all", "--src-tls-verify=false", "docker://"+i.ref, "oci:"+t.TempDir()+":1"))
	})
	t.Run("podman pull", i.podmanPull)
	t.Run("cairn run", i.cairnRun)
}

func (i *image) validateIndex(t *testing.T) {
	ref, err := name.ParseReference(i.ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	if d, err := index.Digest(); err != nil || d.String() != i.digest {
		t.Errorf("the registry has %s (%v), cairn build said %s", d, err, i.digest)
	}
}

// nativeConfig returns the config digest of the image for this machine's platform.
func (i *image) nativeConfig(t *testing.T) string {
	t.Helper()
	ref, err := name.ParseReference(i.ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, remote.WithPlatform(v1.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}
