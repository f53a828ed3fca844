package builder

import (
	"io"
	"time"

	"github.com/cairn-build/cairn/builder/agent"
	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
)

// Options say what to build, and what to do with it. The zero value of each
// field is what the command line does without its flag.
type Options struct {
	Context    string    // directory, archive or URL; "-": Stdin is an archive, or a Dockerfile without a context
	Dockerfile string    // path; "" is Dockerfile in the context, "-" is Stdin
	Stdin      io.Reader // for "-"
	Contexts   []Context // further ones, which replace stages and images

	Target    string
	Platforms []layer.Platform // none: this machine's; several: an index of images, one for each
	Args      map[string]string
	Labels    map[string]string
	Network   string   // of each RUN: "", "default", "none" or "host"
	AddHosts  []string // name:ip
	NoCache   bool     // no known result is used
	Anew      []string // stages of which none is used
	Pull      bool     // ask the registry even for what the store has
	Epoch     *int64   // SOURCE_DATE_EPOCH, Unix seconds; nil: as build argument, or none
	Jobs      int      // steps at once; 0: one for each processor
	Secrets   []secret.Source
	Agents    []agent.Source // --ssh
	ShmSize   int64          // of the /dev/shm of each RUN, in bytes; 0: 64 MiB
	Ulimits   []plan.Ulimit  // of each RUN
	Limits    cgroup.Limits  // of each RUN; in no key
	// StepTimeout is how long the command of a RUN may take; 0: for ever. It is in
	// no key.
	StepTimeout time.Duration
	Allow       []string // what a RUN may ask for: security.insecure, network.host

	CacheFrom []remote.Where // asked for what the store does not know
	CacheTo   []CacheTo

	CacheMountFrom []remote.Where // what cache mounts begin with that are new here
	CacheMountTo   []CacheTo      // where they are left

	Tags        []string // references; normalised by Build
	Push        bool     // push each tag
	Outputs     []Output
	Annotations []Annotation
	Compression Form      // of the image, and of outputs that say no other
	DockerTypes bool      // docker's media types, not OCI's
	Now         time.Time // zero: the time of the call
}

// Annotation says something of an image beside its config.
type Annotation struct {
	Name, Value string
	Index       bool            // is about the index of several platforms, not about an image
	Descriptor  bool            // goes to what points at the manifest or the index, not into it
	Platform    *layer.Platform // that the image must have; nil: any
}

// Context stands in the place of the stage or image of its name.
type Context struct {
	Name  string // may be for one platform, as in alpine::linux/arm64
	Value string // directory, archive, file or URL; docker-image://REF; oci-layout://DIR[:TAG][@DIGEST]
}

// Output is one form in which to hand the image over.
type Output struct {
	Type string // image, registry, oci, docker, tar or local
	Dest string // file or directory; "-" is Stdout
	// Stdout is what "-" means.
	Stdout io.Writer
	Title  string // what progress calls it; "" is "exporting to TYPE DEST"
	// Unpacked makes type oci a directory rather than an archive (tar=false).
	Unpacked bool
	Names    []string // references beside the tags (name=)
	Push     bool     // of type image: push too
	ByDigest bool     // push under no tag (push-by-digest=true)
	// Split gives each platform a folder of its own (platform-split), in types local
	// and tar. Files of several always have.
	Split bool
	// Canonical keeps the image in the store as name@digest too.
	Canonical bool
	Form      *Form // of its layers; nil: as the image's
}

// Form is how the layers of an image are compressed: with Force those of base images
// too, which otherwise stay as they are.
type Form = worker.Form

// Built is what a build gives.
type Built struct {
	Image    layer.Image // of several platforms the main one
	Set      *layer.Set  // of several platforms
	Tags     []string    // normalised
	Pushed   []string    // those that were pushed
	Warnings []dockerfile.Warning
	File     *dockerfile.File // that they are about
}

// Digest is that of the image, or of the index of several.
func (b *Built) Digest() layer.Digest {
	if b.Set != nil {
		return b.Set.Digest
	}
	return b.Image.Digest
}
