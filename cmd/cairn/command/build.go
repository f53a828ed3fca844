package command

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer/atomicfile"
)

// buildOptions describes a target and the session that builds it.
type buildOptions struct {
	builder.Target
	builder.SessionOptions
}

// buildCommand is a run of cairn build.
type buildCommand struct {
	*Program
	options      buildOptions
	registries   registryFlags
	outputs      []option.Output
	caches       []option.Cache // of all flags
	annotations  []option.Annotation
	call         option.Call
	engine       string // --load
	loaded       string // a line about the engine that has the image
	progress     string
	progressSet  bool
	quiet        bool
	iidFile      string
	metadataFile string
	trace        string
	recording    recording
	notices      []string // of flags and variables that have no effect
	debug        debugFlags
	peer         peerOptions
}

func newBuild(p *Program) *cobra.Command {
	b := &buildCommand{Program: p}
	c := &cobra.Command{
		Use:   "build [flags] CONTEXT",
		Short: "Build an image from a Dockerfile",
		Long: `Build builds an image from a Dockerfile. CONTEXT provides the files for COPY and
ADD: a directory, without the files that its .dockerignore excludes; a tar archive,
compressed or not; - for an archive on standard input, or for a Dockerfile on standard
input that needs no files; the URL of a git repository or an archive.

The store keeps the image under its tags, for cairn run and later FROMs; --push and
--output send it elsewhere. Steps with unchanged inputs come from the cache. With
$SOURCE_DATE_EPOCH set, no time that the build adds to the image is later, in layers
too; --output type=...,rewrite-timestamp=true changes nothing about that.

With --check or --call, cairn evaluates the Dockerfile and builds nothing; other flags
for results have no effect. --check exits with status 1 if there are warnings.`,
		Example: `  cairn build -t app .
  cairn build -t registry.example/me/app:1 --push .
  cairn build --target test --build-arg VERSION .
  cairn build -f build/Dockerfile -o type=oci,dest=app.tar .
  cairn build -o ./bin .
  cairn build -t app https://git.example/me/app.git#main:docker
  git archive HEAD | cairn build -t app -
  cairn build --build-context alpine=docker-image://alpine:edge .
  cairn build --check .
  cairn build --call=outline,format=json --target test .`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("the build context is missing: specify a directory, such as .")
			}
			return exactArgs("CONTEXT")(c, args)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error {
		b.options.Context, b.progressSet = args[0], c.Flags().Changed("progress")
		return b.run(ctx)
	})
	b.inputFlags(c)
	b.resultFlags(c)
	b.stepFlags(c)
	inputLimitFlag(c.Flags(), &b.registries.limits)
	b.registries.flags(c.Flags())
	b.registries.historyFlag(c.Flags())
	for _, name := range []string{"file", "iidfile", "metadata-file"} {
		_ = c.MarkFlagFilename(name)
	}
	return c
}

// inputFlags adds the flags for the Dockerfile and its parameters.
func (b *buildCommand) inputFlags(c *cobra.Command) {
	o, f := &b.options, c.Flags()
	o.Args, o.Labels = map[string]string{}, map[string]string{}
	b.fileFlag(f)
	listFlag(f, &o.Contexts, "build-context", "", "NAME=VALUE", "Additional build contexts: a directory, archive or URL, docker-image://REF or oci-layout://DIR[:TAG]", func(s string) (builder.Context, error) {
		named, err := option.ParseContext(s)
		return builder.Context{Name: named.Name, Value: named.Value}, err
	})
	f.StringVar(&o.Stage, "target", "", "Set the target build `STAGE` to build")
	argFlag(f, o.Args)
	platformsFlag(f, &o.Platforms, "Set target platforms for build, separated by commas; several make an index (default $DOCKER_DEFAULT_PLATFORM, or this machine's)")
	b.pullFlag(c)
	f.BoolVar(&o.NoCache, "no-cache", false, "Do not use cache when building the image")
	repeatedFlag(f, "no-cache-filter", "", "STAGE", "Do not cache specified stages, separated by commas", func(s string) error {
		o.NoCacheFilter = append(o.NoCacheFilter, strings.FieldsFunc(s, func(r rune) bool { return r == ',' })...)
		return nil
	})
	b.cacheFlags(f)
	callFlags(c, &b.call)
	listFlag(f, &o.Secrets, "secret", "", "id=ID[,src=FILE|,env=NAME]", "Secret to expose to the build, for RUN --mount=type=secret", option.ParseSecret)
	listFlag(f, &o.Agents, "ssh", "", "default|ID[=SOCKET|KEY,...]", "SSH agent socket or keys to expose to the build, for RUN --mount=type=ssh; default is also for ADD of git@ and ssh:// URLs", option.ParseSSH)
}

