package plan

import (
	"testing"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
)

// Steps that do not look at their target are one step for all of them.
func TestMakeEach(t *testing.T) {
	t.Parallel()
	f, err := dockerfile.Parse("Dockerfile", []byte(`FROM --platform=$BUILDPLATFORM busybox AS build
RUN shared
ARG TARGETARCH
RUN each
FROM scratch
COPY --from=build /a /
`))
	if err != nil {
		t.Fatal(err)
	}
	arm64 := layer.Platform{OS: "linux", Architecture: "arm64"}
	plans, err := MakeEach(t.Context(), input(t, f, options{}), []layer.Platform{amd64, arm64})
	if err != nil {
		t.Fatal(err)
	}
	steps := map[*solve.Step]int{}
	names := map[string]int{}
	for i, p := range plans {
		if got := p.Config.Architecture; got != []string{"amd64", "arm64"}[i] {
			t.Errorf("plan %d is for %s", i, got)
		}
		for _, info := range p.Steps {
			steps[info.Step]++
			names[info.Name] = steps[info.Step]
		}
	}
	if plans[0].Root == plans[1].Root {
		t.Error("both have one root")
	}
	for name, want := range map[string]int{
		"[linux/amd64 build 2/3] RUN shared": 2, "[linux/amd64 build 3/3] RUN each": 1, "[linux/amd64->arm64 build 3/3] RUN each": 1,
	} {
		if names[name] != want {
			t.Errorf("%s is a step of %d plans, want %d: %v", name, names[name], want, names)
		}
	}
}
