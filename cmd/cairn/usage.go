package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

// usageError is an error of the command line that only the command could see.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// flagError adds to an error of a flag what was probably meant.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "":
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		err = fmt.Errorf("unknown flag: --%s", unknown.GetSpecifiedName())
		if guess := dockerfile.Suggest(unknown.GetSpecifiedName(), names); guess != "" {
			err = fmt.Errorf("%w (did you mean --%s?)", err, guess)
		}
	case errors.As(err, &unknown):
		err = fmt.Errorf("unknown flag: -%s", unknown.GetSpecifiedName())
	case errors.As(err, &missing):
		err = fmt.Errorf("--%s needs a value: %s", missing.GetFlag().Name, flagUsage(missing.GetFlag()))
	case errors.As(err, &invalid):
		err = fmt.Errorf("--%s %q: %w", invalid.GetFlag().Name, invalid.GetValue(), plain(invalid.Unwrap()))
	}
	return &usageError{err}
}

func flagUsage(f *pflag.Flag) string {
	_, usage := pflag.UnquoteUsage(f)
	return usage
}

// plain leaves out which function found that a number is none.
func plain(err error) error {
	if text, ok := strings.CutPrefix(err.Error(), "strconv."); ok {
		_, text, _ = strings.Cut(text, "\": ")
		return errors.New("want a number: " + text)
	}
	return err
}

// takes wants exactly the named arguments.
func takes(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef("%s is missing: want %s", names[len(args)], strings.Join(names, " "))
		case len(args) > len(names) && len(names) == 0:
			return usagef("unexpected argument %q: there are none", args[0])
		case len(args) > len(names):
			return usagef("unexpected argument %q: want only %s", args[len(names)], strings.Join(names, " "))
		}
		return nil
	}
}

// takesSome wants one or more of the named arguments.
func takesSome(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s is missing", name)
		}
		return nil
	}
}

// takesUpTo wants at most one argument.
func takesUpTo(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usagef("unexpected argument %q: want only %s", args[1], name)
		}
		return nil
	}
}
