package kaniko

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/auth/native"
	"github.com/cairn-build/cairn/registry/reference"
)

// Plan is a build, as plain data.
type Plan struct {
	Target   builder.Target // its Context and Dockerfile are those of the command line
	Context  Context
	Session  builder.SessionOptions
	Registry Registries
	Files    Files
	Notices  []string

	Progress   progress.Mode
	Timestamps bool
	Dir        string // for credentials and the store; "": kaniko's own
	Trace      string

	CacheDir        string // of the warmer
	CacheTTL        time.Duration
	IgnorePaths     []string // that would not have been in the image
	CheckPush       bool
	IgnoreImmutable bool
	DryRun          bool
}

// Environment applies the variables of kaniko. lookup is like os.LookupEnv.
func (o *Options) Environment(lookup func(string) (string, bool)) error {
	if text, ok := lookup("KANIKO_NO_PUSH"); ok && text != "" {
		on, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("$KANIKO_NO_PUSH is %q: want true or false", text)
		}
		o.NoPush = on
	}
	mirrors, _ := lookup("KANIKO_REGISTRY_MIRROR")
	for mirror := range strings.FieldsFuncSeq(mirrors, func(r rune) bool { return r == ',' || r == ' ' }) {
		o.Mirrors = append(o.Mirrors, "docker.io="+mirror)
	}
	if text, _ := lookup("KANIKO_REGISTRY_MAP"); text != "" {
		if err := setMap(o, text); err != nil {
			return fmt.Errorf("$KANIKO_REGISTRY_MAP: %w", err)
		}
	}
	if dir, _ := lookup("KANIKO_DIR"); dir != "" && o.KanikoDir == "" {
		o.KanikoDir = dir
	}
	if o.BuilderOutput, _ = lookup("BUILDER_OUTPUT"); o.BuilderOutput != "" {
		o.BuilderOutput = filepath.Join(o.BuilderOutput, "images")
	}
	if o.Benchmark, _ = lookup("BENCHMARK_FILE"); o.Benchmark == "false" {
		o.Benchmark = ""
	}
	if strings.Contains(o.Benchmark, "://") {
		return fmt.Errorf("$BENCHMARK_FILE is %s: want a file", o.Benchmark)
	}
	if o.Benchmark != "" {
		o.notice("$BENCHMARK_FILE gets the timeline of the build, in the format of chrome://tracing")
	}
	return gitEnvironment(o, lookup)
}

// gitEnvironment makes $GIT_TOKEN, or $GIT_USERNAME and $GIT_PASSWORD, the credentials for
// the host of the context.
func gitEnvironment(o *Options, lookup func(string) (string, bool)) error {
	user, _ := lookup("GIT_USERNAME")
	password, _ := lookup("GIT_PASSWORD")
	if token, _ := lookup("GIT_TOKEN"); token != "" {
		user, password = token, ""
	}
	scheme, _ := lookup("GIT_PULL_METHOD")
	switch scheme {
	case "", "https", "http":
	default:
		return fmt.Errorf("$GIT_PULL_METHOD is %q: want https or http", scheme)
	}
	at, err := ParseContext(o.Context, o.Bucket, cmp.Or(scheme, "https"), o.Git.Branch)
	if err != nil {
		return err
	}
	if user != "" && at.Kind == Repository {
		o.Secrets = append(o.Secrets, secret.Source{ID: "GIT_AUTH_HEADER." + at.host(), Text: basic(user, password)})
	}
	return nil
}

// Plan returns the build that the options describe.
func (o *Options) Plan(lookup func(string) (string, bool)) (*Plan, error) {
	if err := o.Environment(lookup); err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	scheme, _ := lookup("GIT_PULL_METHOD")
	at, err := ParseContext(o.Context, o.Bucket, cmp.Or(scheme, "https"), o.Git.Branch)
	if err != nil {
		return nil, err
	}
	at.Sub = o.SubPath
	p := &Plan{
		Context: at, Registry: o.Registries, Timestamps: o.LogTimestamp && o.LogFormat != "json", Dir: o.KanikoDir, Trace: o.Benchmark,
		CacheDir: o.CacheDir, CacheTTL: o.CacheTTL, IgnorePaths: o.IgnorePaths,
		CheckPush: !o.SkipPushCheck, IgnoreImmutable: o.IgnoreImmutable, DryRun: o.DryRun,
		Files: Files{Digest: o.DigestFile, Name: o.NameDigest, NameTag: o.NameTagDigest, Output: o.BuilderOutput, Destinations: o.Destinations},
	}
	p.Progress = o.progress()
	o.setRegistries(p)
	o.setTarget(p)
	if err := o.setCache(p); err != nil {
		return nil, err
	}
	p.Notices = o.notices
	return p, nil
}