// resultFlags adds the flags for the image, its destinations and messages.
func (b *buildCommand) resultFlags(c *cobra.Command) {
	o, f := &b.options, c.Flags()
	listFlag(f, &o.Tags, "tag", "t", "NAME[:TAG]", "Image identifier", func(s string) (string, error) {
		return s, option.CheckReference(s)
	})
	mapFlag(f, o.Labels, "label", "Set metadata for an image", option.ParseLabel)
	repeatedFlag(f, "annotation", "", "[TYPE:]NAME=VALUE", "Add annotation to the image; TYPE is manifest (default), manifest-descriptor, index or index-descriptor, manifests with [PLATFORM]", func(s string) error {
		list, err := option.ParseAnnotation(s)
		b.annotations = append(b.annotations, list...)
		return err
	})
	f.BoolVar(&o.Push, "push", false, "Push the image under each of its tags")
	listFlag(f, &b.outputs, "output", "o", "OUTPUT", "Output destination: type=image|registry|oci|docker|tar|local|cacheonly[,dest=PATH][,...], a directory, or - for a tar archive on standard output", parseOutput)
	loadFlag(f, &b.engine)
	enumFlag(c, &b.progress, "progress", "Set type of progress output", "auto", "tty", "plain", "quiet", "rawjson", "none")
	f.BoolVarP(&b.quiet, "quiet", "q", false, "Suppress the build output and print image ID on success")
	f.StringVar(&b.iidFile, "iidfile", "", "Write the image ID to a `FILE`")
	f.StringVar(&b.metadataFile, "metadata-file", "", "Write build result metadata to a `FILE`")
	b.recording.command = "build"
	b.recording.flags(f)
	f.StringVar(&b.trace, "trace", "", "Write the timeline of the build to a `FILE`, for chrome://tracing or ui.perfetto.dev")
}

// stepFlags adds the flags for each RUN.
func (b *buildCommand) stepFlags(c *cobra.Command) {
	o, f := &b.options, c.Flags()
	b.networkFlag(c)
	listFlag(f, &o.AddHosts, "add-host", "", "NAME:IP", "Add a custom host-to-IP mapping; the IP "+option.HostGateway+" is this machine, "+option.HostGatewayIP, option.ParseHost)
	jobsFlag(f, &o.Jobs)
	repeatedFlag(f, "allow", "", "ENTITLEMENT", "Allow extra privileged entitlement: "+strings.Join(option.Entitlements(), " or "), func(s string) error {
		list, err := option.ParseAllow(s)
		o.Allow = append(o.Allow, list...)
		return err
	})
	stepLimitFlags(f, o)
	b.debug.flags(f)
	b.addPeerFlags(c)
}

// run builds the image, or answers --call.
func (b *buildCommand) run(ctx context.Context) (err error) {
	began := time.Now()
	if b.call.Method != "" { // no results
		b.options.Push, b.outputs, b.iidFile, b.metadataFile, b.engine = false, nil, "", "", ""
		b.peer.manifest, b.peer.rawIDFile = "", ""
	}
	if err := b.chooseProgress(); err != nil {
		return err
	}
	if err := errors.Join(b.applyPeerFlags(), b.readVariables()); err != nil {
		return err
	}
	if err := b.check(); err != nil {
		return err
	}
	if err := b.setOutputs(); err != nil {
		return err
	}
	if err := b.addEpoch(); err != nil {
		return err
	}
	b.options.Stdin, b.options.Stdout = b.Stdin, os.Stdout
	if b.call.Method != "" {
		return b.answer(ctx)
	}
	if err := b.prepareFiles(); err != nil {
		return err
	}
	closeLog, err := b.openLog()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	built, err := b.build(ctx)
	if built != nil && b.verbose() {
		printLintWarnings(b.Stderr, built.Warnings)
	}
	if err != nil {
		b.debug.suggest(b.Program, err)
		b.debug.tell(b.Program)
		return err
	}
	if err := b.writeFiles(built); err != nil {
		return err
	}
	if b.loaded != "" && (b.quiet || b.verbose()) {
		defer fmt.Fprintln(b.Stderr, b.loaded)
	}
	if b.quiet {
		_, err = fmt.Fprintln(b.Stdout, imageID(built))
		return err
	}
	if b.verbose() {
		if b.options.NoStore {
			built.Tags = nil
		}
		fmt.Fprintln(b.Stderr, summary(built, time.Since(began)))
		printBuilt(b.Stderr, built)
	}
	return nil
}

// readVariables applies the variables of docker and buildx.
func (b *buildCommand) readVariables() error {
	notices, err := checkBuildVariables()
	b.notices = append(b.notices, notices...)
	return errors.Join(err, checkContentTrust(), setDefaultPlatforms(&b.options.Platforms))
}

