package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/progress/termtext"
	"github.com/cairn-build/cairn/builder/report"
	"github.com/cairn-build/cairn/layer/store"
)

// buildRow is a build in the output of cairn builds. Its fields are those of --format.
type buildRow struct {
	ID       string    `json:"id"`
	Started  time.Time `json:"started"`
	Name     string    `json:"name"`
	Command  string    `json:"command"`
	Result   string    `json:"result"`
	Duration float64   `json:"duration"` // seconds
	Ran      int       `json:"ran"`
	Cached   int       `json:"cached"`
	Digest   string    `json:"digest,omitempty"`
}

func newBuilds(p *Program) *cobra.Command {
	var format string
	var quiet bool
	c := &cobra.Command{
		Use:   "builds [flags]",
		Short: "List the last builds",
		Long: `Builds lists the last builds, the latest first. The store keeps 50 of them, in at
most 64 MB; $CAIRN_BUILDS is another number, and 0 keeps none. Cairn prune removes them
with other data that was not used for a week.

BUILD of its commands, and of cairn report, is an ID, the beginning of one, or ^N: the
Nth build before the last. ^0 is the last one, and the default.`,
		Example: `  cairn builds
  cairn builds show
  cairn builds logs ^1
  cairn report -o ../build.html`,
		Args: exactArgs(),
	}
	c.RunE = p.action(func(context.Context, []string) error {
		return p.withStore(func(env *environment) error {
			rows, err := listBuilds(env)
			switch {
			case err != nil:
				return err
			case format != "":
				return writeFormat(p.Stdout, format, rows)
			}
			return printBuilds(p.Stdout, rows, quiet)
		})
	})
	c.Flags().StringVar(&format, "format", "", "`FORMAT` of the output: json, or a Go template for each build")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only show IDs")
	c.AddCommand(newBuildsShow(p), newBuildsLogs(p), newBuildsRm(p))
	return c
}

func newBuildsShow(p *Program) *cobra.Command {
	return p.buildCommand("show", "Show a build: its result, findings and steps", `Show prints what a build did: its result or error, its findings, and the steps in
order with their times and the reasons why they ran.`, func(env *environment, b *report.Build) error {
		b.AddFiles(env.Store.Listing)
		b.Analyze()
		return showBuild(p.Stdout, b)
	})
}

func newBuildsLogs(p *Program) *cobra.Command {
	return p.buildCommand("logs", "Print the output of the steps of a build", `Logs prints the output of the steps of a build: the last 200 lines of each, and of a
step that failed up to 64 kB.`, func(_ *environment, b *report.Build) error {
		return printLogs(p.Stdout, b)
	})
}

// buildCommand returns a command for one build.
func (p *Program) buildCommand(name, short, long string, run func(*environment, *report.Build) error) *cobra.Command {
	c := &cobra.Command{
		Use: name + " [BUILD]", Short: short, Long: long,
		Example: "  cairn builds " + name + "\n  cairn builds " + name + " ^1",
		Args:    optionalArg("BUILD"),
	}
	c.RunE = p.action(func(_ context.Context, args []string) error {
		return p.withStore(func(env *environment) error {
			b, err := findBuild(env, args)
			if err != nil {
				return err
			}
			return run(env, b)
		})
	})
	return c
}

func newBuildsRm(p *Program) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "rm BUILD...",
		Short: "Remove records of builds",
		Long: `Rm removes the records of builds. Images and cached results stay: cairn rm and cairn
prune remove those.`,
		Example: `  cairn builds rm ^1
  cairn builds rm --all`,
		Args: func(_ *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usagef("want either builds or --all")
			}
			return nil
		},
	}
	c.RunE = p.action(func(_ context.Context, args []string) error {
		return p.withStore(func(env *environment) error {
			stored, err := env.Store.Builds()
			if err != nil {
				return err
			}
			chosen := stored
			if !all {
				chosen = nil
			}
			for _, arg := range args {
				one, err := selectBuild(stored, arg)
				if err != nil {
					return err
				}
				chosen = append(chosen, one)
			}
			for _, one := range chosen {
				if err := env.Store.DropBuild(one); err != nil {
					return err
				}
				fmt.Fprintln(p.Stdout, one.ID)
			}
			return nil
		})
	})
	c.Flags().BoolVar(&all, "all", false, "Remove all of them")
	return c
}

// findBuild returns the build that an argument names, the last one without an argument.
func findBuild(env *environment, args []string) (*report.Build, error) {
	stored, err := env.Store.Builds()
	if err != nil {
		return nil, err
	}
	one, err := selectBuild(stored, cmp.Or(strings.Join(args, ""), "^0"))
	if err != nil {
		return nil, err
	}
	return readBuild(env, one)
}

func readBuild(env *environment, one store.StoredBuild) (*report.Build, error) {
	text, err := env.Store.Build(one)
	if err != nil {
		return nil, unreadable(one.ID, err)
	}
	b, err := report.Decode(text)
	if err != nil {
		return nil, unreadable(one.ID, err)
	}
	return b, nil
}

