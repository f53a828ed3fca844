package examples_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// join joins images that two machines pushed to separate repositories into one
// image index in a third, and reads it with other tools.
func (l *lab) join(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nARG TARGETARCH\nENV ARCH=$TARGETARCH\nCOPY Dockerfile /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"--root", l.root(), "manifest", "create", "--annotation", "org.example.joined=yes", l.registry + "/joined:1"}
	for _, arch := range []string{"amd64", "arm64"} {
		ref := l.registry + "/machines/" + arch + ":1"
		must(t, command(l.cairn, "--root", t.TempDir(), "build", "--quiet", "--platform", "linux/"+arch, "-t", ref, "--push", dir))
		args = append(args, ref)
	}
	must(t, command(l.cairn, args...))
	must(t, command(l.cairn, "--root", l.root(), "manifest", "push", "--quiet", l.registry+"/joined:1"))
	raw := must(t, command(l.cairn, "--root", l.root(), "manifest", "inspect", "--raw", l.registry+"/joined:1"))
	i := &image{lab: l, ref: l.registry + "/joined:1", digest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(raw)))}
	t.Run("crane validate", i.validateIndex)
	t.Run("skopeo inspect", func(t *testing.T) {
		need(t, "skopeo")
		if got := must(t, command("skopeo", "inspect", "--raw", "--tls-verify=false", "docker://"+i.ref)); got != raw {
			t.Errorf("skopeo reads\n%s\nwant\n%s", got, raw)
		}
		must(t, command("skopeo", "copy", "--all", "--quiet", "--src-tls-verify=false", "docker://"+i.ref, "oci:"+t.TempDir()+":1"))
	})
	t.Run("from another registry", func(t *testing.T) {
		addr := "127.0.0.1:" + freePort(t)
		p := start(t, command(l.cairn, "registry", "serve", "--addr", addr, "--dir", t.TempDir()))
		p.get(t, "http://"+addr+"/v2/")
		copied := *i
		copied.ref = addr + "/far:1"
		must(t, command(l.cairn, "--root", l.root(), "manifest", "push", "--quiet", i.ref, copied.ref))
		copied.validateIndex(t)
	})
}
