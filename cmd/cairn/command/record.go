package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/report"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/atomicfile"
	"github.com/cairn-build/cairn/registry/reference"
)

// recording is the record of a build, for reports and cairn builds.
type recording struct {
	command string // build, bake, compose build
	files   []string
	args    bool
	logs    string

	recorder *report.Recorder
	keep     int // builds that the store keeps
}

// The bounds of the builds that a store keeps.
const (
	buildsVariable = "CAIRN_BUILDS"
	keptBuilds     = 50
	keptBytes      = 64 << 20
)

// maxReportLog is the output of each step that a report with --report-logs=all has.
const maxReportLog = 1 << 20

func (r *recording) flags(f *pflag.FlagSet) {
	listFlag(f, &r.files, "report", "", "FILE.html|.md|.json", "Write a report of the build to FILE: a page, a summary or data, by the end of its name", func(s string) (string, error) {
		_, err := report.FormatOf(s)
		return s, err
	})
	f.BoolVar(&r.args, "report-args", false, "Include the values of build arguments in the report")
	parsedFlag(f, "report-logs", "", "none|tail|all", "Output of steps in the report: none, the last 200 lines of each, or all (default tail)", func(s string) error {
		if r.logs = s; s != "none" && s != "tail" && s != "all" {
			return errors.New("want none, tail or all")
		}
		return nil
	})
}

// prepare removes reports of an earlier build, and returns an error if the reports cannot
// be written after this one. others are the other files that the build writes.
func (r *recording) prepare(others []string) error {
	seen := map[string]bool{}
	for _, name := range others {
		seen[samePath(name)] = name != "" && name != "-"
	}
	for _, name := range r.files {
		if seen[samePath(name)] {
			return usagef("--report %s: the build writes something else to this file: choose another one", name)
		}
		seen[samePath(name)] = true
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			return usagef("--report %s: it is a directory: choose a file in it", name)
		}
		if err := checkWritable("report", name); err != nil {
			return err
		}
	}
	var errs []error
	for _, name := range r.files {
		errs = append(errs, atomicfile.Remove(name))
	}
	r.keep = keptBuilds
	if text := os.Getenv(buildsVariable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 10000 {
			return usagef("$%s=%q: want the number of builds to keep, from 0 to 10000", buildsVariable, text)
		}
		r.keep = n
	}
	return errors.Join(errs...)
}

// samePath returns a path in a form in which those of a file are equal.
func samePath(name string) string {
	abs, err := filepath.Abs(name)
	if err != nil {
		return name
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		return filepath.Join(dir, filepath.Base(abs))
	}
	return abs
}

// outputFiles returns the files that outputs are written to.
func outputFiles(outputs []option.Output) (names []string) {
	for _, out := range outputs {
		names = append(names, out.Dest)
	}
	return names
}

// begin starts the recording and returns the recorder for the session, nil for none.
func (r *recording) begin(env *environment) *report.Recorder {
	if len(r.files) == 0 && r.keep == 0 {
		return nil
	}
	env.Progress.Record()
	if r.logs == string(report.LogAll) {
		env.Progress.KeepLogs(maxReportLog)
	}
	r.recorder = &report.Recorder{}
	return r.recorder
}

// builtList returns the results of a build of one target.
func builtList(built *builder.Built) []*builder.Built {
	if built == nil {
		return nil
	}
	return []*builder.Built{built}
}

// end writes the reports and stores the build. The build goes on if it cannot be stored.
func (r *recording) end(ctx context.Context, env *environment, built []*builder.Built, failed error) error {
	if r.recorder == nil {
		return nil
	}
	id := report.NewID()
	if r.keep > 0 {
		if err := r.store(env, r.build(ctx, env, id, report.LogTail, built, failed)); err != nil {
			env.Progress.Warn("the build is not kept for cairn builds: %v", err)
		}
	}
	if len(r.files) == 0 {
		return nil
	}
	logs := report.LogMode(r.logs)
	if logs == "" {
		logs = report.LogTail
	}
	b := r.build(ctx, env, id, logs, built, failed)
	b.Clean(r.args)
	return writeReports(env, b, r.files)
}