// selectBuild finds a build by its ID, the beginning of its ID, or ^N.
func selectBuild(all []store.StoredBuild, name string) (store.StoredBuild, error) {
	if len(all) == 0 {
		return store.StoredBuild{}, errors.New("the store has no builds: it keeps those that cairn build, bake and compose build make, unless $" + buildsVariable + " is 0")
	}
	if text, ok := strings.CutPrefix(name, "^"); ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return store.StoredBuild{}, usagef("build %q: want an ID or ^N, such as ^1 for the build before the last", name)
		}
		if n >= len(all) {
			return store.StoredBuild{}, fmt.Errorf("build %s: the store has only %d builds: list them with cairn builds", name, len(all))
		}
		return all[n], nil
	}
	var found []store.StoredBuild
	for _, b := range all {
		if strings.HasPrefix(b.ID, name) {
			found = append(found, b)
		}
	}
	switch len(found) {
	case 0:
		return store.StoredBuild{}, fmt.Errorf("build %q: the store has none with this ID: list them with cairn builds", name)
	case 1:
		return found[0], nil
	}
	return store.StoredBuild{}, fmt.Errorf("build %q: %d builds have an ID that begins so: add letters", name, len(found))
}

// listBuilds returns the builds of the store. It skips those that are damaged, of another
// version, or removed meanwhile.
func listBuilds(env *environment) ([]buildRow, error) {
	stored, err := env.Store.Builds()
	if err != nil {
		return nil, err
	}
	rows := []buildRow{}
	for _, one := range stored {
		b, err := readBuild(env, one)
		if err != nil {
			continue
		}
		row := buildRow{ID: b.ID, Started: b.Started, Name: report.Title(b), Command: b.Command, Result: string(b.Result), Duration: b.Duration}
		row.Ran, row.Cached = b.CountSteps()
		if len(b.Targets) == 1 {
			row.Digest = string(b.Targets[0].Digest)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func printBuilds(w io.Writer, rows []buildRow, quiet bool) error {
	if quiet {
		for _, r := range rows {
			fmt.Fprintln(w, r.ID)
		}
		return nil
	}
	tab := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(tab, "BUILD\tSTARTED\tNAME\tRESULT\tTIME\tCACHED\tDIGEST")
	for _, r := range rows {
		share := "-"
		if n := r.Ran + r.Cached; n > 0 {
			share = fmt.Sprintf("%d%%", 100*r.Cached/n)
		}
		digest := "-"
		if _, hex, ok := strings.Cut(r.Digest, ":"); ok {
			digest = hex[:min(len(hex), 12)]
		}
		fmt.Fprintf(tab, "%s\t%s ago\t%s\t%s\t%.1fs\t%s\t%s\n", r.ID, units.HumanDuration(time.Since(r.Started)), termtext.Fit(termtext.Safe(r.Name), 40), r.Result, r.Duration, share, digest)
	}
	return tab.Flush()
}

// showBuild prints a build.
func showBuild(w io.Writer, b *report.Build) error {
	say := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	say("%s: %s in %.1fs, %s (build %s)", termtext.Safe(report.Title(b)), b.Result, b.Duration, b.Started.Local().Format(time.DateTime), b.ID)
	for _, t := range b.Targets {
		say("  %s in %s", termtext.Safe(t.Dockerfile), termtext.Safe(cmp.Or(t.Context, "no context")))
		names, pushed := t.Names()
		for _, name := range names {
			mark := ""
			if pushed[name] {
				mark = " (pushed)"
			}
			say("  %s %s%s", termtext.Safe(name), t.Digest, mark)
		}
		for _, name := range t.Unset() {
			say("  %s (not set)", termtext.Safe(name))
		}
	}
	if f := b.Failure; f != nil {
		say("\nerror: %s", termtext.Safe(f.Message))
		for _, l := range f.Lines {
			mark := "   "
			if l.Marked {
				mark = ">>>"
			}
			say(" %3d | %s %s", l.Number, mark, l.Text)
		}
	}
	for i, f := range b.Findings {
		if i == 0 {
			say("\nWhat to do:")
		}
		text := f.Text
		if f.Advice != "" {
			text += ": " + f.Advice
		}
		say("%2d. %s", i+1, termtext.Safe(text))
	}
	say("")
	tab := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tab, "START\tTIME\tSTATE\tSTEP\tREASON")
	for _, s := range b.Steps {
		why := ""
		if s.Reason != nil {
			why = cmp.Or(s.Reason.Text, s.Reason.Cause)
		}
		fmt.Fprintf(tab, "%.1fs\t%.1fs\t%s\t%s\t%s\n", s.Start, s.Duration(), s.State, termtext.Fit(termtext.Safe(s.Name), 70), termtext.Safe(why))
	}
	return tab.Flush()
}

// printLogs prints the output of all steps.
func printLogs(w io.Writer, b *report.Build) error {
	for _, s := range b.Steps {
		if len(s.Log) == 0 && s.State != report.StateFailed {
			continue
		}
		fmt.Fprintf(w, "#%d %s\n", s.ID, termtext.Safe(s.Name))
		if s.LogCut {
			fmt.Fprintf(w, "#%d ...\n", s.ID)
		}
		for _, line := range s.Log {
			fmt.Fprintf(w, "#%d %s\n", s.ID, line)
		}
		if s.Error != "" {
			fmt.Fprintf(w, "#%d ERROR: %s\n", s.ID, termtext.Safe(s.Error))
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}
