package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/source"
)

// call is what to do with the Dockerfile instead of building it, in buildx's
// form: NAME[,format=json][,ignorestatus=true].
type call struct {
	name         string // check, outline or targets; "": build
	json         bool
	ignoreStatus bool // warnings are no failure
}

func (k *call) flags(c *cobra.Command) {
	f := c.Flags()
	f.Var(&parsed{kind: "build|check|outline|targets[,format=json]", text: "build", set: k.set}, "call",
		"tell of the Dockerfile instead of building it: what the linter warns of, what a target can be given, which targets there are")
	check := f.VarPF(&parsed{kind: "bool", set: func(s string) error {
		on, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("want true or false")
		}
		if on {
			k.name = "check"
		}
		return nil
	}}, "check", "", "short for --call=check")
	check.NoOptDefVal = "true"
	_ = c.RegisterFlagCompletionFunc("call", cobra.FixedCompletions([]string{"build", "check", "outline", "targets"}, cobra.ShellCompDirectiveNoFileComp))
}

func (k *call) set(text string) error {
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return err
	}
	*k = call{}
	named := false
	for _, field := range fields {
		name, value, ok := strings.Cut(field, "=")
		switch {
		case !ok && named:
			return fmt.Errorf("both %s and %s: want one of build, check, outline, targets", fields[0], field)
		case !ok:
			named = true
			err = k.setName(field)
		case name == "format":
			k.json = value == "json"
			if !k.json && value != "text" {
				err = fmt.Errorf("format %q: want json or text", value)
			}
		case name == "ignorestatus":
			k.ignoreStatus, err = boolean(name, value)
		default:
			err = fmt.Errorf("attribute %q is not known: there are format and ignorestatus", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (k *call) setName(name string) error {
	switch name {
	case "build":
	case "lint", "check":
		k.name = "check"
	case "outline", "targets":
		k.name = name
	default:
		return dockerfile.DidYouMean(fmt.Errorf("want one of build, check, outline, targets"), name, []string{"build", "check", "outline", "targets"})
	}
	return nil
}

// runCall answers on standard output.
func (a *app) runCall(ctx context.Context, b *buildFlags) error {
	return a.online(b.registries, progress.Mode(b.mode), func(with *builder.Builder) error {
		print, err := a.answerOf(ctx, with, b)
		if err != nil {
			return cause(ctx, err)
		}
		with.Progress.Close() // or its lines come between
		return print()
	})
}

// answerOf gets the answer, and gives a function that prints it.
func (a *app) answerOf(ctx context.Context, with *builder.Builder, b *buildFlags) (func() error, error) {
	switch b.call.name {
	case "check":
		got, err := with.Check(ctx, b.Options)
		return func() error { return a.checked(b.call, got) }, err
	case "outline":
		got, file, err := with.Outline(ctx, b.Options)
		return func() error {
			return answer(a.stdout, b.call, outlineOf(got, file), func(w io.Writer) { printOutline(w, got) })
		}, err
	}
	file, err := with.Targets(ctx, b.Options)
	return func() error {
		return answer(a.stdout, b.call, targetsOf(file), func(w io.Writer) { printTargets(w, file) })
	}, err
}

// answer prints JSON or text.
func answer(w io.Writer, k call, value any, text func(io.Writer)) error {
	if !k.json {
		text(w)
		return nil
	}
	raw, err := json.MarshalIndent(value, "", "  ")
	if err == nil {
		_, err = fmt.Fprintln(w, string(raw))
	}
	return err
}

// checked prints what the linter found. It fails if that is anything.
func (a *app) checked(k call, c *builder.Checked) error {
	if err := answer(a.stdout, k, lintOf(c), func(w io.Writer) { printWarnings(w, c) }); err != nil {
		return err
	}
	if c.Err == nil && len(c.Warnings) > 0 && !k.ignoreStatus {
		return &exitStatus{exitFailed}
	}
	var lint *dockerfile.LintError
	if errors.As(c.Err, &lint) {
		return errors.New(c.Err.Error()) // its warnings have been shown
	}
	return c.Err
}

func printWarnings(w io.Writer, c *builder.Checked) {
	switch n := len(c.Warnings); {
	case n == 1:
		fmt.Fprintln(w, "Check complete, 1 warning has been found!")
	case n > 1:
		fmt.Fprintf(w, "Check complete, %d warnings have been found!\n", n)
	case c.Err == nil:
		fmt.Fprintln(w, "Check complete, no warnings found.")
	}
	for _, warning := range inOrder(c.Warnings) {
		fmt.Fprintf(w, "\nWARNING: %s", warning.Rule)
		if warning.URL != "" {
			fmt.Fprintf(w, " - %s", warning.URL)
		}
		fmt.Fprintf(w, "\n%s\n%s", warning.Detail, source.Redact(warning.Excerpt(c.Name, c.Text)))
	}
}

// inOrder sorts warnings by line; those about no line come first.
func inOrder(list []dockerfile.Warning) []dockerfile.Warning {
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
		_ = tab.Flush() // nobody to tell
		fmt.Fprintln(w)
	}
	if len(o.Args) > 0 {
		tab := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
		fmt.Fprint(tab, "BUILD ARG\tVALUE\tDESCRIPTION\n")
		for _, a := range o.Args {
			fmt.Fprintf(tab, "%s\t%s\t%s\n", a.Name, a.Value, a.Doc)
		}
		_ = tab.Flush() // nobody to tell
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
	_ = tab.Flush() // nobody to tell
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
	_ = tab.Flush() // nobody to tell
}
