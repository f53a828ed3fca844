package command

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/report"
)

func newReport(p *Program) *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use:   "report [flags] [BUILD]",
		Short: "Write a report of a build: a page, a summary or data",
		Long: `Report writes a report of one of the last builds: a self-contained page for a browser
(.html), a summary for a job page or a comment (.md), or all data (.json). BUILD is an
ID, the beginning of one, or ^N: the Nth build before the last; the default is the last
one. Cairn builds lists them.

The report has no values of build arguments, no environment and no credentials. The
output of steps is as they printed it. What the store no longer has is missing: the files
of layers that were pruned.`,
		Example: `  cairn report -o ../build.html
  cairn report ^1 -o ../summary.md -o ../data.json`,
		Args: optionalArg("BUILD"),
	}
	c.RunE = p.action(func(_ context.Context, args []string) error {
		if len(files) == 0 {
			return usagef("where to write the report is missing: add -o FILE.html, .md or .json")
		}
		for _, name := range files {
			if info, err := os.Stat(name); err == nil && info.IsDir() {
				return usagef("--output %s: it is a directory: choose a file in it", name)
			}
			if err := checkWritable("output", name); err != nil {
				return err
			}
		}
		return p.withStore(func(env *environment) error {
			b, err := findBuild(env, args)
			if err != nil {
				return err
			}
			return writeReports(env, b, files)
		})
	})
	listFlag(c.Flags(), &files, "output", "o", "FILE.html|.md|.json", "Write the report to FILE, in the format that the end of its name tells", func(s string) (string, error) {
		_, err := report.FormatOf(s)
		return s, err
	})
	return c
}