// verbose reports whether warnings and a summary follow the progress output.
func (b *buildCommand) verbose() bool {
	switch progress.Mode(b.progress) {
	case progress.Quiet, progress.RawJSON, progress.None:
		return false
	}
	return true
}

// prepareFiles removes files of an earlier build that would be misleading if this one
// fails. It returns an error if the build will not be able to write its files.
func (b *buildCommand) prepareFiles() error {
	if err := b.checkDestinations(); err != nil {
		return err
	}
	removed := errors.Join(atomicfile.Remove(b.iidFile), atomicfile.Remove(b.peer.rawIDFile), atomicfile.Remove(b.metadataFile))
	for _, f := range []struct{ flag, name string }{{"iidfile", b.iidFile}, {"iidfile-raw", b.peer.rawIDFile}, {"metadata-file", b.metadataFile}, {"trace", b.trace}} {
		if err := checkWritable(f.flag, f.name); err != nil {
			return err
		}
	}
	for _, out := range b.outputs {
		err := checkDest(out)
		if err == nil && out.Delete {
			err = b.checkDelete(out.Dest)
		}
		if err != nil {
			return err
		}
	}
	others := append(outputFiles(b.outputs), b.iidFile, b.peer.rawIDFile, b.metadataFile, b.trace)
	return errors.Join(removed, b.recording.prepare(others))
}

// checkDestinations returns an error if files and directories that the build writes
// exclude each other, or would replace the Dockerfile.
func (b *buildCommand) checkDestinations() error {
	o := &b.options
	var errs []error
	fail := func(err error) { errs = append(errs, &UsageError{err}) }
	file := cmp.Or(o.Dockerfile, filepath.Join(o.Context, "Dockerfile"))
	checkDestinations(slices.Concat(
		sourceDestinations("the Dockerfile ", []string{file}, fail),
		resultDestinations(map[string]string{"iidfile": b.iidFile, "iidfile-raw": b.peer.rawIDFile, "metadata-file": b.metadataFile, "trace": b.trace}, fail),
		outputDestinations("--", b.outputs, fail), cacheDestinations("--cache-to", o.CacheTo, fail), cacheDestinations("--cache-mount-to", o.CacheMountTo, fail)))
	if err := checkCacheNames(slices.Concat(o.CacheTo, o.CacheMountTo), pushedNames(o.Push, o.Tags, b.outputs)); err != nil {
		fail(err)
	}
	return errors.Join(errs...)
}

// build builds the image and writes --trace, also after a failure. The result may
// have warnings in spite of an error.
func (b *buildCommand) build(ctx context.Context) (built *builder.Built, err error) {
	dir, err := b.storeDir()
	if err != nil {
		return nil, err
	}
	keep, err := keepStorage(dir)
	if err != nil {
		return nil, err
	}
	err = b.withRegistries(b.registries, progress.Mode(b.progress), func(env *environment) (err error) {
		if b.trace != "" {
			env.Progress.Record()
		}
		for _, notice := range b.notices {
			env.Progress.Warn("%s", notice)
		}
		b.options.Breaks = b.debug.breaks
		if b.options.Debugger, err = b.debug.open(ctx, b.Program, env, false); err != nil {
			return err
		}
		b.options.Recorder = b.recording.begin(env)
		if built, err = b.buildAndLoad(ctx, env); err == nil {
			err = b.addToManifest(env, built)
			pruneAfterBuild(env, keep)
		}
		reported := b.recording.end(ctx, env, builtList(built), err)
		return errors.Join(cause(ctx, err), writeTrace(b.trace, env.Progress), reported)
	})
	return built, err
}

// writeTrace writes the file of --trace, unless its name is "".
func writeTrace(name string, p *progress.Reporter) error {
	if name == "" {
		return nil
	}
	var text bytes.Buffer
	if err := p.WriteTrace(&text); err != nil {
		return err
	}
	return writeFile(name, text.Bytes())
}

// chooseProgress sets the progress mode from --progress, --quiet and
// $BUILDKIT_PROGRESS.
func (b *buildCommand) chooseProgress() error {
	if text := os.Getenv("BUILDKIT_PROGRESS"); !b.progressSet && text != "" {
		mode, err := progress.ParseMode(text)
		if err != nil {
			return usagef("$BUILDKIT_PROGRESS: %w", err)
		}
		b.progress = string(mode)
	} else if b.peer.debug && !b.progressSet && !b.quiet {
		b.progress = string(progress.Plain)
	}
	switch {
	case b.quiet && b.progressSet && b.progress != string(progress.Quiet):
		return usagef("--quiet and --progress=%s contradict each other", b.progress)
	case b.quiet:
		b.progress = string(progress.Quiet)
	}
	return nil
}

