package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	theirs "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	ggcr "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/auth"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
)

// registries returns functions that start registries of several implementations.
func registries(t *testing.T) map[string]func(*testing.T) string {
	return map[string]func(*testing.T) string{
		"docker-registry": func(t *testing.T) string { return imagetest.Distribution(t, imagetest.DebianRegistry(t), "", "") },
		"distribution v3": func(t *testing.T) string { return imagetest.Distribution(t, imagetest.DistributionV3(t), "", "") },
		"go-containerregistry": func(t *testing.T) string {
			return imagetest.Serve(t, theirs.New(theirs.Logger(log.New(io.Discard, "", 0)))).Host
		},
		"server": func(t *testing.T) string { return imagetest.Serve(t, registrytest.Handler(t, server.Options{})).Host },
	}
}

func TestRegistries(t *testing.T) {
	t.Parallel()
	for kind, start := range registries(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			host := start(t)
			for _, docker := range []bool{false, true} {
				img := imagetest.New(t, "amd64", docker, "one", incompressible(1<<20), "one")
				c, _ := newClient(t, Options{})
				mustPush(t, c, host+"/team/app:1", img)
				wantPulled(t, c, host+"/team/app:1", img)
				mustPush(t, c, host+"/other:latest", img) // mounts
				wantPulled(t, c, host+"/other:latest", img)
				fresh, _ := newClient(t, Options{})
				mustPush(t, fresh, host+"/team/app:1", img)
				d, err := fresh.ResolveDigest(context.Background(), host+"/team/app:1")
				if err != nil || d != img.Digest {
					t.Errorf("digest %s, %v, want %s", d, err, img.Digest)
				}
				wantValid(t, host+"/team/app:1", img)
			}
			c, _ := newClient(t, Options{})
			_, err := c.Resolve(context.Background(), host+"/team/app:no", layer.Platform{})
			if !errors.Is(err, ErrNotFound) || !strings.HasPrefix(err.Error(), "pull "+host+"/team/app:no: not found in registry "+host) {
				t.Errorf("missing tag: %v", err)
			}
		})
	}
}

// wantValid validates the image with go-containerregistry, like crane validate.
func wantValid(t *testing.T, ref string, img imagetest.Image) {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ggcr.Image(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(got); err != nil {
		t.Errorf("go-containerregistry: %v", err)
	}
	if d, err := got.Digest(); err != nil || d.String() != string(img.Digest) {
		t.Errorf("go-containerregistry: digest %s, %v, want %s", d, err, img.Digest)
	}
}

// Images that go-containerregistry pushes can be pulled, also by itself.
func TestForeignPush(t *testing.T) {
	t.Parallel()
	for kind, start := range registries(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			host := start(t)
			img, err := random.Image(100_000, 3)
			if err != nil {
				t.Fatal(err)
			}
			tag, err := name.NewTag(host + "/foreign:1")
			if err != nil {
				t.Fatal(err)
			}
			if err := ggcr.Write(tag, img); err != nil {
				t.Fatal(err)
			}
			index, err := random.Index(1000, 1, 2)
			if err != nil {
				t.Fatal(err)
			}
			if err := ggcr.WriteIndex(tag.Context().Tag("index"), index); err != nil {
				t.Fatal(err)
			}
			c, _ := newClient(t, Options{})
			got, err := c.Resolve(context.Background(), host+"/foreign:1", layer.Platform{})
			if err != nil {
				t.Fatal(err)
			}
			if d, err := img.Digest(); err != nil || string(got.Digest) != d.String() {
				t.Errorf("digest %s, want %s, %v", got.Digest, d, err)
			}
			for _, l := range got.Layers {
				mustRead(t, c, host+"/foreign:1", l)
			}
			back, err := ggcr.Index(tag.Context().Tag("index"))
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Index(back); err != nil {
				t.Error(err)
			}
		})
	}
}

// distributions runs a test with both versions of docker's registry.
func distributions(t *testing.T, test func(t *testing.T, program string)) {
	t.Run("docker-registry", func(t *testing.T) { t.Parallel(); test(t, imagetest.DebianRegistry(t)) })
	t.Run("distribution v3", func(t *testing.T) { t.Parallel(); test(t, imagetest.DistributionV3(t)) })
}

// bob creates an htpasswd file in which bob has the password "secret".
func bob(t *testing.T) string {
	t.Helper()
	htpasswd, err := exec.LookPath("htpasswd")
	if err != nil {
		t.Skip("htpasswd (Debian package apache2-utils) is not installed")
	}
	users := filepath.Join(t.TempDir(), "users")
	if out, err := exec.Command(htpasswd, "-Bbc", users, "bob", "secret").CombinedOutput(); err != nil {
		t.Fatalf("htpasswd: %v: %s", err, out)
	}
	return users
}

