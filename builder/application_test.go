package builder

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/cache/remote"
)

// application returns two targets that share a layer, with tags in two repositories of a
// registry.
func application(t *testing.T, h *hub) (*testEnv, []Target) {
	t.Helper()
	dir := contextOf(t, map[string]string{
		"Dockerfile": "FROM scratch AS base\nCOPY shared /\nFROM base AS web\nCOPY web /\nFROM base AS api\nCOPY api /\n",
		"shared":     "shared", "web": "web", "api": "api",
	})
	targets := []Target{{Name: "web", Context: dir, Stage: "web"}, {Name: "api", Context: dir, Stage: "api"}}
	for i := range targets {
		targets[i].Tags, targets[i].Push = []string{h.host() + "/" + targets[i].Name + ":1"}, true
	}
	return newBuilder(t, nil), targets
}

func (b *testEnv) buildAll(t *testing.T, o SessionOptions, targets ...Target) ([]*Built, error) {
	t.Helper()
	o.Store, o.Registry, o.Progress = b.Store, b.Registry, b.Progress
	s, err := NewSession(o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return s.Build(t.Context(), targets...)
}

// All manifests are pushed by digest before the first tag, and each shared layer once.
func TestTagsAreSetLast(t *testing.T) {
	h := newHub(t)
	b, targets := application(t, h)
	built, err := b.buildAll(t, SessionOptions{}, targets...)
	if err != nil {
		t.Fatal(err)
	}
	requests := h.take()
	lastDigest, firstTag := 0, len(requests)
	for i, r := range requests {
		if strings.HasPrefix(r, "PUT ") && strings.Contains(r, "/manifests/sha256:") {
			lastDigest = i
		} else if strings.HasPrefix(r, "PUT ") && strings.Contains(r, "/manifests/1") {
			firstTag = min(firstTag, i)
		}
	}
	if lastDigest > firstTag || count(requests, "PUT", "/manifests/") != 4 {
		t.Errorf("want two manifests by digest, then two tags:\n%s", strings.Join(requests, "\n"))
	}
	if n := count(requests, "PUT", "/blobs/uploads/"); n != 5 { // two configs, three layers
		t.Errorf("%d uploads, want 5:\n%s", n, strings.Join(requests, "\n"))
	}
	if _, err := b.buildAll(t, SessionOptions{}, targets...); err != nil {
		t.Fatal(err)
	}
	if requests := h.take(); count(requests, "PUT", "") > 0 {
		t.Errorf("the second build pushed again:\n%s", strings.Join(requests, "\n"))
	}
	for _, one := range built {
		if len(one.Pushed) != 1 {
			t.Errorf("%s: pushed %q", one.Name, one.Pushed)
		}
	}
	if got, want := built[0].Steps, (StepCount{Ran: 2}); got != want {
		t.Errorf("steps of web %+v, want %+v", got, want)
	}
	if got, want := built[1].Steps, (StepCount{Ran: 1, Shared: 1}); got != want {
		t.Errorf("steps of api %+v, want %+v", got, want)
	}
}

// If one target fails, whether in a step or in its push, no tag moves.
func TestFailureMovesNoTag(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(h *hub, targets []Target)
	}{
		{"step", func(_ *hub, targets []Target) { os.Remove(filepath.Join(targets[1].Context, "api")) }},
		{"push", func(h *hub, _ []Target) {
			h.refuse(func(method, path string) bool {
				return method == "PUT" && strings.HasPrefix(path, "/v2/api/manifests/")
			})
		}},
		{"output", func(_ *hub, targets []Target) {
			targets[1].Outputs = []Output{{Type: "tar", Dest: filepath.Join(targets[1].Context, "missing", "x.tar")}}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHub(t)
			b, targets := application(t, h)
			test.spoil(h, targets)
			if _, err := b.buildAll(t, SessionOptions{}, targets...); err == nil {
				t.Fatal("the build succeeded")
			}
			if requests := h.take(); count(requests, "PUT", "/manifests/1") > 0 && test.name != "push" || count(requests, "PUT", "/v2/web/manifests/1") > 0 {
				t.Errorf("a tag was pushed:\n%s", strings.Join(requests, "\n"))
			}
			if images, err := b.Store.Images(); err != nil || len(images) > 0 {
				t.Errorf("the store has %v, %v", images, err)
			}
		})
	}
}