// check checks the flags against each other.
func (b *buildCommand) check() error {
	o := &b.options
	switch {
	case o.Context == "":
		return usagef("the build context is empty: specify a directory, such as .")
	case o.Context == "-" && o.Dockerfile == "-":
		return usagef("--file and the build context can't both be standard input")
	case o.Push && len(o.Tags) == 0:
		return usagef("--push needs a name to push to: add --tag")
	}
	for _, out := range b.outputs {
		if out.Type == "cacheonly" && (o.Push || b.engine != "") {
			return usagef("--output: type=cacheonly makes no image: leave it out with --push or --load")
		}
		if (out.Push || out.Type == "registry") && len(out.Names)+len(o.Tags) == 0 {
			return usagef("--output: type=%s needs a name to push to: add name= or --tag", out.Type)
		}
	}
	if err := b.debug.check(b.Program, b.call.Method); err != nil {
		return err
	}
	if err := o.StepResources.Check(); err != nil {
		return &UsageError{err}
	}
	annotations, err := option.Annotations(b.annotations, b.outputs)
	if err != nil {
		return &UsageError{err}
	}
	o.Annotations = builderAnnotations(annotations)
	if len(o.Platforms) > 1 {
		return b.checkPlatforms()
	}
	index, err := o.MultiPlatform()
	if err != nil {
		return &UsageError{err}
	}
	for _, a := range o.Annotations {
		if a.Index && !index {
			return usagef("--annotation %s: an image of one platform has no index: want manifest or manifest-descriptor", a.Name)
		}
	}
	return nil
}

// checkPlatforms rejects flags that do not support several platforms.
func (b *buildCommand) checkPlatforms() error {
	o := &b.options
	switch {
	case b.call.Method == "outline":
		return usagef("--call=outline needs a single platform: specify one with --platform")
	case b.call.Method == "check" && (o.Context == "-" || o.Dockerfile == "-"):
		return usagef("--check needs a single platform with standard input: specify one with --platform")
	}
	for _, out := range b.outputs {
		if out.PlatformSplit != nil && !*out.PlatformSplit {
			return usagef("--output: platform-split=false: the files of %d platforms would overwrite each other", len(o.Platforms))
		}
	}
	return nil
}

// setOutputs sets the outputs and the compression that they share.
func (b *buildCommand) setOutputs() (err error) {
	if err := checkStdout(b.outputs, os.Stdout, b.quiet); err != nil {
		return err
	}
	o := &b.options
	shared, err := b.peer.imageOutput()
	if err != nil {
		return &UsageError{err}
	}
	all := slices.Concat(b.outputs, shared)
	if o.DockerTypes, err = option.DockerMediaTypes(all); err != nil {
		return usagef("--output: %w", err)
	}
	epoch, err := option.Epoch(b.outputs)
	if err != nil {
		return usagef("--output: %w", err)
	}
	if epoch != nil {
		o.Epoch = epoch
	}
	o.NoStore = !option.KeepImage(b.outputs) && b.peer.manifest == ""
	b.registries.alsoLenient = append(b.registries.alsoLenient, b.insecureHosts()...)
	index, err := o.MultiPlatform()
	if err != nil {
		return &UsageError{err}
	}
	for _, parsed := range b.outputs {
		if parsed.PlatformSplit == nil {
			parsed.PlatformSplit = &index
		}
		o.Outputs = append(o.Outputs, builderOutput(parsed))
	}
	compression := option.ImageCompression(all)
	o.Compression = builderCompression(compression)
	for _, c := range b.caches {
		if err := c.CheckCompression(compression); err != nil {
			return usagef("--cache-to: %w", err)
		}
	}
	return nil
}

// epochVariable is the variable and build argument with the time of the image.
const epochVariable = "SOURCE_DATE_EPOCH"

// addEpoch makes $SOURCE_DATE_EPOCH a build argument, as buildx does, unless there is
// a flag for it.
func (b *buildCommand) addEpoch() error {
	shown := "--build-arg " + epochVariable
	text, given := b.options.Args[epochVariable]
	if !given {
		shown, text = "$"+epochVariable, os.Getenv(epochVariable)
	}
	if text == "" {
		return nil
	}
	named := slices.ContainsFunc(b.options.Contexts, func(c builder.Context) bool { return c.Name == text })
	if first := text[0]; !named && (first == '-' || first == '+' || '0' <= first && first <= '9') { // else it names a source
		if _, err := option.ParseEpoch(text); err != nil {
			return usagef("%s %q: %w", shown, text, err)
		}
	}
	b.options.Args[epochVariable] = text
	return nil
}
