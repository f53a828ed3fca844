package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/progress"
)

// buildFlags are the flags of build that are not options of the builder as they
// are.
type buildFlags struct {
	builder.Options
	registries
	outputs
	call         call
	mode         string
	quiet        bool
	iidFile      string
	metadataFile string
	trace        string
}

func (a *app) build() *cobra.Command {
	b := &buildFlags{}
	c := &cobra.Command{
		Use:   "build [flags] CONTEXT",
		Short: "Build an image from a Dockerfile",
		Long: `Build builds the image that a Dockerfile describes. CONTEXT is where COPY and ADD
take files from: a directory, without what its .dockerignore leaves out; a tar
archive, compressed or not; - for an archive on standard input, or for a
Dockerfile there that needs no files; the URL of a git repository or an archive.

The image is kept in the store under its tags, for cairn run and later FROMs;
--push and --output send it elsewhere. Steps whose inputs have not changed are
not run again. With $SOURCE_DATE_EPOCH set, no time in the image is later.

With --check or --call nothing is built, kept or sent, whatever the other flags
ask for. --check ends with status 1 if there is anything to warn of.`,
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
				return usagef("the build context is missing: name a directory, such as .")
			}
			return takes("CONTEXT")(c, args)
		},
	}
	c.RunE = a.does(func(ctx context.Context, args []string) error {
		b.Context = args[0]
		return a.runBuild(ctx, b, c.Flags().Changed("progress"))
	})
	b.flags(c)
	return c
}

func (b *buildFlags) flags(c *cobra.Command) {
	b.Args, b.Labels = map[string]string{}, map[string]string{}
	f := c.Flags()
	eachVar(f, "tag", "t", "NAME[:TAG]", "name the image", func(s string) error {
		b.Tags = append(b.Tags, s)
		return checkReference(s)
	})
	f.StringVarP(&b.Dockerfile, "file", "f", "", "`FILE` to build from; - is standard input (default Dockerfile in CONTEXT)")
	eachVar(f, "build-context", "", "NAME=VALUE", "take this for the stage or image NAME: a directory or archive, docker-image://REF, oci-layout://DIR[:TAG], a URL",
		b.addContext)
	f.StringVar(&b.Target, "target", "", "build the `STAGE`, not the last one")
	argFlag(f, b.Args)
	labelFlag(f, b.Labels)
	annotationFlag(f, &b.Annotations)
	f.BoolVar(&b.Push, "push", false, "push the image under each of its tags")
	eachVar(f, "output", "o", "OUTPUT", "type=image|registry|oci|docker|tar|local[,dest=PATH][,...]; a directory; - for a tar", b.add)
	loadFlag(f, &b.loadInto)
	f.BoolVar(&b.NoCache, "no-cache", false, "run every step, whatever is known of it")
	eachVar(f, "no-cache-filter", "", "STAGE", "run every step of these stages, names with commas between", func(s string) error {
		b.Anew = append(b.Anew, strings.FieldsFunc(s, func(r rune) bool { return r == ',' })...)
		return nil
	})
	f.BoolVar(&b.Pull, "pull", false, "ask the registry even for base images that are here")
	cacheFlags(f, &b.Options)
	cacheMountFlags(f, &b.Options)
	platformsFlag(f, &b.Platforms)
	oneOf(c, &b.mode, "progress", "how to show what is being done", "auto", "tty", "plain", "quiet", "rawjson", "none")
	f.BoolVarP(&b.quiet, "quiet", "q", false, "print nothing but the image's ID")
	f.StringVar(&b.iidFile, "iidfile", "", "write the image's ID to `FILE`")
	f.StringVar(&b.metadataFile, "metadata-file", "", "write what was built to `FILE`, as JSON")
	f.StringVar(&b.trace, "trace", "", "write the build's timeline to `FILE`, for chrome://tracing or ui.perfetto.dev")
	oneOf(c, &b.Network, "network", "network of each RUN", "default", "none", "host")
	hostFlag(f, &b.AddHosts)
	eachVar(f, "jobs", "", "N", "how many steps run at once (default one for each processor)", func(s string) (err error) {
		if b.Jobs, err = strconv.Atoi(s); err != nil || b.Jobs < 1 {
			return errors.New("want a number from 1 on")
		}
		return nil
	})
	secretFlag(f, &b.Secrets)
	b.call.flags(c)
	allowFlag(f, &b.Allow)
	sshFlag(f, &b.Agents)
	limitFlags(f, &b.Options)
	boundFlag(f, &b.registries.limits)
	b.registries.flags(f)
	_ = c.MarkFlagFilename("file")
	_ = c.MarkFlagFilename("iidfile")
	_ = c.MarkFlagFilename("metadata-file")
	c.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveDefault
	}
}

func (b *buildFlags) addContext(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" || value == "" {
		return errors.New("want NAME=VALUE")
	}
	b.Contexts = append(b.Contexts, builder.Context{Name: name, Value: value})
	return nil
}

