package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/source"
)

// callFlags adds --call and --check.
func callFlags(c *cobra.Command, to *option.Call) {
	f := c.Flags()
	f.Var(&parsedValue{kind: "METHOD[,format=json]", text: "build", set: func(s string) (err error) {
		*to, err = option.ParseCall(s)
		return err
	}}, "call", "Set method for evaluating build: build, check (lint warnings), outline (parameters of the target) or targets")
	check := f.VarPF(&parsedValue{kind: "bool", set: func(s string) error {
		on, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("want true or false")
		}
		if on {
			to.Method = "check"
		}
		return nil
	}}, "check", "", "Shorthand for --call=check")
	check.NoOptDefVal = "true"
	completeFlag(c, "call", option.Calls()...)
}

// answer answers --call on standard output.
func (b *buildCommand) answer(ctx context.Context) error {
	return b.withRegistries(b.registries, progress.Mode(b.progress), func(env *environment) error {
		write, err := b.ask(ctx, env)
		if err != nil {
			return cause(ctx, err)
		}
		env.Progress.Close() // or its lines would mix with the answer
		return write()
	})
}

// ask evaluates the Dockerfile and returns a function that writes the answer.
func (b *buildCommand) ask(ctx context.Context, env *environment) (func() error, error) {
	session, err := env.session(b.options.SessionOptions)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	switch b.call.Method {
	case "check":
		checked, err := session.Lint(ctx, b.options.Target)
		return func() error { return writeChecked(b.Stdout, b.call, checked) }, err
	case "outline":
		outline, file, err := session.Outline(ctx, b.options.Target)
		return func() error {
			return writeAnswer(b.Stdout, b.call, outlineOf(outline, file), func(w io.Writer) { printOutline(w, outline) })
		}, err
	}
	file, err := session.Dockerfile(ctx, b.options.Target)
	return func() error {
		return writeAnswer(b.Stdout, b.call, targetsOf(file), func(w io.Writer) { printTargets(w, file) })
	}, err
}

// writeAnswer writes the value as JSON, or calls text.
func writeAnswer(w io.Writer, call option.Call, value any, text func(io.Writer)) error {
	if !call.JSON {
		var b bytes.Buffer
		text(&b)
		_, err := w.Write(b.Bytes())
		return err
	}
	raw, err := json.MarshalIndent(value, "", "  ")
	if err == nil {
		_, err = fmt.Fprintln(w, string(raw))
	}
	return err
}

// writeChecked writes the warnings of the linter. It returns an error if there are
// any.
func writeChecked(w io.Writer, call option.Call, c *builder.LintResult) error {
	if err := writeAnswer(w, call, lintOf(c), func(w io.Writer) { printChecked(w, c) }); err != nil {
		return err
	}
	if c.Err == nil && len(c.Warnings) > 0 && !call.IgnoreStatus {
		return &StatusError{ExitFailed}
	}
	var lint *dockerfile.LintError
	if errors.As(c.Err, &lint) {
		return errors.New(c.Err.Error()) // without its warnings, which have been printed
	}
	return c.Err
}

func printChecked(w io.Writer, c *builder.LintResult) {
	switch n := len(c.Warnings); {
	case n == 1:
		fmt.Fprintln(w, "Check complete, 1 warning has been found!")
	case n > 1:
		fmt.Fprintf(w, "Check complete, %d warnings have been found!\n", n)
	case c.Err == nil:
		fmt.Fprintln(w, "Check complete, no warnings found.")
	}
	for _, warning := range sortedByLine(c.Warnings) {
		fmt.Fprintf(w, "\nWARNING: %s", warning.Rule)
		if warning.URL != "" {
			fmt.Fprintf(w, " - %s", warning.URL)
		}
		fmt.Fprintf(w, "\n%s\n%s", warning.Detail, source.Redact(warning.Excerpt(c.Name, c.Text)))
	}
}

// sortedByLine sorts warnings by line. Warnings without a line come first.
func sortedByLine(list []dockerfile.Warning) []dockerfile.Warning {
	line := func(w dockerfile.Warning) int {
		if len(w.Ranges) == 0 {
			return 0
		}
		return w.Ranges[0].First
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b dockerfile.Warning) int { return line(a) - line(b) })
	return list
}

func printOutline(w io.Writer, o *plan.Outline) {
	if o.Name != "" || o.Doc != "" {
		tab := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
		name := o.Name
		if name == "" {
			name = "(default)"
		}
		fmt.Fprintf(tab, "TARGET:\t%s\n", name)
		if o.Doc != "" {
			fmt.Fprintf(tab, "DESCRIPTION:\t%s\n", o.Doc)
		}
		_ = tab.Flush()
		fmt.Fprintln(w)
	}
	if len(o.Args) > 0 {
		tab := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
		fmt.Fprint(tab, "BUILD ARG\tVALUE\tDESCRIPTION\n")
		for _, a := range o.Args {
			fmt.Fprintf(tab, "%s\t%s\t%s\n", a.Name, a.Value, a.Doc)
		}
		_ = tab.Flush()
		fmt.Fprintln(w)
	}
	printMounts(w, "SECRET", o.Secrets)
	printMounts(w, "SSH", o.SSH)
}

func printMounts(w io.Writer, title string, list []plan.OutlineMount) {
	if len(list) == 0 {
		return
	}
	tab := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(tab, "%s\tREQUIRED\n", title)
	for _, m := range list {
		required := ""
		if m.Required {
			required = "true"
		}
		fmt.Fprintf(tab, "%s\t%s\n", m.ID, required)
	}
	_ = tab.Flush()
	fmt.Fprintln(w)
}

func printTargets(w io.Writer, f *dockerfile.File) {
	tab := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprint(tab, "TARGET\tDESCRIPTION\n")
	for i, s := range f.Stages {
		name := s.As
		switch last := i == len(f.Stages)-1; {
		case last && name == "":
			name = "(default)"
		case last:
			name += " (default)"
		}
		fmt.Fprintf(tab, "%s\t%s\n", name, s.Doc)
	}
	_ = tab.Flush()
}