// store keeps a build, and removes the oldest ones.
func (r *recording) store(env *environment, b *report.Build) error {
	b.Clean(false)
	text, err := report.Encode(b)
	if err != nil {
		return err
	}
	if err := env.Store.PutBuild(b.ID, b.Started, text); err != nil {
		return err
	}
	return env.Store.TrimBuilds(r.keep, keptBytes)
}

// writeReports completes a build with the files of its layers and writes it.
func writeReports(env *environment, b *report.Build, files []string) error {
	b.AddFiles(env.Store.Listing)
	b.Analyze()
	var errs []error
	for _, name := range files {
		format, err := report.FormatOf(name)
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if err := b.Write(&text, format); err != nil {
			return err
		}
		errs = append(errs, writeFile(name, text.Bytes()))
	}
	return errors.Join(errs...)
}

// build returns the build as it ended.
func (r *recording) build(ctx context.Context, env *environment, id string, logs report.LogMode, built []*builder.Built, failed error) *report.Build {
	end := report.End{ID: id, Command: r.command, Cairn: versionText(), Result: report.Succeeded, Log: logs}
	if failed != nil {
		end.Result, end.Failure = report.Failed, failureOf(failed)
		if ctx.Err() != nil {
			end.Result = report.Canceled
			end.Failure = &report.Failure{Message: cause(ctx, failed).Error()}
		}
	}
	b := r.recorder.Finish(env.Progress.Timeline(), end)
	for _, one := range built {
		if one != nil {
			addResult(b, one)
		}
	}
	return b
}

// addResult adds the image and the warnings of a target.
func addResult(b *report.Build, one *builder.Built) {
	for _, w := range one.Warnings {
		out := report.Warning{Rule: w.Rule, Text: w.Detail, Target: one.Name}
		if one.File != nil {
			out.File = one.File.Name
		}
		if len(w.Ranges) > 0 {
			out.Line = w.Ranges[0].First
		}
		b.Warnings = append(b.Warnings, out)
	}
	i := slices.IndexFunc(b.Targets, func(t report.Target) bool { return t.Name == one.Name })
	if i < 0 {
		return // it was not planned
	}
	t := &b.Targets[i]
	t.Ran, t.Cached = one.Steps.Ran+one.Steps.Shared, one.Steps.Cached
	if one.Err != nil {
		t.Error = one.Err.Error()
	}
	if one.Digest() == "" {
		return
	}
	t.Digest, t.Pushed = one.Digest(), one.Pushed
	if len(t.Wanted) > 0 { // else others use the target, and it sets no tags
		for _, ref := range one.Tags {
			t.Tags = append(t.Tags, reference.Familiar(ref))
		}
	}
	images := []layer.Image{one.Image}
	if one.Index != nil {
		images = one.Index.Images
	}
	b.SetImages(i, images)
}

// failureOf describes an error for a report.
func failureOf(err error) *report.Failure {
	f := &report.Failure{Message: err.Error()}
	var step *builder.StepError
	if errors.As(err, &step) {
		f.Name, f.Hint = step.Name, step.Hint
	}
	var exit *worker.ExitError
	if errors.As(err, &exit) {
		f.Message = strings.Replace(f.Message, exit.Error(), exit.Brief(), 1)
	}
	var at *dockerfile.Error
	if errors.As(err, &at) {
		f.File = at.Name
		for _, l := range at.Lines() {
			f.Lines = append(f.Lines, report.Line{Number: l.Number, Text: l.Text, Marked: l.Marked})
		}
	}
	return f
}

// unreadable returns the error about a stored build that cannot be read.
func unreadable(id string, err error) error {
	return fmt.Errorf("the record of build %s cannot be read: %w", id, err)
}
