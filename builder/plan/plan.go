// Package plan turns a Dockerfile into a graph of steps and the configuration
// of the image that they make.
//
// It is a pure function of the Dockerfile and the build's options, apart from
// looking up base images with [Input].Base. It reads, pulls and runs nothing. The
// environment, the needed stages, the history and the names of steps are those of
// BuildKit's Dockerfile frontend, v0.34.
//
// Each instruction that changes files (FROM an image, COPY, ADD, RUN, WORKDIR)
// becomes a [solve.Step] with an [op.Op]. All others only change the image's
// configuration. A step holds nothing that does not influence its result: no
// names, line numbers, proxies or registry references. Names and lines are in
// [StepInfo].
package plan

import (
	"context"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// Input holds the Dockerfile and the options of a plan.
type Input struct {
	File   *dockerfile.File
	Target string // name or index of the stage to build; "" is the last one

	// Platform is the platform of the image. The zero value means BuildPlatform, or
	// the platform of the base image if that differs.
	Platform      layer.Platform
	BuildPlatform layer.Platform // of the machine that builds; the zero value is this machine
	MultiPlatform bool           // the result is an index: names of steps contain their platform

	Args          map[string]string // --build-arg
	Labels        map[string]string // --label
	UnsetEnv      []string          // variables that the image does not have
	UnsetLabels   []string          // labels that are not taken over from base images
	Network       string            // of each RUN without --network: "", "default", "none" or "host"
	AddHosts      []string          // name:ip
	NoHosts       bool              // /etc/hosts of each RUN is the image's
	Groups        []string          // further groups of the user of each RUN
	DropCaps      []string          // capabilities that no RUN has: names without CAP_, sorted
	Volumes       []Volume          // mounted in each RUN
	ShmSize       int64             // of each RUN's /dev/shm in bytes; 0 is the sandbox's default
	Ulimits       []op.Ulimit       // of each RUN
	Allow         []string          // privileges that a RUN may request: security.insecure, network.host
	NoCache       bool              // --no-cache: run every step
	NoCacheFilter []string          // --no-cache-filter: names of stages whose steps are run
	Epoch         *int64            // SOURCE_DATE_EPOCH in seconds; nil: as in Args or the Dockerfile

	// Full returns the full reference for an image name in a FROM or COPY --from.
	// If it is nil, names are completed as docker does.
	Full func(ctx context.Context, name string) (string, error)

	// Base returns the image of a normalised reference for a platform. It is called
	// concurrently, once for each pair. Its error is shown with the line that names
	// the image. For [Check] and [Describe] it may return an image without a Config,
	// of which nothing is known.
	Base func(ctx context.Context, ref string, p layer.Platform) (layer.Image, error)

	// EpochOf returns the time of a source in Unix seconds: of a commit, of the
	// server's Last-Modified, or of the newest file in an archive; nil if it has
	// none. It is called if SOURCE_DATE_EPOCH is the name of a source.
	EpochOf func(ctx context.Context, s EpochSource) (*int64, error)

	// Named holds the replacements of stages and images by [ContextName].
	Named map[string]Named

	// Linked returns the plan of another target for a platform. It is called
	// concurrently. Its error is shown with the line that uses the target. It is
	// needed only if there are names of targets in Named or from TargetOf.
	Linked func(ctx context.Context, target string, p layer.Platform) (*Plan, error)

	// TargetOf, if set, returns the name of the target that makes the image of a
	// normalised reference, or "".
	TargetOf func(ref string) string

	// Ignored, if set, reports whether the context's ignore file certainly excludes
	// a path of a COPY. It is used for a warning only.
	Ignored func(path string) bool
}

// Volume is a directory or file of this machine that is mounted in each RUN. A RUN sees a
// copy of the files.
type Volume struct {
	Dir      string // the directory; the context of its files has the name VolumeContext+Dir
	Source   string // in Dir: absolute and clean
	Target   string // absolute
	Writable bool   // writes are possible, and discarded
}

// VolumeContext begins the names of contexts of volumes. A named context can't have such
// a name.
const VolumeContext = "volume "

// Plan is the graph of steps that build an image, and the image's configuration.
type Plan struct {
	Stages []StageInfo // needed by the target, in order
	Root   *solve.Step // the target's tree; nil if it has no layers

	// Config is the image's configuration, with its history (the entries that
	// are not EmptyLayer are the layers, bottom first). Its rootfs has no diff
	// IDs yet; created is set only with an epoch.
	Config   dockerspec.DockerOCIImage
	Base     *layer.Image   // at the bottom of the target's bases; nil: scratch
	Platform layer.Platform // of the image, with a version of the operating system only if one was requested
	Epoch    *int64         // in effect, from an option, an argument or an ARG
	Steps    []*StepInfo    // for display, in the order of the Dockerfile; needed ones only
	Linked   []*solve.Step  // roots of the plans of other targets that it builds on
	Warnings []Warning
}

// StageInfo is a stage of the Dockerfile, or an image named by COPY --from.
type StageInfo struct {
	Index    int    // among all stages of the Dockerfile; -1 for an image of COPY --from
	Name     string // for display: stage-0 if it has none, "" if it is the only one
	Base     string // stage or image, normalised, after expansion
	Platform layer.Platform
	Root     *solve.Step
	Ranges   []dockerfile.Range
}

// StepInfo is the display of a step. Two of them may share a Step (two stages FROM
// one image), and a step may have none (contexts, scratch, [op.Stack]).
type StepInfo struct {
	Step    *solve.Step
	Name    string // "[build 2/4] RUN make"
	Stage   string
	Ranges  []dockerfile.Range
	History int    // index of its entry in the history of its stage, Plan.Config.History for the target; -1: none
	Shell   op.Run // a RUN without a command and mounts in its place; of a FROM the zero value
}

// Warning is a warning of the linter or, with the Rule "UnusedBuildArg", of the
// planner.
type Warning = dockerfile.Warning
