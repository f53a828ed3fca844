package builder

import (
	"strconv"
	"time"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/export"
	"github.com/cairn-build/cairn/builder/input"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/layer"
)

// Target describes an image to build. It is plain data. The zero value of each field is
// the default of cairn build.
type Target struct {
	Name       string    // in the progress display if there are several targets
	Context    string    // directory, archive or URL; "-" is standard input: an archive, or a Dockerfile without a context
	Dockerfile string    // path; "" is Dockerfile or else Containerfile in the context, "-" is standard input
	Inline     string    // text of the Dockerfile; "" is the file
	IgnoreFile string    // path; "" is that of the Dockerfile or the context
	Contexts   []Context // additional contexts, which replace stages and images

	Stage         string           // to build; "" is the last one
	Platforms     []layer.Platform // none: this machine's; several: an index with an image for each
	Args          map[string]string
	Labels        map[string]string
	From          string            // replaces the image of the first FROM
	Env           []dockerfile.Pair // set at the start of each stage
	UnsetEnv      []string          // variables that the image does not have
	UnsetLabels   []string          // labels that are not taken over from base images
	Network       string            // of each RUN: "", "default", "none" or "host"
	AddHosts      []string          // name:ip
	NoHosts       bool              // /etc/hosts of each RUN is the image's
	Groups        []string          // further groups of the user of each RUN
	DropCaps      []string          // capabilities that no RUN has: names without CAP_, sorted
	Volumes       []Volume          // mounted in each RUN
	ShmSize       int64             // of the /dev/shm of each RUN, in bytes; 0: 64 MiB
	Ulimits       []op.Ulimit
	Allow         []string       // privileges that a RUN may request: security.insecure, network.host
	NoCache       bool           // run all steps
	NoCacheFilter []string       // run all steps of these stages
	Pull          bool           // resolve base images in their registry even if the store has them
	PullNewer     bool           // with Pull: use images of the store if their registry does not have them
	PullNever     bool           // use only base images of the store
	Squash        bool           // merge the layers that the build adds
	SquashAll     bool           // merge all layers, those of the base image too
	Epoch         *int64         // SOURCE_DATE_EPOCH, Unix seconds; nil: from the build arguments, if there
	Credentials   *Credentials   // nil: those of the session
	Resources     *cgroup.Limits // of each RUN; nil: those of the session. A step that targets share has those of the first

	export.Options
}

// Context is an additional build context. Its value may be target:NAME, the image of
// another target of the build.
type Context = input.Named

// Volume is a directory or file of this machine that each RUN sees a copy of.
type Volume = plan.Volume

// Output, Annotation and Compression describe the exported images.
type (
	Output      = export.Output
	Annotation  = export.Annotation
	Compression = export.Compression
)

// PushError reports that some of several pushes failed.
type PushError = export.PushError

// Built is the result of a target.
type Built struct {
	Name     string       // of the target
	Image    layer.Image  // of several platforms the default one
	Index    *layer.Index // of several platforms, or of one; nil: a single image
	Tags     []string     // normalised
	Pushed   []string     // references that were pushed
	Warnings []dockerfile.Warning
	File     *dockerfile.File // which the warnings refer to
	Err      error            // if the build went on after the target failed
	Steps    StepCount
	Elapsed  time.Duration // until the layers of the images were there
}

// StepCount counts the steps of a target.
type StepCount struct {
	Ran    int
	Shared int // ran as steps of other targets too, where they are counted
	Cached int // did not have to run
}

// Digest returns the digest of the image, or of the index of several platforms.
func (b *Built) Digest() layer.Digest { return export.Result{Image: b.Image, Index: b.Index}.Digest() }

// platforms returns the platforms to build for; the zero value is this machine's.
func (t *Target) platforms() []layer.Platform {
	if len(t.Platforms) == 0 {
		return []layer.Platform{{}}
	}
	return t.Platforms
}

// MultiPlatform reports whether the result is an index, as the one of several platforms.
func (t *Target) MultiPlatform() (bool, error) {
	return plan.MultiPlatform(t.Args, len(t.platforms()))
}

// inputRequest returns the inputs of the target.
func (t *Target) inputRequest() input.Request {
	keepGit, err := strconv.ParseBool(t.Args["BUILDKIT_CONTEXT_KEEP_GIT_DIR"])
	return input.Request{
		Context: t.Context, Dockerfile: t.Dockerfile, Inline: t.Inline, IgnoreFile: t.IgnoreFile, Named: t.Contexts, Frontend: t.frontend(),
		KeepGitDir: err == nil && keepGit,
		CommitTime: t.Epoch != nil || t.Args["SOURCE_DATE_EPOCH"] != "",
	}
}

// frontend returns the build arguments that affect how the Dockerfile is read.
func (t *Target) frontend() (out dockerfile.Options) {
	if v, ok := t.Args["BUILDKIT_DOCKERFILE_CHECK"]; ok {
		out.Check = &v
	}
	if v, ok := t.Args["BUILDKIT_SYNTAX"]; ok {
		out.Syntax = &v
	}
	return out
}

// planInput returns the input of the plan, without the functions that resolve images.
func (t *Target) planInput(in *input.Inputs) plan.Input {
	return plan.Input{
		File: in.File, Target: t.Stage, Platform: t.platforms()[0], Args: t.Args, Labels: t.Labels,
		Network: t.Network, AddHosts: t.AddHosts, NoHosts: t.NoHosts, Groups: t.Groups, DropCaps: t.DropCaps, Volumes: t.Volumes, ShmSize: t.ShmSize, Ulimits: t.Ulimits, Allow: t.Allow,
		UnsetEnv: t.UnsetEnv, UnsetLabels: t.UnsetLabels,
		NoCache: t.NoCache, NoCacheFilter: t.NoCacheFilter, Epoch: t.Epoch,
		Named: in.Named(), EpochOf: in.EpochOf, Ignored: in.Ignored,
	}
}

// wantsInlineCache reports whether the build arguments ask for an inline cache, as older
// versions of BuildKit did.
func (t *Target) wantsInlineCache() bool {
	on, err := strconv.ParseBool(t.Args["BUILDKIT_INLINE_CACHE"])
	return err == nil && on
}