// With KeepGoing, targets that do not need the failed step are finished and tagged; those
// that do fail with it.
func TestKeepGoing(t *testing.T) {
	h := newHub(t)
	b, targets := application(t, h)
	user := contextOf(t, map[string]string{"Dockerfile": "FROM api\n"})
	targets = append(targets, Target{Name: "user", Context: user, Contexts: []Context{{Name: "api", Value: "target:api"}}})
	targets[2].Tags = []string{"user"}
	os.Remove(filepath.Join(targets[1].Context, "api"))
	built, err := b.buildAll(t, SessionOptions{KeepGoing: true}, targets...)
	var failed *FailedError
	if !errors.As(err, &failed) || failed.Error() != "2 targets failed: api, user" {
		t.Fatalf("error %v", err)
	}
	var step *StepError
	if built[0].Err != nil || !errors.As(built[1].Err, &step) || !errors.As(built[2].Err, &step) || step.Target != "api" {
		t.Errorf("errors of the targets: %v, %v, %v", built[0].Err, built[1].Err, built[2].Err)
	}
	if requests := h.take(); count(requests, "PUT", "/v2/web/manifests/1") != 1 || count(requests, "PUT", "/v2/api/manifests/") > 0 {
		t.Errorf("want the tag of web only:\n%s", strings.Join(requests, "\n"))
	}
	if _, err := b.Lookup(h.host() + "/web:1"); err != nil {
		t.Error(err)
	}
	h.refuse(func(method, path string) bool { return method == "PUT" && strings.HasPrefix(path, "/v2/web/") })
	put(t, filepath.Join(targets[1].Context, "api"), []byte("api"))
	put(t, filepath.Join(targets[1].Context, "web"), []byte("new web"))
	built, err = b.buildAll(t, SessionOptions{KeepGoing: true}, targets...)
	if !errors.As(err, &failed) || failed.Error() != "1 target failed: web" || built[1].Err != nil || built[2].Err != nil {
		t.Errorf("after a refused push: %v", err)
	}
}

// Two targets may not write one name or file, unless their images are the same.
func TestConflictsOfTargets(t *testing.T) {
	h := newHub(t)
	file := filepath.Join(t.TempDir(), "x.tar")
	dir := t.TempDir()
	for _, test := range []struct {
		name   string
		change func(targets []Target)
		want   string
	}{
		{"tag", func(targets []Target) { targets[1].Tags = targets[0].Tags },
			"targets web and api make different images of one name, " + h.host() + "/web:1: give them different tags"},
		{"name of an output", func(targets []Target) {
			targets[1].Outputs = []Output{{Type: "image", Names: targets[0].Tags}}
		}, "targets web and api make different images of one name, " + h.host() + "/web:1: give them different tags"},
		{"file", func(targets []Target) {
			for i := range targets {
				targets[i].Outputs = []Output{{Type: "oci", Dest: file}}
			}
		}, "targets web and api both write " + file + ": choose another destination for one"},
		{"standard output", func(targets []Target) {
			for i := range targets {
				targets[i].Outputs = []Output{{Type: "tar", Dest: "-"}}
			}
		}, "targets web and api both write to standard output: choose a file for one"},
		{"deleted", func(targets []Target) {
			targets[0].Outputs = []Output{{Type: "local", Dest: dir, Delete: true}}
			targets[1].Outputs = []Output{{Type: "tar", Dest: filepath.Join(dir, "x.tar")}}
		}, "target api writes " + filepath.Join(dir, "x.tar") + ", which target web would remove: choose another destination, or leave out mode=delete"},
		{"same directory", func(targets []Target) {
			for i := range targets {
				targets[i].Outputs = []Output{{Type: "local", Dest: dir}}
			}
		}, ""},
		{"same image", func(targets []Target) {
			targets[1].Stage, targets[1].Tags = "web", targets[0].Tags
			for i := range targets {
				targets[i].Outputs = []Output{{Type: "oci", Dest: file}}
			}
		}, ""},
	} {
		b, targets := application(t, h)
		test.change(targets)
		_, err := b.buildAll(t, SessionOptions{}, targets...)
		if got := ""; err != nil {
			got = err.Error()
			if got != test.want {
				t.Errorf("%s: %s, want %s", test.name, got, test.want)
			}
		} else if test.want != "" {
			t.Errorf("%s: no error, want %s", test.name, test.want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "web")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "api")); err != nil {
		t.Error(err)
	}
}

