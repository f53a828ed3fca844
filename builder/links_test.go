package builder

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/sshagent"
	"github.com/cairn-build/cairn/layer"
)

// linkedTargets returns a target "app" that builds on the target "base".
func linkedTargets(t *testing.T, app string, platforms ...layer.Platform) []Target {
	t.Helper()
	base := contextOf(t, map[string]string{
		"Dockerfile": "FROM scratch\nARG TARGETARCH\nENV OF=base-$TARGETARCH\nCOPY f /base\nONBUILD COPY f /triggered\n", "f": "of base",
	})
	dir := contextOf(t, map[string]string{"Dockerfile": app, "f": "of app"})
	at := int64(epoch)
	targets := []Target{
		{Name: "app", Context: dir, Contexts: []Context{{Name: "parent", Value: "target:base"}}, Epoch: &at, Platforms: platforms},
		{Name: "base", Context: base, Epoch: &at, Platforms: platforms},
	}
	targets[0].Tags = []string{"app"}
	return targets
}

// A target that is FROM another has its layers, configuration and triggers, and nothing
// is stored or pulled under the name of the link.
func TestLinkedTarget(t *testing.T) {
	b := newBuilder(t, nil)
	s := b.session(options{})
	defer s.Close()
	targets := linkedTargets(t, "FROM parent\nCOPY --from=parent /base /copied\n")
	built, err := s.Build(t.Context(), targets...)
	if err != nil {
		t.Fatal(err)
	}
	got := describe(t, b, built[0].Image)
	for _, want := range []string{`base "of base"`, `triggered "of app"`, `copied "of base"`, `OF=base-`} {
		if !strings.Contains(got, want) {
			t.Errorf("the image has no %s:\n%s", want, got)
		}
	}
	if n, base := len(built[0].Image.Layers), len(built[1].Image.Layers); n != 3 || base != 1 || built[0].Image.Layers[0].Digest != built[1].Image.Layers[0].Digest {
		t.Errorf("%d layers on %d of the base, want 3 on the same 1", n, base)
	}
}

// Each platform builds on the linked image for it.
func TestLinkedPlatforms(t *testing.T) {
	amd64, arm64 := layer.Platform{OS: "linux", Architecture: "amd64"}, layer.Platform{OS: "linux", Architecture: "arm64"}
	b := newBuilder(t, nil)
	s := b.session(options{})
	defer s.Close()
	targets := linkedTargets(t, "FROM parent\n", amd64, arm64)
	built, err := s.Build(t.Context(), targets...)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"OF=base-amd64", "OF=base-arm64"} {
		if config := string(built[0].Index.Images[i].Config); !strings.Contains(config, want) {
			t.Errorf("config %s, want %s", config, want)
		}
	}
	targets[0].Platforms = []layer.Platform{amd64, {OS: "linux", Architecture: "s390x"}}
	_, err = s.Build(t.Context(), targets...)
	if err == nil || !strings.Contains(err.Error(), "Dockerfile:1: target base is not built for linux/s390x, but for linux/amd64, linux/arm64") {
		t.Errorf("a platform that the base lacks: %v", err)
	}
	targets[1].Platforms = []layer.Platform{amd64} // serves all
	if _, err = s.Build(t.Context(), targets...); err != nil {
		t.Error(err)
	}
}

func TestLinksThatAreRefused(t *testing.T) {
	targets := linkedTargets(t, "FROM parent\n")
	ring := linkedTargets(t, "FROM parent\n")
	ring[1].Contexts = []Context{{Name: "scratchy", Value: "target:app"}}
	put(t, filepath.Join(ring[1].Context, "Dockerfile"), []byte("FROM scratch AS x\nFROM scratchy\n"))
	unknown := linkedTargets(t, "FROM parent\n")
	unknown[0].Contexts[0].Value = "target:bas"
	twice := []Target{targets[1], targets[1]}
	broken := linkedTargets(t, "FROM parent\n")
	put(t, filepath.Join(broken[1].Context, "Dockerfile"), []byte("FROM scratch\nNONSENSE\n"))
	for _, test := range []struct {
		name    string
		targets []Target
		want    string
		at      bool
	}{
		{"ring", ring, "targets need each other: ", true},
		{"unknown", unknown, "target app: build context parent: target:bas: there is no target bas in this build", false},
		{"twice", twice, "two targets are called base: rename one", false},
		{"broken", broken, "target base: Dockerfile:2: ", true},
	} {
		b := newBuilder(t, nil)
		s := b.session(options{})
		_, err := s.Build(t.Context(), test.targets...)
		s.Close()
		var at *dockerfile.Error
		if err == nil || !strings.Contains(err.Error(), test.want) || errors.As(err, &at) != test.at || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s, at a line %t", test.name, err, test.want, test.at)
		}
	}
}

