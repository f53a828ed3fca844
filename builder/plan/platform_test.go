package plan

import (
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
)

// The image has the platform of the build if one was given, and that of its base image
// otherwise.
func TestImagePlatform(t *testing.T) {
	t.Parallel()
	platform := func(_ *testing.T, p *Plan) string {
		return p.Config.OS + "/" + p.Config.Architecture + "/" + p.Config.Variant
	}
	checkPlans(t, platform, []planCase{
		{name: "default", text: "FROM scratch\n", want: "linux/amd64/"},
		{name: "given", text: "FROM scratch\n", options: `{"Platform":"linux/arm/v6"}`, want: "linux/arm/v6"},
		{name: "variant is normalised", text: "FROM scratch\n", options: `{"Platform":"linux/arm64/v8"}`, want: "linux/arm64/"},
		{name: "of the base image", text: "FROM amd\n", options: `{"Build":"linux/arm64"}`, want: "linux/amd64/"},
		{name: "given before the base image's", text: "FROM amd\n", options: `{"Platform":"linux/arm/v7"}`, want: "linux/arm/v7"},
		{name: "of the FROM", text: "FROM --platform=linux/s390x busybox\n", want: "linux/s390x/"},
		{name: "given before the FROM's", text: "FROM --platform=linux/s390x busybox\n", options: `{"Platform":"linux/amd64"}`, want: "linux/amd64/"},
		{name: "named context", text: "FROM x\n", options: `{"Platform":"linux/arm64","Named":{"x":""}}`, want: "linux/arm64/"},
	})
}

// A RUN runs on the platform of its stage.
func TestRunPlatform(t *testing.T) {
	t.Parallel()
	platform := func(t *testing.T, p *Plan) string {
		t.Helper()
		return lastRun(t, p).Platform
	}
	checkPlans(t, platform, []planCase{
		{name: "of the image", text: "FROM busybox\nRUN x\n", options: `{"Platform":"linux/arm64"}`, want: "linux/arm64"},
		{name: "build platform", text: "FROM --platform=$BUILDPLATFORM busybox\nRUN x\n", options: `{"Platform":"linux/arm64"}`, want: "linux/amd64"},
		{name: "of the stage below", text: "FROM --platform=linux/s390x busybox AS a\nFROM a\nRUN x\n", want: "linux/s390x"},
		{name: "ignored on top of a stage", text: "FROM busybox AS a\nFROM --platform=linux/s390x a\nRUN x\n", want: "linux/amd64"},
		{name: "on files", text: "FROM x\nRUN x\n", options: `{"Platform":"linux/arm64","Named":{"x":""}}`, want: "linux/arm64"},
	})
}

