package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer/atomicfile"
)

// application is a run of cairn bake or cairn compose: several targets in one graph.
type application struct {
	*Program
	registries   registryFlags
	session      builder.SessionOptions
	allow        []string // entitlements
	grants       grants
	access       *access // nil: the definition may use all files
	url          string  // of the definition, or ""
	engine       string  // of outputs of type docker without a file
	progress     string
	progressSet  bool
	metadataFile string
	onError      string
	trace        string
	recording    recording
	onlyChanged  bool
	linkTagsSet  bool     // --link-tags was given
	sources      []string // files of the definition
	debug        debugFlags

	selection *bake.Selection
	targets   []*appTarget
	caches    []builder.CacheTo
	exports   map[string]cacheExport // by destination
}

// appTarget is a target of an application. It is converted as the flags of cairn build are.
type appTarget struct {
	*buildCommand
	definition *bake.Target
	name       string
	load       *engineWriter // nil: the image is not loaded into an engine
}

// newApplication returns an application with defaults.
func newApplication(p *Program, command string) *application {
	return &application{Program: p, engine: "auto", recording: recording{command: command}}
}

// buildFlags adds the flags for building, apart from those that stand for an attribute
// of targets.
func (a *application) buildFlags(c *cobra.Command) {
	f := c.Flags()
	enumFlag(c, &a.progress, "progress", "Set type of progress output", "auto", "tty", "plain", "quiet", "rawjson", "none")
	f.StringVar(&a.metadataFile, "metadata-file", "", "Write build result metadata to a `FILE`")
	jobsFlag(f, &a.session.Jobs)
	a.debug.flags(f)
	f.BoolVar(&a.session.LinkTags, "link-tags", false, "Let a FROM or --from of another target's tag mean the image that this build makes")
	enumFlag(c, &a.onError, "on-error", "After a failure: stop, or continue with the targets that do not need the failed step", "stop", "continue")
	repeatedFlag(f, "allow", "", "ENTITLEMENT", "Allow targets an entitlement that they ask for: "+strings.Join(option.Entitlements(), " or "), func(s string) error {
		if ok, err := a.grants.add(s); ok {
			return err
		}
		list, err := option.ParseAllow(s)
		a.allow = append(a.allow, list...)
		return err
	})
	a.recording.flags(f)
	f.StringVar(&a.trace, "trace", "", "Write the timeline of the build to a `FILE`, for chrome://tracing or ui.perfetto.dev")
	inputLimitFlag(f, &a.registries.limits)
	a.registries.flags(f)
	a.registries.historyFlag(f)
	_ = c.MarkFlagFilename("metadata-file")
}

// harmlessEntitlements are those of buildx for files and agents of this machine, which
// the build reaches in any case.
func harmlessEntitlements() []string { return []string{"fs", "fs.read", "fs.write", "ssh"} }

// build builds the targets and prints a table of the results. If targets have a call,
// build answers it instead.
func (a *application) build(ctx context.Context, selection *bake.Selection) (err error) {
	if err := a.prepare(selection); err != nil {
		return err
	}
	if slices.ContainsFunc(a.targets, func(m *appTarget) bool { return m.call.Method != "" }) {
		return a.answer(ctx)
	}
	dir, err := a.storeDir()
	if err != nil {
		return err
	}
	keep, err := keepStorage(dir)
	if err != nil {
		return err
	}
	notices, err := checkBuildVariables()
	if err := errors.Join(err, checkContentTrust()); err != nil {
		return err
	}
	var built []*builder.Built
	err = a.withRegistries(a.registries, progress.Mode(a.progress), func(env *environment) (err error) {
		if a.trace != "" {
			env.Progress.Record()
		}
		for _, notice := range notices {
			env.Progress.Warn("%s", notice)
		}
		a.session.Breaks = a.debug.breaks
		if a.session.Debugger, err = a.debug.open(ctx, a.Program, env, a.session.KeepGoing); err != nil {
			return err
		}
		a.session.Recorder = a.recording.begin(env)
		if built, err = a.buildIn(ctx, env); err == nil {
			pruneAfterBuild(env, keep)
		}
		reported := a.recording.end(ctx, env, built, err)
		return errors.Join(cause(ctx, err), writeTrace(a.trace, env.Progress), reported)
	})
	a.debug.suggest(a.Program, err)
	a.debug.tell(a.Program)
	err = a.explain(err)
	if a.verbose() {
		a.printResults(built)
	}
	return errors.Join(err, a.writeMetadata(built))
}

