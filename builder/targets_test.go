package builder

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer"
	"github.com/google/go-cmp/cmp"
)

// Two targets in one session that share a stage run its steps once, even without a
// cache, and both images are as if they had been built alone.
func TestTargetsShareSteps(t *testing.T) {
	needSandbox(t)
	const shared = "RUN echo made $(cat /proc/sys/kernel/random/uuid) > /made\n"
	web := busyboxDir(t, shared+"COPY own /own\nRUN cat /own > /web\n")
	api := busyboxDir(t, shared+"COPY own /own\nRUN cat /own > /api\n")
	put(t, filepath.Join(web, "own"), []byte("of web\n"))
	put(t, filepath.Join(api, "own"), []byte("of api\n"))
	b := newBuilder(t, nil)
	var shown strings.Builder
	b.Progress = plain(&shown)
	s := b.session(options{})
	defer s.Close()
	targets := []Target{{Name: "web", Context: web, NoCache: true}, {Name: "api", Context: api, NoCache: true}}
	targets[0].Tags, targets[1].Tags = []string{"web"}, []string{"api"}
	built, err := s.Build(t.Context(), targets...)
	if err != nil {
		t.Fatal(err)
	}
	b.Progress.Close()
	if n := strings.Count(shown.String(), "RUN echo made"); n == 0 || strings.Contains(shown.String(), "[api stage-1 2/4] RUN echo made") {
		t.Errorf("the shared RUN is not shown once, as a step of web:\n%s", &shown)
	}
	var files [2]string
	for i, one := range built {
		files[i] = describe(t, b, one.Image)
		if tagged, err := b.Lookup(targets[i].Name); err != nil || tagged.Image.Digest != one.Digest() {
			t.Errorf("%s: %v, %v; want %s", targets[i].Name, tagged.Image.Digest, err, one.Digest())
		}
	}
	made := func(text string) string {
		_, rest, _ := strings.Cut(text, ` made "`)
		id, _, _ := strings.Cut(rest, `"`)
		return id
	}
	if id := made(files[0]); id == "" || id != made(files[1]) {
		t.Errorf("the shared RUN made %q and %q", id, made(files[1]))
	}
	if !strings.Contains(files[0], `web "of web\n"`) || strings.Contains(files[0], "of api") ||
		!strings.Contains(files[1], `api "of api\n"`) || strings.Contains(files[1], "of web") {
		t.Errorf("web:\n%s\napi:\n%s", files[0], files[1])
	}
}

// The same target alone and beside others is the same image.
func TestTargetsAreReproducible(t *testing.T) {
	at := int64(epoch)
	var targets []Target
	for _, name := range []string{"one", "two"} {
		dir := contextOf(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY f /\nWORKDIR /w\n", "f": name})
		targets = append(targets, Target{Name: name, Context: dir, Epoch: &at})
	}
	digests := func(targets ...Target) (all []layer.Digest) {
		b := newBuilder(t, nil)
		s := b.session(options{})
		defer s.Close()
		built, err := s.Build(t.Context(), targets...)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range built {
			all = append(all, one.Digest())
		}
		return all
	}
	both := digests(targets...)
	for i := range targets {
		if alone := digests(targets[i]); alone[0] != both[i] {
			t.Errorf("%s: alone %s, beside another %s", targets[i].Name, alone[0], both[i])
		}
	}
}

// A failed step of one target is reported with the target's name, and ends the others.
func TestTargetThatFails(t *testing.T) {
	good := contextOf(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY f /\n", "f": "x"})
	bad := contextOf(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY nosuch /\n"})
	b := newBuilder(t, nil)
	b.Progress = progress.New(progress.None, &strings.Builder{})
	s := b.session(options{})
	defer s.Close()
	_, err := s.Build(t.Context(), Target{Name: "good", Context: good}, Target{Name: "bad", Context: bad})
	var step *StepError
	if !errors.As(err, &step) || step.Name != "[bad 1/1] COPY nosuch /" {
		t.Errorf("error %v", err)
	}
	if _, err := s.Build(t.Context(), Target{Context: "-"}, Target{Context: good, Dockerfile: "-"}); err == nil || err.Error() != "only one target can read standard input" {
		t.Errorf("two targets with standard input: %v", err)
	}
}

// A target is plain data: it can be written as JSON and read back.
func TestTargetIsPlainData(t *testing.T) {
	var check func(of reflect.Type, path string)
	check = func(of reflect.Type, path string) {
		switch of.Kind() {
		case reflect.Func, reflect.Chan, reflect.Interface, reflect.UnsafePointer:
			t.Errorf("%s is a %s", path, of)
		case reflect.Pointer, reflect.Slice, reflect.Map:
			check(of.Elem(), path)
		case reflect.Struct:
			for i := range of.NumField() {
				f := of.Field(i)
				if !f.IsExported() {
					t.Errorf("%s.%s is not exported", path, f.Name)
				}
				check(f.Type, path+"."+f.Name)
			}
		}
	}
	check(reflect.TypeFor[Target](), "Target")
	at, force := int64(epoch), Compression{Force: true}
	want := Target{
		Name: "web", Context: ".", Contexts: []Context{{Name: "a", Value: "b"}}, Args: map[string]string{"A": "1"}, Epoch: &at,
		Platforms: []layer.Platform{{OS: "linux", Architecture: "arm64"}},
	}
	want.Tags, want.Outputs = []string{"x"}, []Output{{Type: "oci", Dest: "-", Compression: &force}}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Target
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
