// Package plan turns a Dockerfile into a graph of steps and the configuration
// of the image that they make.
//
// It is a pure function of the Dockerfile and the build's options but for one
// question that it asks: what a base image is ([Input].Base). Nothing is read,
// pulled or run. The semantics are those of BuildKit's Dockerfile frontend,
// v0.34: what is in the environment, which stages are needed, what the history
// says, how steps are named.
//
// Each instruction that changes files (FROM an image, COPY, ADD, RUN, WORKDIR)
// becomes a [solve.Step] whose Op is the JSON of an [Op]; everything else only
// changes the configuration that later steps carry. A step holds nothing that
// does not influence its result: no names, no line numbers, no proxies, no
// registry references. Names and lines are in [StepInfo].
package plan

import (
	"context"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// Input is what a plan is made from.
type Input struct {
	File   *dockerfile.File
	Target string // name of the stage to build; "" is the last; an index is one too

	// Platform is what to build for. The zero value means BuildPlatform, or
	// what the base image has when it is for another one.
	Platform      layer.Platform
	BuildPlatform layer.Platform // what it is built on; the zero value is this machine
	MultiPlatform bool           // several are built at once: steps are named with theirs

	Args     map[string]string // --build-arg
	Labels   map[string]string // --label
	Network  string            // of every RUN that has no --network: "", "default", "none" or "host"
	AddHosts []string          // name:ip
	ShmSize  int64             // of every RUN's /dev/shm, in bytes; 0 is the sandbox's default
	Ulimits  []Ulimit          // of every RUN
	Allow    []string          // what a RUN may ask for: security.insecure, network.host
	NoCache  bool              // every step is Fresh: no known result is used
	Anew     []string          // stages whose steps are Fresh
	Epoch    *int64            // SOURCE_DATE_EPOCH in seconds; nil: Args and the Dockerfile may have one

	// Full gives an image's reference in full as it is written in a FROM or COPY
	// --from; nil: as docker does.
	Full func(ctx context.Context, name string) (string, error)

	// Base tells what an image is on a platform. ref is normalised. It may be
	// called concurrently, once for each pair. Its error is shown with the line
	// that names the image. An image without a Config is one that nothing is
	// known of, which will do for [Check] and [Describe].
	Base func(ctx context.Context, ref string, p layer.Platform) (layer.Image, error)

	// EpochOf gives the time of a source in Unix seconds: that of a commit, what
	// a server says, or that of an archive's youngest file. nil: it has none. It
	// is asked when SOURCE_DATE_EPOCH is the name of a source.
	EpochOf func(ctx context.Context, s EpochSource) (*int64, error)

	// Named has what stands in the place of stages and images, by the names that
	// [ContextName] gives.
	Named map[string]Named

	// Ignored, if set, tells whether the context's ignore file leaves out a path
	// of a COPY for certain. It serves a warning only.
	Ignored func(path string) bool
}

// Plan is what to do.
type Plan struct {
	Stages []StageInfo // those that the target needs, in order
	Root   *solve.Step // the target's tree; nil: it has no layer

	// Config is the image's configuration, with its history (the entries that
	// are not EmptyLayer are the layers, bottom first). Its rootfs has no diff
	// IDs yet; created is set only with an epoch.
	Config   dockerspec.DockerOCIImage
	Base     *layer.Image // what the target was built from, in the end; nil: scratch
	Epoch    *int64       // the epoch in force, wherever it came from
	Steps    []*StepInfo  // what people see, in order of the Dockerfile, reachable ones only
	Warnings []Warning
}

// StageInfo is a stage of the Dockerfile, or an image named by COPY --from.
type StageInfo struct {
	Index    int    // among all stages of the Dockerfile; -1 for an image of COPY --from
	Name     string // as people see it: stage-0 when it has none, "" when it is the only one
	Base     string // stage or image, normalised, after expansion
	Platform layer.Platform
	Root     *solve.Step
	Ranges   []dockerfile.Range
}

// StepInfo is how a step is shown. Two of them may share a Step (two stages
// FROM one image), and a step may have none (contexts, scratch, [Stack]).
type StepInfo struct {
	Step    *solve.Step
	Name    string // "[build 2/4] RUN make"
	Stage   string
	Ranges  []dockerfile.Range
	History int // its entry in its stage's history, thus in Plan.Config.History for the target's; -1: none
}

// Warning is advice of the linter, or of the planner itself (then Rule is
// "UnusedBuildArg").
type Warning = dockerfile.Warning