// chooseProgress sets the progress mode from the flag or the environment.
func (a *application) chooseProgress() error {
	mode := &buildCommand{Program: a.Program, progress: a.progress, progressSet: a.progressSet}
	err := mode.chooseProgress()
	a.progress = mode.progress
	return err
}

// prepare converts the targets and checks their destinations.
func (a *application) prepare(selection *bake.Selection) error {
	if err := a.chooseProgress(); err != nil {
		return err
	}
	a.session.KeepGoing = a.onError == "continue"
	if err := a.debug.check(a.Program, ""); err != nil {
		return err
	}
	a.selection, a.exports = selection, map[string]cacheExport{}
	var err error
	if a.access, err = a.grants.access(a.url); err != nil {
		return err
	}
	problems := a.add(slices.Sorted(maps.Keys(selection.Targets)))
	problems = append(problems, a.checkPushes()...)
	if len(problems) > 0 {
		return problems
	}
	var all []option.Output
	for _, m := range a.targets {
		problems = append(problems, m.finish()...)
		all = append(all, m.outputs...)
		a.registries.alsoLenient = append(a.registries.alsoLenient, m.registries.alsoLenient...)
	}
	problems = append(problems, a.checkDestinations()...)
	if len(problems) > 0 {
		return problems
	}
	a.addMakers()
	if err := checkStdout(all, os.Stdout, false); err != nil {
		return err
	}
	others := append(outputFiles(all), a.metadataFile, a.trace)
	return errors.Join(atomicfile.Remove(a.metadataFile), checkWritable("metadata-file", a.metadataFile), checkWritable("trace", a.trace), a.recording.prepare(others))
}

// checkDestinations returns the problems of files and directories that exclude each
// other, or that would replace a source.
func (a *application) checkDestinations() (problems bake.Problems) {
	flags := func(err error) { problems = append(problems, bake.Problem{Text: err.Error()}) }
	all := sourceDestinations("the definition ", a.sources, flags)
	all = append(all, resultDestinations(map[string]string{"metadata-file": a.metadataFile, "trace": a.trace}, flags)...)
	pushed := map[string]bool{}
	for _, m := range a.targets {
		fail := func(attribute string) func(error) {
			return func(err error) { problems = append(problems, m.problem(attribute, err)) }
		}
		if m.options.Dockerfile != "" {
			all = append(all, sourceDestinations("the Dockerfile ", []string{m.options.Dockerfile}, fail("dockerfile"))...)
		}
		all = append(all, outputDestinations("", m.outputs, fail("output"))...)
		all = append(all, cacheDestinations("cache-to", m.options.CacheTo, fail("cache-to"))...)
		maps.Copy(pushed, pushedNames(false, m.options.Tags, m.outputs))
	}
	checkDestinations(all)
	for _, m := range a.targets {
		if err := checkCacheNames(m.options.CacheTo, pushed); err != nil {
			problems = append(problems, m.problem("cache-to", err))
		}
	}
	return problems
}

// finish completes the options of a target.
func (m *appTarget) finish() (problems bake.Problems) {
	fail := func(err error) {
		if err != nil {
			problems = append(problems, m.problem("output", err))
		}
	}
	if err := errors.Join(m.check(), m.setOutputs(), m.addEpoch()); err != nil {
		fail(err)
		return problems
	}
	for _, out := range m.outputs {
		fail(checkDest(out))
		if out.Delete {
			fail(m.checkDelete(out.Dest))
		}
	}
	return problems
}

