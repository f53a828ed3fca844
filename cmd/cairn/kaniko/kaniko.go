// Package kaniko translates the command lines of kaniko's executor and warmer into builds.
//
// The tables of flags, [ExecutorFlags] and [WarmerFlags], have every flag of both forks
// that are maintained, with its treatment. Each flag sets a field of [Options]; [Options.Plan]
// makes a [Plan] of them, which is plain data, and [Executor] carries it out.
package kaniko

import (
	"time"

	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
)

// Dir is kaniko's own directory, unless --kaniko-dir or $KANIKO_DIR names another.
const Dir = "/kaniko"

// Options are the values of flags and variables.
type Options struct {
	Dockerfile, Context, SubPath, Bucket string
	Git                                  Git
	Destinations                         []string
	Targets                              []string
	Args, Labels                         map[string]string
	Annotations                          map[string]string
	Secrets                              []secret.Source
	Platform                             layer.Platform // zero: this machine's

	NoPush        bool
	TarPath       string
	Layout        string
	DigestFile    string
	NameDigest    string // --image-name-with-digest-file
	NameTagDigest string
	BuilderOutput string // $BUILDER_OUTPUT
	Benchmark     string // $BENCHMARK_FILE

	Cache       bool
	CacheSet    bool // --cache was given
	CacheRepo   string
	NoPushCache bool
	CacheTTL    time.Duration
	CacheDir    string

	Compression    compress.Options
	DockerTypes    bool
	Reproducible   bool
	SingleSnapshot bool
	IgnorePaths    []string
	KanikoDir      string
	DryRun         bool

	Registries
	SkipPushCheck   bool
	IgnoreImmutable bool

	Verbosity, LogFormat string
	LogTimestamp         bool

	Images []string // of the warmer
	Force  bool     // of the warmer

	notices []string
}

// Git are the values of --git.
type Git struct{ Branch string }

// Registries are the options for access to registries.
type Registries struct {
	Insecure         bool     // registries that are pushed to
	InsecurePull     bool     // registries that are pulled from
	InsecureHosts    []string // HOST
	Mirrors          []string // HOST=MIRROR
	MirrorsOnly      bool
	Certificates     []string // HOST=FILE
	ClientCerts      []string // HOST=CERT,KEY
	Retries          int
	Helpers          []string // built-in credential helpers
	helpersWereGiven bool
}

// notice adds a line for the user.
func (o *Options) notice(text string) { o.notices = append(o.notices, text) }

// Treatment is the meaning of a flag in Cairn.
type Treatment string

// Treatments of flags.
const (
	Mapped  Treatment = "mapped"  // a flag of Cairn has the effect
	Done    Treatment = "done"    // the executor has the effect
	Quiet   Treatment = "quiet"   // accepted: it changes nothing here
	Notice  Treatment = "notice"  // accepted with a line about the difference
	Refused Treatment = "refused" // an error
)

// Flag is a flag of a command.
type Flag struct {
	Name, Short string
	Old         string // a deprecated spelling
	Kind        string // of the value; "" for a flag without one, which takes =false
	Default     string
	Usage       string // in the help
	Treatment   Treatment
	Cairn       string // Markdown: the flag of cairn build, or the effect
	Fork        bool   // of osscontainertools' fork only
	Hidden      bool
	Repeated    bool
	Set         func(o *Options, value string) error
}

// NewOptions returns the options of a command line without flags.
func NewOptions() *Options {
	return &Options{
		Dockerfile: "Dockerfile", Context: "/workspace/", Args: map[string]string{}, Labels: map[string]string{}, Annotations: map[string]string{},
		CacheTTL: 14 * 24 * time.Hour, CacheDir: "/cache", Verbosity: "info", LogFormat: "color",
	}
}
