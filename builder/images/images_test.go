package images

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/builder/export"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/layout"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/auth"
)

func newManager(t *testing.T) *Manager {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c, err := registry.New(registry.Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	return &Manager{Store: s, Registry: c}
}

// imageFor is an image without layers for a platform; text tells it from others.
func imageFor(t *testing.T, platform, text string) layer.Image {
	t.Helper()
	p, err := layer.ParsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	config := `{"os":"` + p.OS + `","architecture":"` + p.Architecture + `","variant":"` + p.Variant + `","author":"` + text + `","rootfs":{"type":"layers","diff_ids":[]}}`
	img, err := layer.NewImage([]byte(config), nil, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// Images are found by short and full names, IDs, digests and their beginnings.
func TestLookup(t *testing.T) {
	m := newManager(t)
	one, two := imageFor(t, "linux/amd64", "one"), imageFor(t, "linux/amd64", "two")
	for ref, img := range map[string]layer.Image{"docker.io/library/one:latest": one, "h/two:1": two, "h/two:2": two} {
		if err := m.Store.Tag(ref, img); err != nil {
			t.Fatal(err)
		}
	}
	for _, ref := range []string{"one", "docker.io/library/one", string(one.ConfigDigest), one.ConfigDigest.Hex()[:12], string(one.Digest), string(one.Digest[:20])} {
		if got, err := m.Lookup(ref); err != nil || got.Image.Digest != one.Digest {
			t.Errorf("%s: %v, %v", ref, got.Image.Digest, err)
		}
	}
	if _, err := m.Lookup(one.ConfigDigest.Hex()[:5]); err == nil {
		t.Error("five digits are an ID")
	}
	if _, err := m.Lookup("nosuch"); err == nil || err.Error() != "image nosuch is not in the store: cairn images lists the images that are, cairn pull nosuch fetches it" {
		t.Errorf("error %v", err)
	}
	if _, err := m.Remove("nosuch"); err == nil || strings.Contains(err.Error(), "cairn pull") {
		t.Errorf("error %v", err)
	}
	names, err := m.Remove(two.ConfigDigest.Hex()[:12])
	if err != nil || len(names) != 2 {
		t.Errorf("removed %q, %v; want both names", names, err)
	}
	if names, err := m.Remove("one"); err != nil || !cmp.Equal(names, []string{"docker.io/library/one:latest"}) {
		t.Errorf("removed %q, %v", names, err)
	}
}

// Two images whose IDs begin alike are ambiguous; one that has several names is not.
func TestHasID(t *testing.T) {
	img := store.Tagged{Image: layer.Image{ConfigDigest: layer.Digest("sha256:" + strings.Repeat("ab", 32)), Digest: layer.Digest("sha256:" + strings.Repeat("cd", 32))}}
	for id, want := range map[string]bool{"ababab": true, "sha256:abab": true, "cdcdcd": true, "sha256:": false, "xyz": false, "abac": false, strings.Repeat("ab", 33): false} {
		if got := hasID(img, id); got != want {
			t.Errorf("%s: %v, want %v", id, got, want)
		}
	}
}

// Tag names an untagged image, which then loses its name without a tag.
func TestTag(t *testing.T) {
	m := newManager(t)
	img := imageFor(t, "linux/amd64", "x")
	untagged := export.Untagged(img.Digest)
	if err := m.Store.Tag(untagged, img); err != nil {
		t.Fatal(err)
	}
	if err := m.Tag(img.ConfigDigest.Hex(), "new"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Store.Tagged(untagged); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the name without a tag: %v", err)
	}
	if err := m.Tag("new", "newer"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Store.Tagged("docker.io/library/new:latest"); err != nil {
		t.Error(err)
	}
	if err := m.Tag("new", ":"); err == nil || !strings.HasPrefix(err.Error(), "invalid tag: ") {
		t.Errorf("error %v", err)
	}
}

func TestSplitArchive(t *testing.T) {
	dir := t.TempDir()
	path, colon := filepath.Join(dir, "a.tar"), filepath.Join(dir, "b:c")
	for _, name := range []string{path, colon} {
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sum := "sha256:" + strings.Repeat("0", 64)
	for at, want := range map[string][3]string{
		path: {path, "", ""}, path + ":1": {path, "1", ""}, path + "@" + sum: {path, "", sum}, path + ":1@" + sum: {path, "1", sum},
		colon: {colon, "", ""}, colon + ":1": {colon, "1", ""}, dir + "/no:1": {dir + "/no:1", "", ""}, path + "@x": {path + "@x", "", ""},
	} {
		if p, tag, digest := splitArchive(at); [3]string{p, tag, string(digest)} != want {
			t.Errorf("%s: %s, %s, %s; want %q", at, p, tag, digest, want)
		}
	}
}

// Of images with one name only that for the platform is loaded.
func TestOtherPlatform(t *testing.T) {
	amd, arm := layer.Platform{OS: "linux", Architecture: "amd64"}, layer.Platform{OS: "linux", Architecture: "arm64"}
	all := []layout.Named{{Refs: []string{"a"}, Platform: amd}, {Refs: []string{"a"}, Platform: arm}, {Refs: []string{"b"}, Platform: arm}, {Platform: arm}}
	for i, want := range []bool{false, true, false, false} {
		if got := otherPlatform(all, all[i], amd); got != want {
			t.Errorf("image %d: %v, want %v", i, got, want)
		}
	}
}
