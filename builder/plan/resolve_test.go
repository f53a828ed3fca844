package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/layer"
)

// asked collects the questions to Input.Base.
type asked struct {
	mu   sync.Mutex
	refs []string
}

func (a *asked) base(ctx context.Context, ref string, p layer.Platform) (layer.Image, error) {
	a.mu.Lock()
	a.refs = append(a.refs, ref+" "+p.String())
	a.mu.Unlock()
	return testBase(ctx, "docker.io/library/busybox:latest", p)
}

func parse(t testing.TB, text string) *dockerfile.File {
	t.Helper()
	f, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The references that Base is asked for are normalised, and those of --build-context
// as they were given.
func TestBaseReferences(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("0", 64)
	for _, test := range []struct {
		name, text string
		named      map[string]string
		want       string
	}{
		{"short", "FROM alpine\n", nil, "docker.io/library/alpine:latest linux/amd64"},
		{"with a user", "FROM a/b:1\n", nil, "docker.io/a/b:1 linux/amd64"},
		{"with a host", "FROM r.example:5000/a\n", nil, "r.example:5000/a:latest linux/amd64"},
		{"with a digest", "FROM alpine@" + digest + "\n", nil, "docker.io/library/alpine@" + digest + " linux/amd64"},
		{"with a platform", "FROM --platform=linux/arm64 alpine\n", nil, "docker.io/library/alpine:latest linux/arm64"},
		{"of COPY", "FROM scratch\nCOPY --from=alpine:3 / /\n", nil, "docker.io/library/alpine:3 linux/amd64"},
		{"of a mount", "FROM scratch\nRUN --mount=from=alpine:3,target=/m x\n", nil, "docker.io/library/alpine:3 linux/amd64"},
		{"scratch", "FROM scratch\n", nil, ""},
		{"Scratch is an image name", "FROM scratch:1\n", nil, "docker.io/library/scratch:1 linux/amd64"},
		{"not needed", "FROM alpine AS a\nFROM scratch\n", nil, ""},
		{"named", "FROM alpine\n", map[string]string{"alpine": "r.example/b:2"}, "r.example/b:2 linux/amd64"},
		{"named with another tag", "FROM alpine:3\n", map[string]string{"alpine": "r.example/b:2"}, "docker.io/library/alpine:3 linux/amd64"},
		{"named in full", "FROM docker.io/library/alpine\n", map[string]string{"alpine": "r.example/b:2"}, "r.example/b:2 linux/amd64"},
		{"named for this platform", "FROM alpine\n", map[string]string{"alpine::linux/amd64": "a://b"}, "a://b linux/amd64"},
		{"named for another platform", "FROM alpine\n", map[string]string{"alpine::linux/arm64": "a://b"}, "docker.io/library/alpine:latest linux/amd64"},
		{"stage of a name", "FROM alpine AS a\nRUN x\nFROM a\n", map[string]string{"a": "r.example/b:2"}, "r.example/b:2 linux/amd64"},
		{"files", "FROM alpine\n", map[string]string{"alpine": ""}, ""},
		{"scratch by name", "FROM alpine\n", map[string]string{"alpine": "scratch"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var a asked
			in := input(t, parse(t, test.text), options{Named: test.named})
			in.Base = a.base
			if _, err := Make(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(a.refs, ", "); got != test.want {
				t.Errorf("asked for %q, want %q", got, test.want)
			}
		})
	}
}

// Full completes short names as the caller's registry configuration has it.
func TestFullName(t *testing.T) {
	t.Parallel()
	var a asked
	var names []string
	in := input(t, parse(t, "FROM alpine AS a\nFROM alpine\nCOPY --from=tools / /\nCOPY --from=a / /\n"), options{Named: map[string]string{"tools": "a://b"}})
	in.Base = a.base
	in.Full = func(_ context.Context, name string) (string, error) {
		names = append(names, name)
		return "mirror.example/" + name + ":latest", nil
	}
	p, err := Make(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(a.refs)
	if got := strings.Join(a.refs, ", "); got != "a://b linux/amd64, mirror.example/alpine:latest linux/amd64" {
		t.Errorf("asked for %s", got)
	}
	if got := strings.Join(names, " "); got != "alpine alpine" {
		t.Errorf("names to complete: %s, want only those without a --build-context", got)
	}
	if p.Stages[0].Base != "mirror.example/alpine:latest" {
		t.Errorf("the base is shown as %s", p.Stages[0].Base)
	}
}

func TestFullNameError(t *testing.T) {
	t.Parallel()
	in := input(t, parse(t, "FROM scratch\nFROM scratch\nCOPY --from=tools / /\n"), options{})
	ambiguous := errors.New("short name is ambiguous")
	in.Full = func(context.Context, string) (string, error) { return "", ambiguous }
	_, err := Make(t.Context(), in)
	if !errors.Is(err, ambiguous) || err.Error() != "Dockerfile:3: short name is ambiguous" {
		t.Errorf("error %v", err)
	}
}

// A base without a Config has unknown variables: Check and Describe go on with an
// empty configuration.
func TestUnknownBase(t *testing.T) {
	t.Parallel()
	in := input(t, parse(t, "FROM private/image\nARG A=1\nENV B=$A C=$HOME\nWORKDIR rel\n"), options{})
	in.Base = func(context.Context, string, layer.Platform) (layer.Image, error) { return layer.Image{}, nil }
	warnings, err := Check(t.Context(), in)
	if got := rules(warnings); err != nil || got != "WorkdirRelativePath" {
		t.Errorf("warnings %s, error %v", got, err)
	}
	out, err := Describe(t.Context(), in)
	if err != nil || len(out.Args) != 1 || out.Args[0].Name != "A" {
		t.Errorf("outline %+v, error %v", out, err)
	}
}

func TestBaseConfig(t *testing.T) {
	t.Parallel()
	const text = "FROM any\nRUN x\n"
	for _, test := range []struct{ name, config, want string }{
		{"relative directory", `{"config":{"WorkingDir":"a/b"}}`, "/a/b/a/b"}, // as BuildKit joins it
		{"absolute directory", `{"config":{"WorkingDir":"/a/b"}}`, "/a/b"},
		{"no directory", `{"config":{}}`, "/"},
		{"no config", `{}`, "/"},
		{"directory with dots", `{"config":{"WorkingDir":"/a/../b/."}}`, "/b"},
	} {
		in := input(t, parse(t, text), options{})
		in.Base = func(context.Context, string, layer.Platform) (layer.Image, error) {
			return layer.Image{Config: []byte(test.config)}, nil
		}
		p, err := Make(t.Context(), in)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if got := lastRun(t, p).Dir; got != test.want {
			t.Errorf("%s: the command runs in %s, want %s", test.name, got, test.want)
		}
	}
}

// The steps of one image on one platform are one step, with all of its layers.
func TestImageStep(t *testing.T) {
	t.Parallel()
	p := mustPlan(t, "FROM debian:12 AS a\nFROM debian:12\nCOPY --from=a / /\n", nil)
	from, to := p.Root.In[1].Step, p.Root.In[0].Step
	if from != to {
		t.Error("the image has two steps")
	}
	o, err := op.Decode(to)
	if err != nil {
		t.Fatal(err)
	}
	image, ok := o.(op.Image)
	if !ok || len(image.DiffIDs) != 2 || image.DiffIDs[0] == image.DiffIDs[1] || len(image.Extra.Layers) != 2 {
		t.Errorf("got %+v", o)
	}
	named := mustPlan(t, "FROM base\n", func(in *Input) { in.Named = map[string]Named{"base": {Image: "oci-layout://dir:v1"}} })
	o, err = op.Decode(named.Root)
	if image, ok := o.(op.Image); err != nil || !ok || image.Extra.Ref != "" {
		t.Errorf("an image of a directory has a registry reference: %+v, %v", o, err)
	}
}

// A plan has its own copy of the base image's configuration.
func TestCloneConfig(t *testing.T) {
	t.Parallel()
	a := mustPlan(t, "FROM full AS base\nFROM base AS a\nENV A=1 B=2\nEXPOSE 1\nVOLUME /w\nLABEL a=b\nSHELL [\"x\"]\nUSER u\nHEALTHCHECK NONE\nFROM base\nCOPY --from=a / /\n", nil)
	b := mustPlan(t, "FROM full\n", nil)
	got, want := a.Config.Config, b.Config.Config
	if fmt.Sprint(got.Env, got.ExposedPorts, got.Volumes, got.Labels, got.Shell, got.User, *got.Healthcheck) !=
		fmt.Sprint(want.Env, want.ExposedPorts, want.Volumes, want.Labels, want.Shell, want.User, *want.Healthcheck) {
		t.Errorf("the stage beside it changed the configuration:\n%+v\n%+v", got, want)
	}
}

func TestTriggers(t *testing.T) {
	t.Parallel()
	checkPlans(t, historyView, []planCase{
		{name: "of a stage", text: "FROM bare AS a\nENV A=1\nONBUILD RUN echo $A\nRUN x\nFROM a\nRUN y\n",
			want: "- ENV A=1\nL RUN /bin/sh -c x # buildkit\nL RUN /bin/sh -c echo $A # buildkit\nL RUN /bin/sh -c y # buildkit\n"},
		{name: "only for the next stage", text: "FROM bare AS a\nONBUILD ENV A=1\nFROM a AS b\nFROM b\nENV B=1\n", want: "- ENV A=1\n- ENV B=1\n"},
		{name: "copied stages run none", text: "FROM bare AS a\nONBUILD ENV A=1\nFROM bare\nCOPY --from=a / /\n", want: "L COPY / / # buildkit\n"},
		{name: "of the image, once", text: "FROM onbuild AS a\nFROM a\nENV B=1\n",
			want: "- ENV FROM_TRIGGER=1\nL COPY /bin/sh /sh # buildkit\nL RUN /bin/sh -c make # buildkit\n- ENV B=1\n"},
		{name: "stage number in a trigger", text: "FROM bare AS a\nWORKDIR /w\nFROM bare AS b\nONBUILD COPY --from=0 / /\nFROM b\n", want: "L COPY / / # buildkit\n"},
		{name: "circle", text: "FROM bare AS b\nONBUILD COPY --from=c / /\nFROM b AS c\n", err: "Dockerfile:3: circular dependency detected on stage: c"},
		{name: "bad stage number", text: "FROM bare AS b\nONBUILD COPY --from=9 / /\nFROM b\n", err: "Dockerfile:3: invalid stage index 9"},
		{name: "error in a trigger", text: "FROM bare AS b\nONBUILD STOPSIGNAL NONE\nFROM b\n", err: "Dockerfile:3: invalid signal: NONE (did you mean CONT?)"},
	})
}