// buildIn builds the targets and loads images into engines.
func (a *application) buildIn(ctx context.Context, env *environment) ([]*builder.Built, error) {
	a.session.Stdin, a.session.Stdout, a.session.CacheTo = a.Stdin, os.Stdout, a.caches
	if err := a.addEngines(ctx, env); err != nil {
		return nil, err
	}
	s, err := env.session(a.session)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if a.onlyChanged {
		if err := a.keepChanged(ctx, s); err != nil {
			return nil, err
		}
	}
	built, err := s.Build(ctx, a.builderTargets()...)
	err = a.ofOnly(err)
	for i, m := range a.targets {
		if m.load == nil {
			continue
		}
		failed := err
		if a.session.KeepGoing && i < len(built) {
			failed = built[i].Err
		}
		if loadErr := m.load.finish(failed); failed == nil && loadErr != nil {
			err = errors.Join(err, fmt.Errorf("target %s: %w", m.name, loadErr))
		}
	}
	return built, err
}

func (a *application) builderTargets() (all []builder.Target) {
	for _, m := range a.targets {
		all = append(all, m.options.Target)
	}
	return all
}

// addEngines replaces the outputs of type docker without a file by the engine.
func (a *application) addEngines(ctx context.Context, env *environment) error {
	a.session.Writers = map[string]io.Writer{}
	for _, m := range a.targets {
		if m.engine == "" {
			continue
		}
		engine, err := findEngine(ctx, m.engine)
		if err != nil {
			return err
		}
		o := &m.options
		load := builder.Output{Type: "docker", Writer: "engine " + m.name, Title: "[" + m.name + "] loading into " + engine.name}
		index, err := o.MultiPlatform()
		if err != nil {
			return err
		}
		if load.One = index && !engine.several(ctx); load.One && len(o.Platforms) > 1 {
			env.Progress.Warn("target %s: %s keeps images of one platform only: loading the one for this machine, or else for %s", m.name, engine.name, o.Platforms[0])
		}
		if index && !load.One && engine.loadAll != nil {
			engine.load = engine.loadAll
		}
		m.load = &engineWriter{engine: engine, ctx: ctx}
		a.session.Writers[load.Writer] = m.load
		o.Outputs = append(o.Outputs, load)
	}
	return nil
}

// checkPushes drops pushes of targets without a name, unless no target has one.
func (a *application) checkPushes() (problems bake.Problems) {
	nameless := func(m *appTarget, out option.Output) bool {
		return (out.Push || out.Type == "registry") && len(out.Names)+len(m.options.Tags) == 0
	}
	pushed := false
	for _, m := range a.targets {
		for _, out := range m.outputs {
			pushed = pushed || (out.Push || out.Type == "registry") && !nameless(m, out)
		}
	}
	for _, m := range a.targets {
		for i, out := range m.outputs {
			if !nameless(m, out) {
				continue
			}
			if !pushed {
				problems = append(problems, m.problem("output", errors.New("there is no name to push to: add tags, or name= to the output")))
				continue
			}
			fmt.Fprintf(a.Stderr, "warning: %v\n", m.problem("output", errors.New("it is not pushed, since it has no tags")))
			m.outputs[i] = option.Output{Type: "image"}
		}
	}
	return problems
}

// verbose reports whether a summary follows the progress output.
func (a *application) verbose() bool {
	return (&buildCommand{progress: a.progress}).verbose()
}

// writeMetadata writes --metadata-file: an object for each target that was built.
func (a *application) writeMetadata(built []*builder.Built) error {
	if a.metadataFile == "" {
		return nil
	}
	all := map[string]any{}
	var warnings []progress.Warning
	for i, one := range built {
		if one.Err != nil || one.Digest() == "" {
			continue
		}
		all[one.Name] = a.targets[i].metadata(one)
		for _, w := range one.Warnings {
			warnings = append(warnings, builder.Advice(one.File, w))
		}
	}
	if len(all) == 0 { // prepare has removed the file
		return nil
	}
	if on, err := strconv.ParseBool(os.Getenv("BUILDX_METADATA_WARNINGS")); on && err == nil && len(warnings) > 0 {
		all["buildx.build.warnings"] = warnings
	}
	text, err := indentedJSON(all)
	if err != nil {
		return err
	}
	return writeFile(a.metadataFile, text)
}