// A cache has the steps of its targets, each once, and serves all of them.
func TestCacheOfTargets(t *testing.T) {
	h := newHub(t)
	b, targets := application(t, h)
	for i := range targets {
		targets[i].Push = false
	}
	dir := t.TempDir()
	at := func(name string) remote.Location { return remote.Location{Dir: filepath.Join(dir, name)} }
	o := SessionOptions{CacheTo: []CacheTo{
		{Location: at("both"), Targets: []string{"web", "api"}}, {Location: at("web"), Targets: []string{"web"}},
	}}
	if _, err := b.buildAll(t, o, targets...); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]StepCount{"both": {Cached: 2}, "web": {Ran: 1, Cached: 1}} {
		other := newBuilder(t, nil)
		built, err := other.buildAll(t, SessionOptions{CacheFrom: []remote.Location{at(name)}}, targets...)
		if err != nil {
			t.Fatal(err)
		}
		if built[1].Steps != want {
			t.Errorf("cache of %s: api %+v, want %+v", name, built[1].Steps, want)
		}
	}
}

// With KeepGoing, a target that cannot be planned fails with those that need it. Without,
// the error has the mistakes of all targets.
func TestMistakesOfTargets(t *testing.T) {
	h := newHub(t)
	b, targets := application(t, h)
	user := Target{Name: "user", Context: targets[0].Context, Stage: "web", Contexts: []Context{{Name: "base", Value: "target:lost"}}}
	targets = append(targets, Target{Name: "lost", Context: filepath.Join(t.TempDir(), "none")}, user)
	targets[1].Stage = "none"
	built, err := b.buildAll(t, SessionOptions{KeepGoing: true}, targets...)
	var failed *FailedError
	if !errors.As(err, &failed) || failed.Error() != "3 targets failed: api, lost, user" || len(built) != 4 {
		t.Fatalf("%d results, error %v", len(built), err)
	}
	var link *LinkError
	if built[0].Err != nil || built[0].Digest() == "" || built[1].Err == nil || !errors.As(built[3].Err, &link) || link.Target != "lost" {
		t.Errorf("errors of the targets: %v, %v, %v, %v", built[0].Err, built[1].Err, built[2].Err, built[3].Err)
	}
	if n := count(h.take(), "PUT", "/v2/web/manifests/1"); n != 1 {
		t.Errorf("the tag of web was pushed %d times, want once", n)
	}
	_, err = b.buildAll(t, SessionOptions{}, targets...)
	if text := err.Error(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "target api: ") || !strings.Contains(text, "target lost: ") {
		t.Errorf("want the mistakes of api and lost: %v", err)
	}
	if n := count(h.take(), "PUT", "/manifests/"); n != 0 {
		t.Errorf("%d manifests were pushed", n)
	}
	if built, err = b.buildAll(t, SessionOptions{KeepGoing: true}, targets[1:3]...); !errors.As(err, &failed) || len(built) != 2 {
		t.Errorf("no target can be planned: %v", err)
	}
}

// A layer that several targets push is uploaded once, by the target that sends it while
// it is being compressed; the others mount it.
func TestStreamedLayerIsUploadedOnce(t *testing.T) {
	h := newHub(t)
	data := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{}).Read(data)
	dir := contextOf(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY data /\n", "data": string(data)})
	var targets []Target
	for i := range 8 {
		one := Target{Name: fmt.Sprint("app", i), Context: dir}
		one.Tags, one.Push = []string{h.host() + "/" + one.Name + ":1"}, true
		targets = append(targets, one)
	}
	if _, err := newBuilder(t, nil).buildAll(t, SessionOptions{}, targets...); err != nil {
		t.Fatal(err)
	}
	if n := h.received.Load(); n > int64(len(data))*3/2 {
		t.Errorf("%d bytes are uploaded of a layer of %d:\n%s", n, len(data), strings.Join(h.take(), "\n"))
	}
}