func (a *app) runBuild(ctx context.Context, b *buildFlags, modeChosen bool) error {
	if b.call.name != "" { // nothing is built that could go anywhere
		b.Push, b.list, b.iidFile, b.metadataFile, b.loadInto = false, nil, "", "", ""
	}
	if err := a.completeBuild(b, modeChosen); err != nil {
		return err
	}
	if b.call.name != "" {
		return a.runCall(ctx, b)
	}
	for _, name := range []string{b.iidFile, b.metadataFile} {
		if err := removeOld(name); err != nil {
			return err
		}
	}
	for _, name := range []string{b.iidFile, b.metadataFile, b.trace} {
		if err := writable(name); err != nil {
			return err
		}
	}
	dir, err := a.storeDir()
	if err != nil {
		return err
	}
	keep, err := keepStorage(dir)
	if err != nil {
		return err
	}
	var built *builder.Built
	err = a.online(b.registries, progress.Mode(b.mode), func(with *builder.Builder) (err error) {
		if b.trace != "" {
			with.Progress.Record()
		}
		if built, err = b.carryOut(ctx, with); err == nil {
			a.collect(with, keep)
		}
		return errors.Join(cause(ctx, err), b.writeTrace(with.Progress))
	})
	tell := b.mode != string(progress.Quiet) && b.mode != string(progress.RawJSON) && b.mode != string(progress.None)
	if tell && built != nil {
		a.warnings(built.Warnings)
	}
	if err != nil {
		return err
	}
	if err := b.writeFiles(built); err != nil {
		return err
	}
	if b.quiet {
		_, err = fmt.Fprintln(a.stdout, id(built))
		return err
	}
	if tell {
		a.summary(built)
	}
	return nil
}

// writeTrace writes --trace, of a build that failed too.
func (b *buildFlags) writeTrace(p *progress.Reporter) error {
	if b.trace == "" {
		return nil
	}
	var text bytes.Buffer
	if err := p.WriteTrace(&text); err != nil {
		return err
	}
	return writeFile(b.trace, text.Bytes())
}

// completeBuild checks what only shows when all flags are known, and adds what
// the environment says.
func (a *app) completeBuild(b *buildFlags, modeChosen bool) error {
	if !modeChosen {
		if err := b.modeFromEnv(); err != nil {
			return err
		}
	}
	switch {
	case b.quiet && modeChosen && b.mode != string(progress.Quiet):
		return usagef("--quiet and --progress=%s contradict each other", b.mode)
	case b.quiet:
		b.mode = string(progress.Quiet)
	}
	switch {
	case b.Context == "":
		return usagef("the build context is empty: name a directory, such as .")
	case b.Context == "-" && b.Dockerfile == "-":
		return usagef("--file and the build context can't both be standard input")
	case b.Push && len(b.Tags) == 0:
		return usagef("--push needs a name to push to: add --tag")
	}
	for _, out := range b.list {
		if (out.Push || out.Type == "registry") && len(out.Names)+len(b.Tags) == 0 {
			return usagef("--output: type=%s needs a name to push to: add name= or --tag", out.Type)
		}
	}
	if err := b.Limits.Check(); err != nil {
		return usagef("%w", err)
	}
	if err := b.annotate(&b.Annotations); err != nil {
		return err
	}
	if err := b.several(); err != nil {
		return err
	}
	if err := b.onStdout(os.Stdout, b.quiet); err != nil {
		return err
	}
	b.DockerTypes = b.docker != nil && *b.docker
	if err := b.checkForms(); err != nil {
		return err
	}
	b.Outputs, b.Compression, b.Stdin = b.list, b.form(), a.stdin
	return b.epochFromEnv()
}

// several refuses what can't be of several platforms, or must be.
func (b *buildFlags) several() error {
	if len(b.Platforms) < 2 {
		for _, a := range b.Annotations {
			if a.Index {
				return usagef("--annotation %s: an image of one platform has no index: want manifest or manifest-descriptor", a.Name)
			}
		}
		return nil
	}
	switch {
	case b.call.name == "outline":
		return usagef("--call=outline looks at one platform: name one with --platform")
	case b.call.name == "check" && (b.Context == "-" || b.Dockerfile == "-"):
		return usagef("--check reads standard input once, so for one platform: name one with --platform")
	}
	if b.loadInto != "" {
		return usagef("--load: an engine takes the image of one platform, but --platform names %d: push the index, or load one platform after the other", len(b.Platforms))
	}
	for _, out := range b.list {
		if out.Type == "docker" {
			return usagef("--output: docker's archives have one platform, but --platform names %d: want type=oci", len(b.Platforms))
		}
	}
	if b.unsplit {
		return usagef("--output: platform-split=false: the files of %d platforms would overwrite each other", len(b.Platforms))
	}
	return nil
}

// modeFromEnv takes docker's variable for a display.
func (b *buildFlags) modeFromEnv() error {
	text := os.Getenv("BUILDKIT_PROGRESS")
	if text == "" {
		return nil
	}
	mode, err := progress.ParseMode(text)
	if err != nil {
		return usagef("$BUILDKIT_PROGRESS: %w", err)
	}
	b.mode = string(mode)
	return nil
}

// epochFromEnv makes SOURCE_DATE_EPOCH a build argument, as buildx does. One
// that is given as a flag comes first.
func (b *buildFlags) epochFromEnv() error {
	const name = "SOURCE_DATE_EPOCH"
	text := os.Getenv(name)
	if _, given := b.Args[name]; given || text == "" {
		return nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n < 0 {
		return usagef("$%s %q: want seconds since 1970", name, text)
	}
	b.Args[name] = text
	return nil
}