func TestCrossTarget(t *testing.T) {
	t.Parallel()
	arm := layer.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	for _, test := range []struct {
		name string
		base layer.Platform
		vars string
		want string
	}{
		{"no variables", amd64, "", ""},
		{"same platform", amd64, "TARGETPLATFORM=linux/amd64", ""},
		{"other platform", amd64, "TARGETPLATFORM=linux/arm64", "->arm64"},
		{"with a variant", amd64, "TARGETPLATFORM=linux/arm/v6", "->arm/v6"},
		{"other system", amd64, "TARGETPLATFORM=freebsd/amd64", "->freebsd/amd64"},
		{"architecture alone", amd64, "TARGETARCH=riscv64", "->riscv64"},
		{"architecture and variant", amd64, "TARGETARCH=arm TARGETVARIANT=v6", "->arm/v6"},
		{"variant alone", amd64, "TARGETVARIANT=v6", ""},
		{"empty architecture", amd64, "TARGETARCH=", ""},
		{"not a platform", amd64, "TARGETPLATFORM=a/b/c/d", ""},
		{"platform before architecture", amd64, "TARGETPLATFORM=linux/amd64 TARGETARCH=arm64", ""},
		{"other variant only", arm, "TARGETPLATFORM=linux/arm/v6", ""},
	} {
		var e env
		for kv := range strings.FieldsSeq(test.vars) {
			k, v, _ := strings.Cut(kv, "=")
			e.set(k, v)
		}
		if got := crossTarget(test.base, &e); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestMakeEachNames(t *testing.T) {
	t.Parallel()
	f := parse(t, "FROM busybox AS b\nRUN x\n")
	arm64 := layer.Platform{OS: "linux", Architecture: "arm64"}
	for _, test := range []struct {
		platforms []layer.Platform
		want      string
	}{
		{[]layer.Platform{amd64}, "[2/2] RUN x"}, // one platform is not shown
		{[]layer.Platform{amd64, arm64}, "[linux/amd64 2/2] RUN x, [linux/arm64 2/2] RUN x"},
		{nil, ""},
	} {
		plans, err := MakeEach(t.Context(), input(t, f, options{}), test.platforms)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range plans {
			names = append(names, p.Steps[len(p.Steps)-1].Name)
		}
		if got := strings.Join(names, ", "); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
	if _, err := MakeEach(t.Context(), input(t, parse(t, "FROM missing\n"), options{}), []layer.Platform{amd64, arm64}); err == nil {
		t.Error("a missing image is no error")
	}
}

// Steps are shared only if all that makes up their key, and their inputs, are equal.
func TestInterner(t *testing.T) {
	t.Parallel()
	step := func(dir string, noCache bool, below *solve.Step) *solve.Step {
		s := op.NewStep(op.Workdir{Path: dir}, solve.Input{Step: below})
		s.NoCache = noCache
		return s
	}
	scratch := func() *solve.Step { return op.NewStep(op.Scratch{}) }
	n := NewInterner()
	intern := func(s *solve.Step) *solve.Step { return n.step(s, map[*solve.Step]*solve.Step{}) }
	first := intern(step("/a", false, scratch()))
	for _, test := range []struct {
		name string
		step *solve.Step
		same bool
	}{
		{"equal", step("/a", false, scratch()), true},
		{"other directory", step("/b", false, scratch()), false},
		{"without cache", step("/a", true, scratch()), false},
		{"other input", step("/a", false, step("/a", false, scratch())), false},
	} {
		if got := intern(test.step); (got == first) != test.same {
			t.Errorf("%s: shared %t, want %t", test.name, got == first, test.same)
		}
	}
	if intern(nil) != nil {
		t.Error("scratch has a step")
	}
}

func TestMultiPlatform(t *testing.T) {
	t.Parallel()
	const name = "BUILDKIT_MULTI_PLATFORM"
	for _, test := range []struct {
		value string
		n     int
		want  bool
		err   string
	}{
		{"", 1, false, ""},
		{"", 2, true, ""},
		{"1", 1, true, ""},
		{"true", 2, true, ""},
		{"0", 1, false, ""},
		{"false", 2, false, "build argument BUILDKIT_MULTI_PLATFORM=false: an image of 2 platforms is always an index: leave it out, or build for one platform"},
		{"x", 1, false, "build argument BUILDKIT_MULTI_PLATFORM=x: want a boolean"},
	} {
		got, err := MultiPlatform(map[string]string{name: test.value}, test.n)
		if got != test.want || err == nil && test.err != "" || err != nil && err.Error() != test.err {
			t.Errorf("%q of %d platforms: %v, %v", test.value, test.n, got, err)
		}
	}
	made, err := MakeEach(t.Context(), Input{File: parse(t, "FROM scratch\nCOPY a /\n"), Args: map[string]string{name: "1"}}, []layer.Platform{{OS: "windows", Architecture: "amd64", OSVersion: "1.2.3"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := made[0].Steps[0].Name; got != "[windows(1.2.3)/amd64 1/1] COPY a /" {
		t.Errorf("step %q", got)
	}
	if got := made[0].Platform.Full(); got != "windows(1.2.3)/amd64" {
		t.Errorf("platform %s", got)
	}
}
