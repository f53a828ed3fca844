package command

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/layer"
)

// parsedValue is the value of a flag that a function parses.
type parsedValue struct {
	kind string
	set  func(string) error
	text string
}

func (v *parsedValue) String() string { return v.text }
func (v *parsedValue) Type() string   { return v.kind }

func (v *parsedValue) Set(s string) error {
	if err := v.set(s); err != nil {
		return err
	}
	v.text = s
	return nil
}

// repeatedValue is the value of a flag that may be repeated.
type repeatedValue struct{ parsedValue }

// String returns "", since the help of a repeated flag shows no default.
func (v *repeatedValue) String() string { return "" }

// parsedFlag adds a flag whose value set parses.
func parsedFlag(f *pflag.FlagSet, name, short, kind, usage string, set func(string) error) {
	f.VarP(&parsedValue{kind: kind, set: set}, name, short, usage)
}

// repeatedFlag adds a flag that may be repeated; set is called with each value.
func repeatedFlag(f *pflag.FlagSet, name, short, kind, usage string, set func(string) error) {
	f.VarP(&repeatedValue{parsedValue{kind: kind, set: set}}, name, short, usage)
}

// listFlag adds a flag that may be repeated; to collects the values.
func listFlag[T any](f *pflag.FlagSet, to *[]T, name, short, kind, usage string, parse func(string) (T, error)) {
	repeatedFlag(f, name, short, kind, usage, func(s string) error {
		v, err := parse(s)
		if err == nil {
			*to = append(*to, v)
		}
		return err
	})
}

// mapFlag adds a flag that may be repeated, with NAME=VALUE as its value.
func mapFlag(f *pflag.FlagSet, to map[string]string, name, usage string, parse func(string) (name, value string, err error)) {
	repeatedFlag(f, name, "", "NAME=VALUE", usage, func(s string) error {
		name, value, err := parse(s)
		if err == nil {
			to[name] = value
		}
		return err
	})
}

// enumFlag adds a flag with a fixed set of values. The first one is the default.
func enumFlag(c *cobra.Command, to *string, name, usage string, values ...string) {
	*to = values[0]
	c.Flags().Var(&parsedValue{kind: strings.Join(values, "|"), text: values[0], set: func(s string) error {
		if !slices.Contains(values, s) {
			return fmt.Errorf("want one of %s", strings.Join(values, ", "))
		}
		*to = s
		return nil
	}}, name, usage)
	completeFlag(c, name, values...)
}

// completeFlag completes the value of a flag with words.
func completeFlag(c *cobra.Command, name string, words ...string) {
	_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// platformFlag adds a flag with one platform.
func platformFlag(f *pflag.FlagSet, to *layer.Platform, usage string) {
	parsedFlag(f, "platform", "", "OS/ARCH[/VARIANT]", usage, func(s string) (err error) {
		*to, err = option.ParsePlatform(s)
		return err
	})
}

// platformsFlag adds a flag for platforms separated by commas, which may be repeated.
func platformsFlag(f *pflag.FlagSet, to *[]layer.Platform, usage string) {
	repeatedFlag(f, "platform", "", "OS/ARCH[/VARIANT]", usage, func(s string) (err error) {
		*to, err = option.AddPlatforms(*to, s)
		return err
	})
}

// jobsFlag adds --jobs.
func jobsFlag(f *pflag.FlagSet, to *int) {
	parsedFlag(f, "jobs", "", "N", "Maximum number of steps that run at the same time (default: the number of processors)", func(s string) (err error) {
		if *to, err = strconv.Atoi(s); err != nil || *to < 1 {
			return errors.New("want a number of at least 1")
		}
		return nil
	})
}

// argFlag adds --build-arg. An argument without a value, whose variable is not set
// in the environment, stays unset.
func argFlag(f *pflag.FlagSet, to map[string]string) {
	repeatedFlag(f, "build-arg", "", "NAME[=VALUE]", "Set build-time variables; without a VALUE, from the environment", func(s string) error {
		name, value, ok, err := option.ParseVariable(s, os.LookupEnv)
		if err == nil && ok {
			to[name] = value
		}
		return err
	})
}