// check checks the options against each other.
func (o *Options) check() error {
	switch {
	case len(o.Targets) > 1:
		return fmt.Errorf("--target was given %d times: build each stage by a run of its own", len(o.Targets))
	case len(o.Destinations) == 0 && !o.NoPush && !o.DryRun:
		return errors.New("there is no --destination to push to: add one, or --no-push")
	case len(o.Destinations) == 0 && o.NameDigest != "":
		return errors.New("--image-name-with-digest-file needs a --destination")
	case len(o.Destinations) == 0 && o.NameTagDigest != "":
		return errors.New("--image-name-tag-with-digest-file needs a --destination")
	}
	return nil
}

// unset is the name of an image without a destination in an archive.
const unset = "unset-repo/unset-image-name:latest"

func (o *Options) setTarget(p *Plan) {
	t := &p.Target
	t.Dockerfile, t.Args, t.Labels = o.Dockerfile, o.Args, o.Labels
	if len(o.Targets) > 0 {
		t.Stage = o.Targets[0]
	}
	if o.Platform.OS != "" {
		t.Platforms = []layer.Platform{o.Platform}
	}
	t.Tags, t.Push, t.NoStore = slices.Clone(o.Destinations), !o.NoPush && len(o.Destinations) > 0, true
	t.Unchecked = o.SkipPushCheck
	t.Squash = o.SingleSnapshot
	t.DockerTypes = o.DockerTypes
	t.Compression = builder.Compression{Options: o.Compression}
	for name, value := range o.Annotations {
		t.Annotations = append(t.Annotations, builder.Annotation{Name: name, Value: value})
	}
	slices.SortFunc(t.Annotations, func(a, b builder.Annotation) int { return cmp.Compare(a.Name, b.Name) })
	if o.Reproducible {
		t.Epoch = new(int64)
	}
	if o.TarPath != "" {
		out := builder.Output{Type: "docker", Dest: o.TarPath}
		if len(o.Destinations) == 0 {
			out.Names = []string{unset}
		}
		t.Outputs = append(t.Outputs, out)
	}
	if o.Layout != "" {
		t.Outputs = append(t.Outputs, builder.Output{Type: "oci", Dest: o.Layout, Unpacked: true})
	}
	p.Session.Secrets = o.Secrets
	if o.DryRun {
		o.notice("--dryrun checks the Dockerfile and builds nothing")
	}
}

// setCache sets the caches. Without --cache only the store is used, and with
// --cache=false not even that.
func (o *Options) setCache(p *Plan) error {
	if !o.Cache {
		p.Target.NoCache = o.CacheSet
		return nil
	}
	at := remote.Location{}
	if dir, ok := strings.CutPrefix(o.CacheRepo, "oci:"); ok {
		at.Dir = dir
	} else {
		repo := o.CacheRepo
		if repo == "" && len(o.Destinations) > 0 {
			full, err := reference.Normalize(o.Destinations[0])
			if err != nil {
				return err
			}
			r, err := reference.Parse(full)
			if err != nil {
				return err
			}
			repo = r.Domain + "/" + r.Repo + "/cache"
		}
		if repo == "" {
			o.notice("--cache without --cache-repo and --destination: the cache is the store of this container")
			return nil
		}
		var err error
		if at.Ref, err = reference.Normalize(repo); err != nil {
			return fmt.Errorf("--cache-repo %s: %w", repo, err)
		}
		if p.Registry.Insecure {
			p.Registry.InsecureHosts = append(p.Registry.InsecureHosts, domain(at.Ref))
		}
	}
	from := at
	from.MaxAge = o.CacheTTL
	p.Session.CacheFrom = []remote.Location{from}
	if !o.NoPushCache && (!o.NoPush || o.CacheRepo != "") {
		p.Session.CacheTo = []builder.CacheTo{{Location: at, Max: true}}
	}
	return nil
}

// setRegistries adds the registries of the destinations to the insecure ones.
func (o *Options) setRegistries(p *Plan) {
	if o.Insecure {
		for _, name := range o.Destinations {
			p.Registry.InsecureHosts = append(p.Registry.InsecureHosts, domain(name))
		}
	}
	if !o.helpersWereGiven {
		p.Registry.Helpers = native.Names()
	}
}

// domain returns the registry of a valid reference.
func domain(name string) string {
	full, err := reference.Normalize(name)
	if err != nil {
		return ""
	}
	r, err := reference.Parse(full)
	if err != nil {
		return ""
	}
	return r.Domain
}

// progress returns the display of the log's level and format.
func (o *Options) progress() progress.Mode {
	switch {
	case o.Verbosity == "error" || o.Verbosity == "fatal" || o.Verbosity == "panic":
		return progress.Quiet
	case o.LogFormat == "text" || o.LogFormat == "json" || o.LogTimestamp || o.Verbosity == "debug" || o.Verbosity == "trace":
		return progress.Plain
	}
	return progress.Auto
}