// A FROM of another target's tag means the image of this build only if the session links
// tags, and never that of the target itself.
func TestLinkedTags(t *testing.T) {
	b := newBuilder(t, nil)
	old := contextOf(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY f /\n", "f": "of the last release"})
	if _, err := b.Build(t.Context(), options{Context: old, Tags: []string{"example/base:1", "example/app:1"}}); err != nil {
		t.Fatal(err)
	}
	base := contextOf(t, map[string]string{"Dockerfile": "FROM example/base:1\nCOPY g /\n", "g": "of this build"})
	app := contextOf(t, map[string]string{"Dockerfile": "FROM example/base:1\nCOPY --from=example/app:1 f /old\n"})
	for _, link := range []bool{true, false} {
		s, err := NewSession(SessionOptions{Store: b.Store, Registry: b.Registry, Progress: b.Progress, LinkTags: link})
		if err != nil {
			t.Fatal(err)
		}
		targets := []Target{{Name: "app", Context: app}, {Name: "base", Context: base}}
		targets[0].Tags, targets[1].Tags = []string{"example/app:1"}, []string{"example/base:1"}
		targets[0].NoStore, targets[1].NoStore = true, true
		built, err := s.Build(t.Context(), targets...)
		s.Close()
		if err != nil {
			t.Fatal(err)
		}
		got := describe(t, b, built[0].Image)
		if strings.Contains(got, "of this build") != link || !strings.Contains(got, `old "of the last release"`) {
			t.Errorf("link %t:\n%s", link, got)
		}
	}
}

// Equal steps of targets whose secret has the same ID and another source are run for
// each, and a target without the secret does not get that of another.
func TestSecretsOfTargets(t *testing.T) {
	needSandbox(t)
	dir := busyboxDir(t, "RUN --mount=type=secret,id=token,env=TOKEN echo \"<$TOKEN>\" > /token\n")
	t.Setenv("FIRST", "first")
	t.Setenv("SECOND", "second")
	secrets := func(name string) *Credentials {
		return &Credentials{Secrets: []secret.Source{{ID: "token", Env: name}}}
	}
	b := newBuilder(t, nil)
	s := b.session(options{})
	defer s.Close()
	targets := []Target{
		{Name: "a", Context: dir, Credentials: secrets("FIRST")}, {Name: "b", Context: dir, Credentials: secrets("SECOND")},
		{Name: "c", Context: dir}, {Name: "d", Context: dir, Credentials: secrets("FIRST")},
	}
	built, err := s.Build(t.Context(), targets...)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"<first>", "<second>", "<>", "<first>"} {
		if got := describe(t, b, built[i].Image); !strings.Contains(got, want) {
			t.Errorf("%s has no %s:\n%s", targets[i].Name, want, got)
		}
	}
	if built[0].Digest() != built[3].Digest() {
		t.Error("the targets with the same secret did not share the step")
	}
	again, err := s.Build(t.Context(), targets...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range again {
		if again[i].Digest() != built[i].Digest() {
			t.Errorf("%s: %s the second time, %s the first", targets[i].Name, again[i].Digest(), built[i].Digest())
		}
	}
}

// A socket of an agent is that of the target too.
func TestAgentsOfTargets(t *testing.T) {
	needSandbox(t)
	dir := busyboxDir(t, "RUN --mount=type=ssh test -S \"$SSH_AUTH_SOCK\" && echo agent > /with || echo none > /without\n")
	key := filepath.Join(t.TempDir(), "key")
	put(t, key, newKey(t))
	b := newBuilder(t, nil)
	s := b.session(options{})
	defer s.Close()
	built, err := s.Build(t.Context(),
		Target{Name: "with", Context: dir, Credentials: &Credentials{Agents: []sshagent.Source{{ID: sshagent.Default, Paths: []string{key}}}}},
		Target{Name: "without", Context: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{`with "agent`, `without "none`} {
		if got := describe(t, b, built[i].Image); !strings.Contains(got, want) {
			t.Errorf("no %s:\n%s", want, got)
		}
	}
}

// Targets with the same directory read it once; another ignore file makes another
// context.
func TestContextsOfTargets(t *testing.T) {
	dir := contextOf(t, map[string]string{
		"Dockerfile": "FROM scratch\nCOPY d /d\n", "d/a": "a", "d/b": "b",
		"Other": "FROM scratch\nCOPY d /d\n", "Other.dockerignore": "d/b\n",
	})
	b := newBuilder(t, nil)
	var shown strings.Builder
	b.Progress = plain(&shown)
	s := b.session(options{})
	defer s.Close()
	built, err := s.Build(t.Context(), Target{Name: "one", Context: dir}, Target{Name: "two", Context: dir + "/."},
		Target{Name: "other", Context: dir, Dockerfile: filepath.Join(dir, "Other")})
	if err != nil {
		t.Fatal(err)
	}
	b.Progress.Close()
	if built[0].Digest() != built[1].Digest() || built[0].Digest() == built[2].Digest() {
		t.Errorf("digests %s, %s, and %s with another ignore file", built[0].Digest(), built[1].Digest(), built[2].Digest())
	}
	if got := describe(t, b, built[2].Image); strings.Contains(got, `"b"`) {
		t.Errorf("an ignored file is in the image:\n%s", got)
	}
}