func TestHtpasswd(t *testing.T) { distributions(t, testHtpasswd) }

func testHtpasswd(t *testing.T, program string) {
	host := imagetest.Distribution(t, program, "", imagetest.Htpasswd(bob(t)))
	img := imagetest.New(t, "amd64", false, "one")
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	c, _ := newClient(t, o)
	err := push(c, host+"/app:1", img)
	if !errors.Is(err, ErrUnauthorized) || !strings.Contains(err.Error(), "none were found in "+o.Credentials.DockerDir+"/config.json; log in with: cairn login "+host) {
		t.Errorf("without credentials: %v", err)
	}
	if err := auth.Login(context.Background(), o.Transport, o.Credentials, host, "bob", "wrong"); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("wrong password: %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Credentials.DockerDir, "config.json")); err == nil {
		t.Error("refused credentials were kept")
	}
	if err := auth.Login(context.Background(), o.Transport, o.Credentials, host, "bob", "secret"); err != nil {
		t.Fatal(err)
	}
	c, _ = newClient(t, o)
	mustPush(t, c, host+"/app:1", img)
	wantPulled(t, c, host+"/app:1", img)
	if err := auth.Logout(o.Credentials, host); err != nil {
		t.Fatal(err)
	}
	c, _ = newClient(t, o)
	if err := push(c, host+"/app:1", img); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("after logout: %v", err)
	}
}

func TestSkopeo(t *testing.T) {
	t.Parallel()
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("skopeo is not installed")
	}
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(t *testing.T, args ...string) string {
		t.Helper()
		cmd := exec.Command(skopeo, append([]string{"--policy", policy}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("skopeo %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	for kind, start := range registries(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			host := start(t)
			c, _ := newClient(t, Options{})
			img := imagetest.New(t, "amd64", false, "one", "two")
			mustPush(t, c, host+"/app:1", img)
			if out := run(t, "inspect", "--tls-verify=false", "docker://"+host+"/app:1"); !strings.Contains(out, string(img.Digest)) {
				t.Errorf("skopeo inspect: %s", out)
			}
			run(t, "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+host+"/app:1", "docker://"+host+"/copy/of/app:2")
			wantPulled(t, c, host+"/copy/of/app:2", img)
			if out := run(t, "list-tags", "--tls-verify=false", "docker://"+host+"/app"); !strings.Contains(out, `"1"`) {
				t.Errorf("skopeo list-tags: %s", out)
			}
			if kind == "go-containerregistry" {
				return // it deletes the digest, but not the tag
			}
			run(t, "delete", "--tls-verify=false", "docker://"+host+"/app:1")
			if _, err := c.ResolveDigest(context.Background(), host+"/app:1"); !errors.Is(err, ErrNotFound) {
				t.Errorf("after skopeo delete: %v", err)
			}
		})
	}
}

const benchmarkSize = 64 << 20

func BenchmarkPush(b *testing.B) {
	content := bytes.Repeat([]byte{1}, benchmarkSize)
	blob := layer.Descriptor{Digest: layer.FromBytes(content), Size: benchmarkSize}
	sink := imagetest.Serve(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost:
			w.Header().Set("Location", "/upload")
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPut:
			_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, 1<<20))
			w.WriteHeader(http.StatusCreated)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	b.SetBytes(benchmarkSize)
	b.ReportAllocs()
	for b.Loop() {
		c, _ := newClient(b, Options{Credentials: auth.Keychain{DockerDir: "/nonexistent"}})
		p, err := c.NewPush(sink.Host + "/app:1")
		if err != nil {
			b.Fatal(err)
		}
		src := Source{Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }}
		if err := p.Blob(context.Background(), blob, src, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPull(b *testing.B) {
	content := bytes.Repeat([]byte{1}, benchmarkSize)
	blob := layer.Descriptor{Digest: layer.FromBytes(content), Size: benchmarkSize}
	s := imagetest.Serve(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(content) }))
	c, _ := newClient(b, Options{})
	buf := make([]byte, 1<<20)
	b.SetBytes(benchmarkSize)
	b.ReportAllocs()
	for b.Loop() {
		r, err := c.OpenBlob(context.Background(), s.Host+"/app:1", blob)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf); err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}

// BenchmarkPushUnchanged pushes an unchanged image with a new client each time.
func BenchmarkPushUnchanged(b *testing.B) {
	s := imagetest.Serve(b, registrytest.Handler(b, server.Options{}))
	img := imagetest.New(b, "amd64", false, "one", "two", "three")
	c, _ := newClient(b, Options{})
	mustPush(b, c, s.Host+"/app:1", img)
	for b.Loop() {
		c, err := New(Options{Credentials: auth.Keychain{DockerDir: "/nonexistent"}})
		if err != nil {
			b.Fatal(err)
		}
		mustPush(b, c, s.Host+"/app:1", img)
		c.Close()
	}
}
